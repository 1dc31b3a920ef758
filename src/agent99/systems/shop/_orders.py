"""The orders of the shop, in SQL: taken once, moved by the state table, never forgotten.

Any number of processes may share one database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from agent99.clock import Clock
from agent99.errors import Failure, IdempotencyConflictError
from agent99.ids import Ids
from agent99.store import Store, Transaction
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._events import OrderMoved, order_topic
from agent99.systems.shop._model import (
    ORDER_NOT_FOUND,
    Address,
    Backlog,
    HistoryEntry,
    OrderLine,
    OrderView,
    PlaceOrder,
)
from agent99.systems.shop._money import MONEY_PENCE_MAX, to_pounds
from agent99.systems.shop._order import Order, Refusal, Step
from agent99.systems.shop._states import INITIAL, OrderEvent, OrderState, move

ORDER_TOO_LARGE: Final = "ORDER_TOO_LARGE"
_RECEIVE = "receive"  # the first entry of every history; no event of the table
_PRICES_MAX = 50_000  # rows of the price list in one statement

_TAKE = (
    "INSERT INTO orders (order_id, customer_id, state, total_pence, address, fingerprint, steps,"
    " received_us, updated_us) VALUES (:order_id, :customer_id, :state, :total_pence, :address,"
    " :fingerprint, 0, :now_us, :now_us) ON CONFLICT DO NOTHING"
)
_TAKE_LINE = (
    "INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price_pence)"
    " VALUES (:order_id, :line, :product_id, :quantity, :unit_price_pence)"
)
_NOTE = (
    "INSERT INTO order_history (order_id, step, event, state, reason, at_us)"
    " VALUES (:order_id, :step, :event, :state, :reason, :now_us)"
)
_MOVE = (
    "UPDATE orders SET state = :state, reason = :reason, failure = :failure, steps = :step,"
    " updated_us = :now_us WHERE order_id = :order_id"
)
_SET_STEPS = "UPDATE orders SET steps = :step, updated_us = :now_us WHERE order_id = :order_id"
_LEFT = (
    "SELECT count(*) FROM orders WHERE state = 'confirmed' AND NOT EXISTS (SELECT 1 FROM"
    " order_history AS h WHERE h.order_id = orders.order_id AND h.event = :event)"
)
_FIND = "SELECT * FROM orders WHERE order_id = :order_id"
_HAPPENED = "SELECT 1 FROM order_history WHERE order_id = :order_id AND event = :event"
_LINES = "SELECT * FROM order_lines WHERE order_id = :order_id ORDER BY line"
_HISTORY = "SELECT * FROM order_history WHERE order_id = :order_id ORDER BY step"
_ADD_PRICE = (
    "INSERT INTO prices (product_id, price_pence) VALUES (:product_id, :price_pence)"
    " ON CONFLICT DO NOTHING"
)
_PRICES = (
    "SELECT product_id, price_pence FROM prices"
    " WHERE product_id > :product_id OR (product_id = :product_id AND price_pence > :price_pence)"
    " ORDER BY product_id, price_pence LIMIT :rows"
)


class Orders:
    """Every order that was taken, its lines, and every step of its life; and the price list.

    Every step of the state table leaves as an event, by the outbox.

    Invariant: an order's state is the last of its history, and every step of it is in the table.

    Args:
        store: Where they are.
        clock: The source of time.
        ids: The source of randomness.
        traceparent: Returns the trace that an event belongs to, or nothing.
    """

    def __init__(
        self, store: Store, clock: Clock, ids: Ids, traceparent: Callable[[], str] = str
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._traceparent = traceparent

    def __repr__(self) -> str:
        return f"Orders({self._store!r})"

    async def take(self, request: PlaceOrder, order_id: UUID) -> Order:
        """Store an order as received, once, and return it as it stands by now.

        Args:
            request: The order.
            order_id: The same id is the same order, across restarts.

        Raises:
            Failure: `ORDER_TOO_LARGE`: the total is beyond the bound of money; not stored.
            IdempotencyConflictError: the id came before with another order.
            StoreError: and its kinds.
        """
        if request.total_pence > MONEY_PENCE_MAX:
            raise Failure(
                f"the order's total is above {to_pounds(MONEY_PENCE_MAX)}", code=ORDER_TOO_LARGE
            )
        work = partial(_take, order_id=order_id, request=request, at=self._at())
        return await self._store.transaction(work)

    async def move(
        self, order_id: UUID, event: OrderEvent, refusal: Refusal | None = None
    ) -> Order:
        """Let something happen to an order, and return it as it stands then.

        An event that happened to this order before changes nothing: of two instances that work on
        the same order the later one finds it done.

        Args:
            order_id: Which order.
            event: What happens.
            refusal: Why, where it ends rejected; kept for whoever asks again.

        Raises:
            IllegalTransitionError: the order's state does not take the event; nothing changed.
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        work = partial(_move, order_id=order_id, event=event, refusal=refusal, at=self._at())
        return await self._store.transaction(work)

    async def note(self, order_id: UUID, step: Step) -> None:
        """Add to an order's history what followed it, once; its state stays as it is.

        Raises:
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        work = partial(_note, order_id=order_id, step=step, now_us=self._clock.wall_us())
        await self._store.transaction(work)

    async def backlog(self) -> Backlog:
        """Return what follows the orders and is not done yet.

        Raises:
            StoreError: and its kinds.
        """
        to_ship, to_tell = await self._store.read(_unfollowed)
        return Backlog(to_ship, to_tell, (await self._store.outbox.counts()).waiting)

    async def placed(self, order_id: UUID) -> tuple[Order, PlaceOrder]:
        """Return an order as it stands, and as it was asked for.

        Raises:
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(_placed, order_id=order_id))

    async def find(self, order_id: UUID) -> Order:
        """Return an order as it stands.

        Raises:
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(_find, order_id=order_id))

    async def view(self, order_id: UUID) -> OrderView:
        """Return an order with its lines and its history.

        Raises:
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(_view, order_id=order_id))

    async def add_prices(self, prices: PriceList) -> None:
        """Add prices to the price list; those that are there already stay.

        Raises:
            StoreError: and its kinds.
        """
        rows = [{"product_id": str(key), "price_pence": pence} for key, pence in prices]
        if rows:
            await self._store.transaction(lambda tx: tx.execute(_ADD_PRICE, rows).changed)

    async def price_list(self) -> PriceList:
        """Return the price list, to be kept in memory.

        Raises:
            StoreError: and its kinds.
        """
        return await self._store.read(_price_list)

    def _at(self) -> _Moment:
        return _Moment(self._clock.wall_us(), self._traceparent())


