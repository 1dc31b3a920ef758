"""What can happen to the stock, each step in one transaction: held, shipped, let go, brought back.

In which order they lock is said in `_stock_rows.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from uuid import UUID

from agent99.errors import Failure, IdempotencyConflictError
from agent99.store import Transaction
from agent99.systems.shop import _stock_rows as rows
from agent99.systems.shop._model import (
    INVENTORY_ERROR,
    CheckStock,
    Reservation,
    Reserve,
    StockAnswer,
)
from agent99.systems.shop._stock_model import (
    RESERVATION_TOO_SMALL,
    RETURN_TOO_LARGE,
    Commit,
    TakeBack,
    TakenBack,
)
from agent99.systems.shop._stock_rows import Line, Move, Units

Ending: TypeAlias = Literal["committed", "released"]

BATCH_MAX: Final = 50
"""Reservations that expire in one transaction: while it lasts, orders for their products wait."""
BATCH_LINES_MAX: Final = 5_000
"""Their lines; but one of them may always expire, and has at most `LINES_MAX`."""

_HOLD = (
    "UPDATE stock SET on_hand = on_hand - :quantity, reserved = reserved + :quantity"
    " WHERE product_id = :product_id"
)
_NOTE_LINE = (
    "INSERT INTO reservation_lines (order_id, product_id, quantity)"
    " VALUES (:order_id, :product_id, :quantity)"
)
_SHIP_LINE = (
    "UPDATE reservation_lines SET shipped = shipped + :units"
    " WHERE order_id = :order_id AND product_id = :product_id"
)
_RETURN_LINE = (
    "UPDATE reservation_lines SET returned = returned + :units"
    " WHERE order_id = :order_id AND product_id = :product_id"
)
_RESTOCK = (
    "UPDATE stock SET on_hand = on_hand + :units, restocked = restocked + :units"
    " WHERE product_id = :product_id"
)
_DUE = (
    "SELECT order_id, (SELECT count(*) FROM reservation_lines AS line"
    " WHERE line.order_id = held.order_id) AS lines"
    " FROM reservations AS held WHERE state = 'reserved' AND expires_us <= :now_us"
    " ORDER BY expires_us LIMIT :rows_max"
)
_NEXT = (
    "SELECT expires_us FROM reservations WHERE state = 'reserved' AND expires_us IS NOT NULL"
    " ORDER BY expires_us LIMIT 1"
)


class Times(NamedTuple):
    """When a reservation begins and ends, microseconds since the epoch."""

    now_us: int
    expires_us: int


class Batch(NamedTuple):
    """What one transaction let go because its time was up."""

    expired: int
    has_more: bool
    """Whether more may be due."""


# --- held -----------------------------------------------------------------------------------------


def reserve(tx: Transaction, *, request: Reserve, times: Times) -> Reservation:
    """Hold all lines of an order or none, or what there is of them, as the request says."""
    order_id, wanted = request.order_id, rows.summed(request.items)
    # The row of the order comes first: of two requests for the same order one waits here.
    if not rows.note(tx, order_id, "reserved", times.now_us, times.expires_us):
        return _reserved_before(tx, order_id, wanted)
    found = tx.lock("stock", wanted, key="product_id")
    held: Units = {}
    for product, quantity in wanted.items():
        if product not in found:
            raise rows.no_product(product)
        available = found[product].on_hand
        if available < quantity and request.if_short == "refuse":
            raise _too_few(product, available, quantity)
        if available:
            held[product] = min(available, quantity)
    if not held:
        product, quantity = next(iter(wanted.items()))
        raise _too_few(product, 0, quantity)
    if held != wanted:
        rows.note_wanted(tx, order_id, wanted)
    _take(tx, str(order_id), held)
    return _held(order_id, wanted, held, times.expires_us)


def hold(
    tx: Transaction, *, request: CheckStock, reservation_id: UUID, times: Times
) -> StockAnswer:
    """Hold units of one product under an id of their own, or say how many there are."""
    product = str(request.product_id)
    row = tx.lock("stock", (product,), key="product_id").get(product)
    if row is None:
        raise rows.no_product(product)
    if row.on_hand < request.quantity:
        return StockAnswer(
            available=False,
            product_id=request.product_id,
            requested_quantity=request.quantity,
            available_quantity=row.on_hand,
        )
    rows.note(tx, reservation_id, "reserved", times.now_us, times.expires_us)
    _take(tx, str(reservation_id), {product: request.quantity})
    return StockAnswer(
        available=True,
        product_id=request.product_id,
        reserved_quantity=request.quantity,
        remaining_stock=row.on_hand - request.quantity,
        reservation_id=reservation_id,
        expires_us=times.expires_us,
    )


def _reserved_before(tx: Transaction, order_id: UUID, wanted: Units) -> Reservation:
    lines = rows.lines_of(tx, str(order_id))
    row = rows.find(tx, order_id)
    if row.state in ("released", "expired"):
        raise rows.closed(order_id, row.state)
    if rows.wanted_of(row, lines) != wanted:
        raise IdempotencyConflictError(str(order_id))
    return _held(order_id, wanted, rows.held_in(lines), row.expires_us)


def _held(order_id: UUID, wanted: Units, held: Units, expires_us: int | None) -> Reservation:
    return Reservation(
        order_id,
        "reserved",
        products=len(held),
        units=sum(held.values()),
        expires_us=expires_us,
        missing=rows.missing_of(wanted, held),
    )


def _take(tx: Transaction, order: str, wanted: Units) -> None:
    lines = [
        {"order_id": order, "product_id": product, "quantity": quantity}
        for product, quantity in wanted.items()
    ]
    tx.execute(_HOLD, [{k: line[k] for k in ("product_id", "quantity")} for line in lines])
    tx.execute(_NOTE_LINE, lines)


# --- shipped, or let go ---------------------------------------------------------------------------


def end(tx: Transaction, *, order_id: UUID, state: Ending, now_us: int) -> Reservation:
    """Ship all that is held for an order, or let it go."""
    if state == "released" and rows.note(tx, order_id, state, now_us):
        return rows.said(order_id, state, {})
    found, name = rows.lock(tx, order_id), str(order_id)
    lines = rows.lines_of(tx, name)
    if found.state == state or (found.state == "expired" and state == "released"):
        return rows.said(order_id, found.state, lines)
    if found.state != "reserved":
        raise rows.closed(order_id, found.state)
    left = _left(lines)
    if state == "committed":
        rows.settle(tx, left, {})
        lines = _ship(tx, name, lines, left)
    else:
        rows.settle(tx, {}, left)
    rows.set_state(tx, (name,), state, now_us)
    return rows.said(order_id, state, lines)


def ship_part(tx: Transaction, *, request: Commit, now_us: int) -> Reservation:
    """Ship some of what is held for an order, and keep the rest or let it go."""
    order_id, name = request.order_id, str(request.order_id)
    items = rows.summed(request.items or ())
    part = Move("part", request.part or order_id, order_id, items, request.rest)
    found = rows.lock(tx, order_id)
    before = rows.begin_move(tx, part, Reservation, now_us)
    if before is not None:
        return before
    if found.state != "reserved":
        raise rows.closed(order_id, found.state)
    lines = rows.lines_of(tx, name)
    for product, units in items.items():
        held = lines[product].left if product in lines else 0
        if units > held:
            raise _too_small(order_id, product, held, units)
    left = _left(_shipped(lines, items))
    rows.settle(tx, items, left if request.rest == "release" else {})
    lines = _ship(tx, name, lines, items)
    is_kept = request.rest == "keep" and bool(left)
    state: Literal["reserved", "committed"] = "reserved" if is_kept else "committed"
    rows.set_state(tx, (name,), state, now_us)
    answer = rows.said(order_id, state, lines, found.expires_us)
    rows.end_move(tx, part, answer)
    return answer


def expire(tx: Transaction, *, now_us: int) -> Batch:
    """Let go of reservations whose time is up: of some, the longest overdue first."""
    due = tx.execute(_DUE, {"now_us": now_us, "rows_max": BATCH_MAX}).all()
    names = _few(due)
    found = tx.lock("reservations", names, key="order_id")
    # What was shipped or let go until the lock was ours is none of our business any more.
    still_held = [name for name, row in found.items() if row.state == "reserved"]
    if still_held:
        let_go: Counter[str] = Counter()
        for name in still_held:
            let_go.update(_left(rows.lines_of(tx, name)))
        rows.settle(tx, {}, let_go)
        rows.set_state(tx, still_held, "expired", now_us)
    return Batch(len(still_held), has_more=len(due) == BATCH_MAX or len(names) < len(due))


def next_expiry(tx: Transaction) -> int | None:
    """Return when the next reservation is due, if there is one."""
    found: int | None = tx.execute(_NEXT).scalar()
    return found


def _left(lines: Mapping[str, Line]) -> Units:
    return {product: line.left for product, line in lines.items() if line.left}


def _shipped(lines: Mapping[str, Line], items: Units) -> dict[str, Line]:
    return {
        product: Line(line.quantity, line.shipped + items.get(product, 0), line.returned)
        for product, line in lines.items()
    }


def _ship(tx: Transaction, order: str, lines: Mapping[str, Line], items: Units) -> dict[str, Line]:
    """Note what leaves; returns the lines after it."""
    tx.execute(_SHIP_LINE, _by_line(order, items))
    return _shipped(lines, items)


def _by_line(order: str, items: Units) -> list[dict[str, Any]]:
    return [
        {"order_id": order, "product_id": product, "units": units}
        for product, units in items.items()
    ]


def _few(due: Sequence[Any]) -> list[str]:
    """Return the orders that come first and have not too many lines together."""
    names: list[str] = []
    lines = 0
    for row in due:
        lines += row.lines
        if names and lines > BATCH_LINES_MAX:
            break
        names.append(row.order_id)
    return names


# --- brought --------------------------------------------------------------------------------------


def take_back(tx: Transaction, *, request: TakeBack, now_us: int) -> TakenBack:
    """Put units that were shipped for an order on the shelf again."""
    order_id, items = request.order_id, rows.summed(request.items)
    back = Move("return", request.return_id, order_id, items)
    rows.lock(tx, order_id)
    before = rows.begin_move(tx, back, TakenBack, now_us)
    if before is not None:
        return before
    lines = rows.lines_of(tx, str(order_id))
    for product, units in items.items():
        line = lines.get(product, Line(0, 0, 0))
        if units > line.shipped - line.returned:
            raise _too_large(request, product, line, units)
    tx.lock("stock", items, key="product_id")
    add_units(tx, items)
    tx.execute(_RETURN_LINE, _by_line(str(order_id), items))
    answer = TakenBack(order_id, request.return_id, products=len(items), units=sum(items.values()))
    rows.end_move(tx, back, answer)
    return answer


def add_units(tx: Transaction, items: Units) -> None:
    """Put units on the shelf, those of products that there are."""
    found = [{"product_id": product, "units": units} for product, units in items.items()]
    tx.execute(_RESTOCK, found)


# --- what is refused ------------------------------------------------------------------------------


def _too_few(product: str, available: int, quantity: int) -> Failure:
    return Failure(
        f"{quantity} of product {product} are wanted and {available} are available",
        code=INVENTORY_ERROR,
        details={
            "product_id": product,
            "available": available,
            "requested_quantity": quantity,
        },
    )


def _too_small(order_id: UUID, product: str, held: int, units: int) -> Failure:
    return Failure(
        f"{units} of product {product} shall ship and {held} are held for order {order_id}",
        code=RESERVATION_TOO_SMALL,
        details={
            "order_id": str(order_id),
            "product_id": product,
            "held": held,
            "requested_quantity": units,
        },
    )


def _too_large(request: TakeBack, product: str, line: Line, units: int) -> Failure:
    return Failure(
        f"{units} of product {product} shall come back of order {request.order_id}, of which"
        f" {line.shipped} were shipped and {line.returned} came back before",
        code=RETURN_TOO_LARGE,
        details={
            "order_id": str(request.order_id),
            "product_id": product,
            "shipped": line.shipped,
            "returned": line.returned,
            "requested_quantity": units,
        },
    )
