"""What was given back of which line of which order, in SQL.

Any number of processes may share one database. A return is matched once; its lines are taken off
what may be given back in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from uuid import UUID

from agent99.clock import Clock
from agent99.errors import Failure
from agent99.store import Store, Transaction
from agent99.systems.shop._events import REFUNDED, OrderRefunded
from agent99.systems.shop._identity import refund_uuid
from agent99.systems.shop._model import ORDER_NOT_FOUND, OrderLine, StockLine
from agent99.systems.shop._money import to_pounds
from agent99.systems.shop._owed import next_number, owe
from agent99.systems.shop._return_model import GiveBack, Matched, OrderReturn
from agent99.systems.shop._states import OrderState

TRIALS_MAX = 100
"""Times that a line is looked for again, where others gave it back a moment before."""
_FIND = (
    "SELECT l.order_id, l.line FROM orders AS o JOIN order_lines AS l ON l.order_id = o.order_id"
    " WHERE o.customer_id = :customer_id AND o.state = 'confirmed'"
    " AND l.product_id = :product_id AND l.unit_price_pence = :unit_price_pence"
    " AND l.quantity - l.refunded >= :quantity"
    " ORDER BY o.received_us DESC, l.line DESC LIMIT 1"
)
_TAKE_OFF = (
    "UPDATE order_lines SET refunded = refunded + :quantity"
    " WHERE order_id = :order_id AND line = :line AND quantity - refunded >= :quantity"
)
_NOTE = (
    "INSERT INTO order_returns (return_id, place, order_id, line, product_id, quantity,"
    " unit_price_pence, at_us) VALUES (:return_id, :place, :order_id, :line, :product_id,"
    " :quantity, :unit_price_pence, :at_us)"
)
_LOCK_LINES = "UPDATE order_lines SET refunded = refunded WHERE order_id = :order_id"
_OTHERS = (
    "SELECT count(DISTINCT return_id) FROM order_returns"
    " WHERE order_id = :order_id AND return_id <> :return_id"
)
_NOTES = "SELECT count(*) FROM order_history WHERE order_id = :order_id AND event = 'refund'"
_LEFT = (
    "SELECT line, product_id, quantity - refunded AS quantity, unit_price_pence FROM order_lines"
    " WHERE order_id = :order_id AND quantity > refunded ORDER BY line"
)
_ENTER = (
    "INSERT INTO order_history (order_id, step, event, state, reason, at_us)"
    " VALUES (:order_id, :step, 'refund', :state, NULL, :at_us)"
)
_SET_STEPS = "UPDATE orders SET steps = :step, updated_us = :at_us WHERE order_id = :order_id"


class Returns:
    """Which lines were given back.

    Invariant: of no line more is given back than was sold on it; the tables check it too.
    """

    def __init__(self, store: Store, clock: Clock, traceparent: Callable[[], str] = str) -> None:
        self._store = store
        self._clock = clock
        self._traceparent = traceparent

    def __repr__(self) -> str:
        return f"Returns({self._store!r})"

    async def match(self, request: GiveBack, return_id: UUID) -> Matched:
        """Find what a return is of, and take it off what may be given back; the same return once.

        Raises:
            IdempotencyConflictError: the return came before with other lines.
            StoreError: and its kinds.
        """
        work = partial(_match, request=request, return_id=return_id, at_us=self._clock.wall_us())
        return await self._store.once(f"return:{return_id}", request, work, Matched)

    async def match_order(self, order_id: UUID, return_id: UUID) -> OrderReturn:
        """Take everything that is left of a confirmed order off what may be given back; once.

        Returns an empty part where nothing is left, or the order is not confirmed.

        Raises:
            StoreError: and its kinds.
        """
        work = partial(
            _match_order, order_id=order_id, return_id=return_id, at_us=self._clock.wall_us()
        )
        return await self._store.once(f"return:{return_id}", order_id, work, OrderReturn)

    async def count_open(self, order_id: UUID, return_id: UUID, *, is_noted: bool) -> int:
        """Return how many returns of an order are under way beside this one.

        Args:
            order_id: Which order.
            return_id: The one that does not count.
            is_noted: Whether it is noted.

        Raises:
            StoreError: and its kinds.
        """
        work = partial(_count_open, order_id=order_id, return_id=return_id)
        return await self._store.read(work) + is_noted

    async def note(self, return_id: UUID, part: OrderReturn) -> None:
        """Write into an order's history that money was given back, and tell of it; once.

        Raises:
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        key = f"refunded:{return_id}:{part.order_id}"
        work = partial(
            _note,
            return_id=return_id,
            part=part,
            at_us=self._clock.wall_us(),
            traceparent=self._traceparent(),
        )
        await self._store.once(key, part, work, type(None))