class _Moment(NamedTuple):
    """When something happens, and what it is part of."""

    now_us: int
    traceparent: str


def fingerprint(request: PlaceOrder) -> str:
    """Return a hash of what an order asks for; 1.1 and "1.10" are the same price."""
    lines = [(line.product_id, line.quantity, line.unit_price_pence) for line in request.items]
    said = (request.customer_id, lines, request.shipping_address)
    return sha256(msgspec.json.encode(said)).hexdigest()


def _take(tx: Transaction, *, order_id: UUID, request: PlaceOrder, at: _Moment) -> Order:
    name, said = str(order_id), fingerprint(request)
    row = {
        "order_id": name,
        "customer_id": str(request.customer_id),
        "state": INITIAL.value,
        "total_pence": request.total_pence,
        "address": msgspec.json.encode(request.shipping_address).decode(),
        "fingerprint": said,
        "now_us": at.now_us,
    }
    if not tx.execute(_TAKE, row).changed:
        found = tx.execute(_FIND, {"order_id": name}).one()
        if found.fingerprint != said:
            raise IdempotencyConflictError(name)
        return _order(found)
    lines = [
        {
            "order_id": name,
            "line": index,
            "product_id": str(line.product_id),
            "quantity": line.quantity,
            "unit_price_pence": line.unit_price_pence,
        }
        for index, line in enumerate(request.items)
    ]
    tx.execute(_TAKE_LINE, lines)
    order = Order(order_id, request.customer_id, INITIAL, request.total_pence, at.now_us)
    _tell(tx, order, {**row, "step": 0, "event": _RECEIVE, "reason": None}, at)
    return order


def _move(
    tx: Transaction, *, order_id: UUID, event: OrderEvent, refusal: Refusal | None, at: _Moment
) -> Order:
    name = str(order_id)
    row: Any = tx.lock("orders", (name,), key="order_id").get(name)
    if row is None:
        raise _no_order(order_id)
    before = _order(row)
    try:
        state = move(before.state, event)
    except IllegalTransitionError:
        if tx.execute(_HAPPENED, {"order_id": name, "event": event.value}).first():
            return before
        raise
    values = {
        "order_id": name,
        "event": event.value,
        "state": state.value,
        "reason": None if refusal is None else refusal.code,
        "failure": None if refusal is None else msgspec.json.encode(refusal).decode(),
        "step": row.steps + 1,
        "now_us": at.now_us,
    }
    tx.execute(_MOVE, values)
    _tell(tx, before, values, at)
    return msgspec.structs.replace(before, state=state, refusal=refusal)


