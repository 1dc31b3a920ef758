"""The rows of an order: each function is the inside of one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import UNSET

from agent99.errors import Failure, IdempotencyConflictError
from agent99.store import Transaction
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._events import CustomerTold, OrderMoved, OrderShipped, order_topic
from agent99.systems.shop._model import (
    ORDER_NOT_FOUND,
    Address,
    HistoryEntry,
    MessageType,
    Notify,
    OrderLine,
    OrderView,
    PlaceOrder,
    StockLine,
)
from agent99.systems.shop._money import to_pounds
from agent99.systems.shop._order import Order, Refusal, Step
from agent99.systems.shop._order import take_apart as apart
from agent99.systems.shop._owed import count_owed, in_words, owe, owed, settle
from agent99.systems.shop._states import INITIAL, OrderEvent, OrderState, state_after

_RECEIVE = "receive"  # the first entry of every history; no event of the table
_PRICES_MAX = 50_000  # rows of the price list in one statement

_TAKE = (
    "INSERT INTO orders (order_id, customer_id, state, total_pence, address, fingerprint, steps,"
    " received_us, updated_us, saga_id) VALUES (:order_id, :customer_id, :state, :total_pence,"
    " :address, :fingerprint, 0, :now_us, :now_us, :saga_id) ON CONFLICT DO NOTHING"
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
_TO_SHIP = (
    "SELECT count(*) FROM orders WHERE state = 'confirmed' AND NOT EXISTS (SELECT 1 FROM"
    " order_history AS h WHERE h.order_id = orders.order_id AND h.event = 'ship')"
)
_SET_APART = (
    "UPDATE orders SET total_pence = :total_pence, back_ordered = :back_ordered"
    " WHERE order_id = :order_id"
)
_SHORTEN_LINE = (
    "UPDATE order_lines SET quantity = :quantity WHERE order_id = :order_id AND line = :line"
)
_DROP_LINE = "DELETE FROM order_lines WHERE order_id = :order_id AND line = :line"
_WAITING = "SELECT count(*) FROM orders WHERE state = 'back_ordered'"
_FIND = "SELECT * FROM orders WHERE order_id = :order_id"
_HAPPENED = "SELECT 1 FROM order_history WHERE order_id = :order_id AND event = :event"
_LINES = "SELECT * FROM order_lines WHERE order_id = :order_id ORDER BY line"
_HISTORY = "SELECT * FROM order_history WHERE order_id = :order_id ORDER BY step"
_PRICES = (
    "SELECT product_id, price_pence FROM prices"
    " WHERE product_id > :product_id OR (product_id = :product_id AND price_pence > :price_pence)"
    " ORDER BY product_id, price_pence LIMIT :rows"
)


class Moment(NamedTuple):
    """When something happens, and what it is part of."""

    now_us: int
    traceparent: str


def fingerprint(request: PlaceOrder) -> str:
    """Return a hash of what an order asks for; 1.1 and "1.10" are the same price."""
    lines = [(line.product_id, line.quantity, line.unit_price_pence) for line in request.items]
    said: tuple[Any, ...] = (request.customer_id, lines, request.shipping_address)
    if request.if_short != "refuse":  # what was taken before there was a choice stays what it was
        said += (request.if_short,)
    return sha256(msgspec.json.encode(said)).hexdigest()


def take(
    tx: Transaction, *, order_id: UUID, request: PlaceOrder, saga_id: str, at: Moment
) -> Order:
    """Store an order as received, or find it."""
    name, said = str(order_id), fingerprint(request)
    row = {
        "order_id": name,
        "customer_id": str(request.customer_id),
        "state": INITIAL.value,
        "total_pence": request.total_pence,
        "address": msgspec.json.encode(request.shipping_address).decode(),
        "fingerprint": said,
        "saga_id": saga_id,
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
    order = Order(
        order_id,
        request.customer_id,
        INITIAL,
        request.total_pence,
        at.now_us,
        saga_id=saga_id,
    )
    _tell(tx, order, {**row, "step": 0, "event": _RECEIVE, "reason": None}, at)
    return order


def move(
    tx: Transaction, *, order_id: UUID, event: OrderEvent, refusal: Refusal | None, at: Moment
) -> Order:
    """Let something happen to an order, unless it happened before."""
    name = str(order_id)
    row: Any = tx.lock("orders", (name,), key="order_id").get(name)
    if row is None:
        raise _no_order(order_id)
    before = _order(row)
    try:
        state = state_after(before.state, event)
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
    _owe(tx, before, state, refusal, at.now_us)
    return msgspec.structs.replace(before, state=state, refusal=refusal)


def take_apart(
    tx: Transaction, *, order_id: UUID, missing: tuple[StockLine, ...], at: Moment
) -> Order:
    """Let an order be of what there is, and keep the rest for its back-order; once."""
    name = {"order_id": str(order_id)}
    row: Any = tx.lock("orders", (str(order_id),), key="order_id").get(str(order_id))
    if row is None:
        raise _no_order(order_id)
    if row.back_ordered is not None:  # it was done before, and has gone on since
        return _order(row)
    found = tx.execute(_LINES, name).all()
    kept, rest = apart(tuple(_line(each) for each in found), missing)
    total_pence = 0
    for place, line in zip(found, kept, strict=True):
        which = {**name, "line": place.line}
        if line is None:
            tx.execute(_DROP_LINE, which)
            continue
        total_pence += line.total_pence
        if line.quantity != place.quantity:
            tx.execute(_SHORTEN_LINE, {**which, "quantity": line.quantity})
    said = msgspec.json.encode(rest).decode()
    tx.execute(_SET_APART, {**name, "total_pence": total_pence, "back_ordered": said})
    return move(tx, order_id=order_id, event=OrderEvent.RESERVE, refusal=None, at=at)


def _tell(tx: Transaction, order: Order, entry: Mapping[str, Any], at: Moment) -> None:
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


def _owe(
    tx: Transaction, order: Order, state: OrderState, refusal: Refusal | None, at_us: int
) -> None:
    """Write down what the customer is to be told of a state."""
    name = str(order.order_id)
    if state is OrderState.BACK_ORDERED:
        owe(tx, name, "order_back_ordered", {}, at_us=at_us)
    elif state is OrderState.CONFIRMED:
        owe(tx, name, "order_confirmation", {}, at_us=at_us)
    elif state is OrderState.REJECTED:
        data = {"reason": in_words("" if refusal is None else refusal.code)}
        owe(tx, name, "order_rejected", data, at_us=at_us)
    elif state is OrderState.CANCELLED:
        owe(tx, name, "order_cancelled", {}, at_us=at_us)


def note_shipment(tx: Transaction, *, shipped: OrderShipped, now_us: int) -> None:
    """Write into an order's history that it is on its way, and that its customer is to know."""
    _note(tx, shipped.order_id, Step.SHIP, now_us)
    data: dict[str, Any] = {"carrier": shipped.carrier}
    if shipped.part > 1:
        data["part"] = shipped.part
    name = str(shipped.order_id)
    owe(tx, name, "order_shipped", data, at_us=now_us, number=shipped.part)


