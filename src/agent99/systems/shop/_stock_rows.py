"""The rows of the stock, as the steps that change them need them, and what is said of them.

Every step locks in one order, so that no two wait for each other: first reservations, by their ids,
in one call; then the name of a part or a return; then products, by their ids, in one call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, TypeVar
from uuid import UUID

import msgspec

from agent99.errors import Failure, IdempotencyConflictError
from agent99.store import Transaction
from agent99.systems.shop._model import (
    PRODUCT_NOT_FOUND,
    RESERVATION_CLOSED,
    RESERVATION_NOT_FOUND,
    Reservation,
    StockLevel,
    StockLine,
)

T = TypeVar("T")
State: TypeAlias = Literal["reserved", "committed", "released", "expired"]
Units: TypeAlias = dict[str, int]
"""By product."""

_NOTE = (
    "INSERT INTO reservations (order_id, state, reserved_us, updated_us, expires_us)"
    " VALUES (:order_id, :state, :now_us, :now_us, :expires_us) ON CONFLICT DO NOTHING"
)
_STATE = "SELECT state, expires_us, wanted FROM reservations WHERE order_id = :order_id"
_SET_STATE = (
    "UPDATE reservations SET state = :state, updated_us = :now_us WHERE order_id = :order_id"
)
_SET_WANTED = "UPDATE reservations SET wanted = :wanted WHERE order_id = :order_id"
_LINES = (
    "SELECT product_id, quantity, shipped, returned FROM reservation_lines"
    " WHERE order_id = :order_id"
)
_SETTLE = (
    "UPDATE stock SET reserved = reserved - :shipped - :let_go, shipped = shipped + :shipped,"
    " on_hand = on_hand + :let_go WHERE product_id = :product_id"
)
_DELIVER = (
    "INSERT INTO deliveries (delivery_id, product_id, units, at_us)"
    " VALUES (:delivery_id, :product_id, :units, :at_us)"
)
_LEVEL = (
    "SELECT opening, on_hand, reserved, shipped, restocked FROM stock"
    " WHERE product_id = :product_id"
)
_FIND_MOVE = "SELECT content, answer FROM stock_moves WHERE kind = :kind AND move_id = :move_id"
_NOTE_MOVE = (  # its answer follows in the same transaction: nobody sees it without
    "INSERT INTO stock_moves (kind, move_id, order_id, content, answer, at_us)"
    " VALUES (:kind, :move_id, :order_id, :content, '', :now_us) ON CONFLICT DO NOTHING"
)
_ANSWER_MOVE = "UPDATE stock_moves SET answer = :answer WHERE kind = :kind AND move_id = :move_id"


class Line(msgspec.Struct, frozen=True):
    """One product of a reservation."""

    quantity: int
    """Units that were reserved."""
    shipped: int
    """Of these, what has left."""
    returned: int
    """Of those, what came back."""

    @property
    def left(self) -> int:
        """Units that have not left: held, as long as the reservation is."""
        return self.quantity - self.shipped


class Move(msgspec.Struct, frozen=True):
    """A part or a return: something that happens once, and may happen several times to an order."""

    kind: Literal["part", "return"]
    move_id: UUID
    order_id: UUID
    items: Units
    rest: str = ""

    @property
    def content(self) -> str:
        """What the id stands for, as a text that is the same for the same."""
        return msgspec.json.encode(self, order="sorted").decode()


def summed(lines: Iterable[StockLine]) -> Units:
    """Return the units of each product."""
    wanted: Units = {}
    for line in lines:
        product = str(line.product_id)
        wanted[product] = wanted.get(product, 0) + line.quantity
    return wanted


# --- reservations ---------------------------------------------------------------------------------


def note(
    tx: Transaction,
    order_id: UUID,
    state: State,
    now_us: int,
    expires_us: int | None = None,
) -> bool:
    """Write down a reservation; returns False where the order has one. A rival is waited for."""
    row = {
        "order_id": str(order_id),
        "state": state,
        "now_us": now_us,
        "expires_us": expires_us,
    }
    return tx.execute(_NOTE, row).changed == 1


def note_wanted(tx: Transaction, order_id: UUID, wanted: Units) -> None:
    """Write down what was asked for where not all of it is held."""
    said = msgspec.json.encode(wanted, order="sorted").decode()
    tx.execute(_SET_WANTED, {"order_id": str(order_id), "wanted": said})


def held_in(lines: Mapping[str, Line]) -> Units:
    """Return what a reservation was given, whatever has become of that."""
    return {product: line.quantity for product, line in lines.items()}


def wanted_of(row: Any, lines: Mapping[str, Line]) -> Units:
    """Return what a reservation was asked for."""
    if row.wanted is None:
        return held_in(lines)
    return msgspec.json.decode(row.wanted, type=Units)


def missing_of(wanted: Units, held: Units) -> tuple[StockLine, ...]:
    """Return what is wanted and not held, by product."""
    missing = {product: units - held.get(product, 0) for product, units in wanted.items()}
    return tuple(
        StockLine(UUID(product), missing[product])
        for product in sorted(missing)
        if missing[product]
    )


def find(tx: Transaction, order_id: UUID) -> Any:
    """Return state, end and what was asked for of a reservation, as they are now.

    Raises:
        Failure: `RESERVATION_NOT_FOUND`.
    """
    row = tx.execute(_STATE, {"order_id": str(order_id)}).first()
    if row is None:
        raise _no_reservation(order_id)
    return row


def lock(tx: Transaction, order_id: UUID) -> Any:
    """Return a reservation, which nobody else changes until the transaction ends.

    Raises:
        Failure: `RESERVATION_NOT_FOUND`.
    """
    name = str(order_id)
    row = tx.lock("reservations", (name,), key="order_id").get(name)
    if row is None:
        raise _no_reservation(order_id)
    return row


def set_state(tx: Transaction, orders: Iterable[str], state: State, now_us: int) -> None:
    """Let reservations, which are locked, be in another state."""
    rows = [{"order_id": order, "state": state, "now_us": now_us} for order in orders]
    tx.execute(_SET_STATE, rows)


def lines_of(tx: Transaction, order: str) -> dict[str, Line]:
    """Return the products of a reservation."""
    rows = tx.execute(_LINES, {"order_id": order})
    return {row.product_id: Line(row.quantity, row.shipped, row.returned) for row in rows}


def said(
    order_id: UUID,
    state: State,
    lines: Mapping[str, Line],
    expires_us: int | None = None,
    missing: tuple[StockLine, ...] = (),
) -> Reservation:
    """Return how a reservation stands, by its lines."""
    return Reservation(
        order_id,
        state,
        products=len(lines),
        units=sum(line.quantity for line in lines.values()),
        shipped_units=sum(line.shipped for line in lines.values()),
        expires_us=expires_us if state == "reserved" else None,
        missing=missing,
    )


# --- products -------------------------------------------------------------------------------------


def settle(tx: Transaction, shipped: Units, let_go: Units) -> None:
    """Lock products and take units from what is reserved: out of the house, or to the shelf."""
    products = shipped.keys() | let_go.keys()
    tx.lock("stock", products, key="product_id")
    rows = [
        {
            "product_id": product,
            "shipped": shipped.get(product, 0),
            "let_go": let_go.get(product, 0),
        }
        for product in products
    ]
    tx.execute(_SETTLE, rows)


def level(tx: Transaction, product_id: UUID) -> StockLevel:
    """Return the stock of one product.

    Raises:
        Failure: `PRODUCT_NOT_FOUND`.
    """
    row = tx.execute(_LEVEL, {"product_id": str(product_id)}).first()
    if row is None:
        raise no_product(str(product_id))
    return StockLevel(product_id, *row)


def note_delivery(tx: Transaction, delivery_id: str, line: StockLine, at_us: int) -> None:
    """Write down what a supplier delivered."""
    row = {
        "delivery_id": delivery_id,
        "product_id": str(line.product_id),
        "units": line.quantity,
        "at_us": at_us,
    }
    tx.execute(_DELIVER, row)


# --- parts and returns ----------------------------------------------------------------------------


def begin_move(tx: Transaction, move: Move, answer_type: type[T], now_us: int) -> T | None:
    """Write down a part or a return; returns what was answered if it came before. It is waited for.

    Raises:
        IdempotencyConflictError: it came before with another content.
    """
    name = {"kind": move.kind, "move_id": str(move.move_id)}
    row = {
        **name,
        "order_id": str(move.order_id),
        "content": move.content,
        "now_us": now_us,
    }
    if tx.execute(_NOTE_MOVE, row).changed:
        return None
    before = tx.execute(_FIND_MOVE, name).one()
    if before.content != move.content:
        raise IdempotencyConflictError(str(move.move_id))
    return msgspec.json.decode(before.answer, type=answer_type)


def end_move(tx: Transaction, move: Move, answer: Any) -> None:
    """Keep what is answered."""
    row = {
        "kind": move.kind,
        "move_id": str(move.move_id),
        "answer": msgspec.json.encode(answer).decode(),
    }
    tx.execute(_ANSWER_MOVE, row)


# --- what is refused ------------------------------------------------------------------------------


def no_product(product: str) -> Failure:
    """Return the refusal of a product that there is not."""
    return Failure(
        f"there is no product {product}", code=PRODUCT_NOT_FOUND, details={"product_id": product}
    )


def closed(order_id: UUID, state: State) -> Failure:
    """Return the refusal of what needs a reservation that holds something."""
    return Failure(
        f"the reservation of order {order_id} is {state}: it holds nothing any more",
        code=RESERVATION_CLOSED,
        details={"order_id": str(order_id), "state": state},
    )


def _no_reservation(order_id: UUID) -> Failure:
    return Failure(
        f"nothing is held for order {order_id}",
        code=RESERVATION_NOT_FOUND,
        details={"order_id": str(order_id)},
    )