def _tell(tx: Transaction, order: Order, entry: Mapping[str, Any], at: _Moment) -> None:
    """Write a step into an order's history, and into the outbox."""
    tx.execute(_NOTE, entry)
    moved = OrderMoved(
        order_id=order.order_id,
        customer_id=order.customer_id,
        step=entry["step"],
        event=entry["event"],
        state=entry["state"],
        total_pence=order.total_pence,
        at_us=at.now_us,
        reason=entry["reason"],
    )
    topic = order_topic(moved.state)
    tx.append(topic, moved, key=str(order.order_id), traceparent=at.traceparent)


def _note(tx: Transaction, *, order_id: UUID, step: Step, now_us: int) -> None:
    name = str(order_id)
    row: Any = tx.lock("orders", (name,), key="order_id").get(name)
    if row is None:
        raise _no_order(order_id)
    if tx.execute(_HAPPENED, {"order_id": name, "event": step.value}).first():
        return
    entry = {
        "order_id": name,
        "event": step.value,
        "state": row.state,
        "reason": None,
        "step": row.steps + 1,
        "now_us": now_us,
    }
    tx.execute(_NOTE, entry)
    tx.execute(_SET_STEPS, entry)


def _unfollowed(tx: Transaction) -> tuple[int, int]:
    """Return how many confirmed orders are not shipped, and how many are not told of."""
    to_ship, to_tell = (
        tx.execute(_LEFT, {"event": step.value}).scalar() or 0 for step in (Step.SHIP, Step.NOTIFY)
    )
    return to_ship, to_tell


def _find(tx: Transaction, *, order_id: UUID) -> Order:
    row = tx.execute(_FIND, {"order_id": str(order_id)}).first()
    if row is None:
        raise _no_order(order_id)
    return _order(row)


def _placed(tx: Transaction, *, order_id: UUID) -> tuple[Order, PlaceOrder]:
    name = {"order_id": str(order_id)}
    row = tx.execute(_FIND, name).first()
    if row is None:
        raise _no_order(order_id)
    address = msgspec.json.decode(row.address, type=Address)
    return _order(row), PlaceOrder(UUID(row.customer_id), _items(tx, name), address)


def _items(tx: Transaction, name: dict[str, str]) -> tuple[OrderLine, ...]:
    return tuple(
        OrderLine(UUID(row.product_id), row.quantity, to_pounds(row.unit_price_pence))
        for row in tx.execute(_LINES, name)
    )


def _view(tx: Transaction, *, order_id: UUID) -> OrderView:
    order = _find(tx, order_id=order_id)
    name = {"order_id": str(order_id)}
    return OrderView(
        order_id=order_id,
        customer_id=order.customer_id,
        state=order.state.value,
        total_pence=order.total_pence,
        items=_items(tx, name),
        history=tuple(
            HistoryEntry(row.state, row.event, row.at_us, row.reason)
            for row in tx.execute(_HISTORY, name)
        ),
        reason=None if order.refusal is None else order.refusal.code,
    )


def _order(row: Any) -> Order:
    failure: str | None = row.failure
    return Order(
        order_id=UUID(row.order_id),
        customer_id=UUID(row.customer_id),
        state=OrderState(row.state),
        total_pence=row.total_pence,
        received_us=row.received_us,
        refusal=None if failure is None else msgspec.json.decode(failure, type=Refusal),
    )


def _price_list(tx: Transaction) -> PriceList:
    pairs: list[tuple[UUID, int]] = []
    after: dict[str, Any] = {"product_id": "", "price_pence": 0, "rows": _PRICES_MAX}
    while True:
        rows = tx.execute(_PRICES, after).all()
        pairs += [(UUID(row.product_id), row.price_pence) for row in rows]
        if len(rows) < _PRICES_MAX:
            return PriceList.of(pairs)
        after |= {"product_id": rows[-1].product_id, "price_pence": rows[-1].price_pence}


def _no_order(order_id: UUID) -> Failure:
    return Failure(
        f"there is no order {order_id}",
        code=ORDER_NOT_FOUND,
        details={"order_id": str(order_id)},
    )