def note_message(tx: Transaction, *, told: CustomerTold, now_us: int) -> None:
    """Write down that a customer was told; of the confirmation into the order's history, too."""
    if told.type == "order_confirmation":
        _note(tx, told.order_id, Step.NOTIFY, now_us)
    settle(tx, told)


def _note(tx: Transaction, order_id: UUID, step: Step, now_us: int) -> None:
    """Add to an order's history what followed it, once; its state stays as it is."""
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


def unfollowed(tx: Transaction) -> tuple[int, int]:
    """Return how many confirmed orders are not shipped, and how many messages are not sent."""
    return int(tx.execute(_TO_SHIP).scalar() or 0), count_owed(tx)


def find(tx: Transaction, *, order_id: UUID) -> Order:
    """Return an order as it stands."""
    row = tx.execute(_FIND, {"order_id": str(order_id)}).first()
    if row is None:
        raise _no_order(order_id)
    return _order(row)


def has_begun(tx: Transaction, *, order_id: UUID, request: PlaceOrder) -> bool:
    """Tell whether an order was taken, and that it is this one."""
    row = tx.execute(_FIND, {"order_id": str(order_id)}).first()
    if row is not None and row.fingerprint != fingerprint(request):
        raise IdempotencyConflictError(str(order_id))
    return row is not None


def count_waiting(tx: Transaction) -> int:
    """Return how many orders wait for stock."""
    return int(tx.execute(_WAITING).scalar() or 0)


def placed(tx: Transaction, *, order_id: UUID) -> tuple[Order, PlaceOrder]:
    """Return an order as it stands, and as it was asked for."""
    name = {"order_id": str(order_id)}
    row = tx.execute(_FIND, name).first()
    if row is None:
        raise _no_order(order_id)
    address = msgspec.json.decode(row.address, type=Address)
    return _order(row), PlaceOrder(UUID(row.customer_id), _items(tx, name), address)


def _items(tx: Transaction, name: dict[str, str]) -> tuple[OrderLine, ...]:
    return tuple(map(_line, tx.execute(_LINES, name)))


def _line(row: Any) -> OrderLine:
    return OrderLine(UUID(row.product_id), row.quantity, to_pounds(row.unit_price_pence))


def view(tx: Transaction, *, order_id: UUID) -> OrderView:
    """Return an order with its lines and its history."""
    order = find(tx, order_id=order_id)
    name = {"order_id": str(order_id)}
    history = tuple(
        HistoryEntry(row.state, row.event, row.at_us, row.reason)
        for row in tx.execute(_HISTORY, name)
    )
    was_confirmed = any(entry.event == OrderEvent.CONFIRM for entry in history)
    return OrderView(
        order_id=order_id,
        customer_id=order.customer_id,
        state=order.state.value,
        total_pence=order.total_pence,
        items=_items(tx, name),
        history=history,
        reason=None if order.refusal is None else order.refusal.code,
        back_order_id=order.back_order_id if was_confirmed else None,
    )


def owed_messages(tx: Transaction, *, order_id: UUID, kind: MessageType) -> tuple[Notify, ...]:
    """Return what the customer of an order was not told yet, of one type.

    What a confirmation says follows from the order, and is not kept.
    """
    messages = owed(tx, order_id=order_id, kind=kind)
    if not messages or kind != "order_confirmation":
        return messages
    confirmation = find(tx, order_id=order_id).confirmation()
    data = {
        "total": str(confirmation.total),
        "estimated_delivery": confirmation.estimated_delivery.isoformat(),
    }
    return tuple(msgspec.structs.replace(each, template_data=data) for each in messages)


def _order(row: Any) -> Order:
    failure: str | None = row.failure
    return Order(
        order_id=UUID(row.order_id),
        customer_id=UUID(row.customer_id),
        state=OrderState(row.state),
        total_pence=row.total_pence,
        received_us=row.received_us,
        refusal=None if failure is None else msgspec.json.decode(failure, type=Refusal),
        saga_id=row.saga_id,
        back_ordered=UNSET
        if row.back_ordered is None
        else msgspec.json.decode(row.back_ordered, type=tuple[OrderLine, ...]),
    )


def price_list(tx: Transaction) -> PriceList:
    """Return the price list, a part at a time."""
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