def _match(tx: Transaction, *, request: GiveBack, return_id: UUID, at_us: int) -> Matched:
    found: dict[str, list[OrderLine]] = {}
    for place, item in enumerate(request.items):
        order_id = _match_line(tx, request.customer_id, return_id, place, item, at_us)
        if order_id is not None:
            found.setdefault(order_id, []).append(item)
    matched = sum(map(len, found.values()))
    return Matched(
        return_id,
        tuple(_part(order_id, found[order_id]) for order_id in sorted(found)),
        matched=matched,
        unmatched=len(request.items) - matched,
    )


def _match_line(
    tx: Transaction, customer_id: UUID, return_id: UUID, place: int, item: OrderLine, at_us: int
) -> str | None:
    wanted = {
        "customer_id": str(customer_id),
        "product_id": str(item.product_id),
        "unit_price_pence": item.unit_price_pence,
        "quantity": item.quantity,
    }
    for _ in range(TRIALS_MAX):
        row = tx.execute(_FIND, wanted).first()
        if row is None:
            return None
        line = {"order_id": row.order_id, "line": row.line, "quantity": item.quantity}
        if tx.execute(_TAKE_OFF, line).changed:
            named = {"return_id": str(return_id), "place": place, "at_us": at_us}
            tx.execute(
                _NOTE, named | line | {k: wanted[k] for k in ("product_id", "unit_price_pence")}
            )
            return str(row.order_id)
    return None


def _match_order(tx: Transaction, *, order_id: UUID, return_id: UUID, at_us: int) -> OrderReturn:
    name = str(order_id)
    row = tx.lock("orders", (name,), key="order_id").get(name)
    if row is None or row.state != OrderState.CONFIRMED:
        return _part(name, ())
    tx.execute(_LOCK_LINES, {"order_id": name})  # who gives some of it back is done, or waits
    items: list[OrderLine] = []
    for place, line in enumerate(tx.execute(_LEFT, {"order_id": name}).all()):
        values = {"order_id": name, "line": line.line, "quantity": line.quantity}
        assert tx.execute(_TAKE_OFF, values).changed, "the lines are locked"
        named = {"return_id": str(return_id), "place": place, "at_us": at_us}
        what = {"product_id": line.product_id, "unit_price_pence": line.unit_price_pence}
        tx.execute(_NOTE, named | values | what)
        price = to_pounds(line.unit_price_pence)
        items.append(OrderLine(UUID(line.product_id), line.quantity, price))
    return _part(name, items)


def _count_open(tx: Transaction, *, order_id: UUID, return_id: UUID) -> int:
    which = {"order_id": str(order_id), "return_id": str(return_id)}
    others, notes = (int(tx.execute(sql, which).scalar() or 0) for sql in (_OTHERS, _NOTES))
    return others - notes


def _part(order_id: str, items: Iterable[OrderLine]) -> OrderReturn:
    units: dict[UUID, int] = {}
    for item in items:
        units[item.product_id] = units.get(item.product_id, 0) + item.quantity
    return OrderReturn(
        UUID(order_id),
        sum(item.total_pence for item in items),
        tuple(StockLine(product, units[product]) for product in sorted(units)),
    )


def _note(
    tx: Transaction, *, return_id: UUID, part: OrderReturn, at_us: int, traceparent: str
) -> None:
    name = str(part.order_id)
    row = tx.lock("orders", (name,), key="order_id").get(name)
    if row is None:
        raise Failure(f"there is no order {name}", code=ORDER_NOT_FOUND, details={"order_id": name})
    step = int(row.steps) + 1
    entry = {"order_id": name, "step": step, "state": row.state, "at_us": at_us}
    tx.execute(_ENTER, entry)
    tx.execute(_SET_STEPS, entry)
    event = OrderRefunded(
        order_id=part.order_id,
        customer_id=UUID(row.customer_id),
        refund_id=refund_uuid(return_id, part.order_id),
        step=step,
        amount_pence=part.amount_pence,
        at_us=at_us,
    )
    tx.append(REFUNDED, event, key=name, traceparent=traceparent)
    number = next_number(tx, name, "order_refunded")
    data = {"amount": str(to_pounds(part.amount_pence))}
    owe(tx, name, "order_refunded", data, at_us=at_us, number=number)
