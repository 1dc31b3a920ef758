"""The stock of the shop, in SQL: held for an order as a whole or not, then shipped or let go.

Any number of processes may share one database. What an order asks for takes effect once, because a
reservation is named by its order; no key is needed beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal
from uuid import UUID

from agent99.clock import Clock
from agent99.errors import Failure, IdempotencyConflictError
from agent99.ids import Ids
from agent99.store import Store, Transaction
from agent99.systems.shop._model import (
    INVENTORY_ERROR,
    PRODUCT_NOT_FOUND,
    RESERVATION_CLOSED,
    RESERVATION_NOT_FOUND,
    CheckStock,
    Reservation,
    Reserve,
    Restock,
    StockAnswer,
    StockLevel,
    StockLine,
)

_Ending = Literal["committed", "released"]
_OPENING = (
    "INSERT INTO stock (product_id, opening, on_hand) VALUES (:product_id, :units, :units)"
    " ON CONFLICT DO NOTHING"
)
_NOTE = (
    "INSERT INTO reservations (order_id, state, reserved_us, updated_us)"
    " VALUES (:order_id, :state, :now_us, :now_us) ON CONFLICT DO NOTHING"
)
_NOTE_LINE = (
    "INSERT INTO reservation_lines (order_id, product_id, quantity)"
    " VALUES (:order_id, :product_id, :quantity)"
)
_LINES = "SELECT product_id, quantity FROM reservation_lines WHERE order_id = :order_id"
_STATE = "SELECT state FROM reservations WHERE order_id = :order_id"
_SET_STATE = (
    "UPDATE reservations SET state = :state, updated_us = :now_us WHERE order_id = :order_id"
)
_LEVEL = (
    "SELECT opening, on_hand, reserved, shipped, restocked FROM stock"
    " WHERE product_id = :product_id"
)
_HOLD = (
    "UPDATE stock SET on_hand = on_hand - :quantity, reserved = reserved + :quantity"
    " WHERE product_id = :product_id"
)
_END: Mapping[_Ending, str] = {
    "committed": (
        "UPDATE stock SET reserved = reserved - :quantity, shipped = shipped + :quantity"
        " WHERE product_id = :product_id"
    ),
    "released": (
        "UPDATE stock SET reserved = reserved - :quantity, on_hand = on_hand + :quantity"
        " WHERE product_id = :product_id"
    ),
}
_RESTOCK = (
    "UPDATE stock SET on_hand = on_hand + :quantity, restocked = restocked + :quantity"
    " WHERE product_id = :product_id"
)


class Stock:
    """What is on the shelves, what is held for whom, and what has left.

    The rows of the products of one order are locked in one call, in the order of their ids, so that
    orders for the same products wait for one another and never for each other.

    Invariant: for every product `on_hand + reserved + shipped == opening + restocked`, and no
    part is negative; the tables check it too.
    """

    def __init__(self, store: Store, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids

    def __repr__(self) -> str:
        return f"Stock({self._store!r})"

    async def fill(self, opening: Mapping[UUID, int]) -> None:
        """Put the opening stock on the shelves; a product that is there already stays as it is.

        Raises:
            StoreError: and its kinds.
        """
        rows = [{"product_id": str(key), "units": units} for key, units in opening.items()]
        if rows:
            await self._store.transaction(lambda tx: tx.execute(_OPENING, rows).changed)

    async def reserve(self, request: Reserve) -> Reservation:
        """Hold all lines of an order, or none; the same product on several lines is summed.

        The same order again gets the same answer, whatever has become of its reservation since,
        unless it was released: what was given up is not held again by a request that comes late.

        Raises:
            Failure: `INVENTORY_ERROR` (`product_id`, `available`, `requested_quantity`),
                `PRODUCT_NOT_FOUND` (`product_id`), `RESERVATION_CLOSED`; nothing is held.
            IdempotencyConflictError: the order came before with other lines.
            StoreError: and its kinds.
        """
        wanted = _summed(request.items)
        work = partial(_reserve, order_id=request.order_id, wanted=wanted, now_us=self._now_us())
        return await self._store.transaction(work)

    async def commit(self, order_id: UUID) -> Reservation:
        """Ship what is held for an order. The same order again gets the same answer.

        Raises:
            Failure: `RESERVATION_NOT_FOUND`; `RESERVATION_CLOSED`, it was released.
            StoreError: and its kinds.
        """
        return await self._end(order_id, "committed")

    async def release(self, order_id: UUID) -> Reservation:
        """Put back what is held for an order. The same order again gets the same answer.

        An order for which nothing is held is noted as released, so that a request to hold its stock
        that is still on its way takes no effect.

        Raises:
            Failure: `RESERVATION_CLOSED`: it has left the house.
            StoreError: and its kinds.
        """
        return await self._end(order_id, "released")

    async def hold(self, request: CheckStock, key: str | None = None) -> StockAnswer:
        """Hold units of one product under an id of their own: the sample's operation.

        Args:
            request: What to hold.
            key: The same key and request get the same answer, and hold nothing more.

        Raises:
            Failure: `PRODUCT_NOT_FOUND`.
            IdempotencyConflictError: the key came before with another request.
            StoreError: and its kinds.
        """
        work = partial(
            _hold,
            request=request,
            reservation_id=UUID(self._ids.uuid()),
            now_us=self._now_us(),
        )
        if key is None:
            return await self._store.transaction(work)
        return await self._store.once(key, request, work, StockAnswer)

    async def restock(self, request: Restock, key: str | None = None) -> StockLevel:
        """Put new units of one product on the shelf.

        Args:
            request: What arrived.
            key: The same key and request take effect once, and get the same answer.

        Raises:
            Failure: `PRODUCT_NOT_FOUND`.
            IdempotencyConflictError: the key came before with another request.
            StoreError: and its kinds.
        """
        work = partial(_restock, request=request)
        if key is None:
            return await self._store.transaction(work)
        return await self._store.once(key, request, work, StockLevel)

    async def level(self, product_id: UUID) -> StockLevel:
        """Return the stock of one product.

        Raises:
            Failure: `PRODUCT_NOT_FOUND`.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(_level, product_id=product_id))

    async def reservation(self, order_id: UUID) -> Reservation:
        """Return how the reservation of an order stands.

        Raises:
            Failure: `RESERVATION_NOT_FOUND`.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(_reservation, order_id=order_id))

    async def _end(self, order_id: UUID, state: _Ending) -> Reservation:
        work = partial(_end, order_id=order_id, state=state, now_us=self._now_us())
        return await self._store.transaction(work)

    def _now_us(self) -> int:
        return self._clock.wall_us()


def _summed(lines: Iterable[StockLine]) -> dict[str, int]:
    wanted: dict[str, int] = {}
    for line in lines:
        product = str(line.product_id)
        wanted[product] = wanted.get(product, 0) + line.quantity
    return wanted


def _reserve(
    tx: Transaction, *, order_id: UUID, wanted: dict[str, int], now_us: int
) -> Reservation:
    # The row of the order comes first: of two requests for the same order one waits here.
    row = {"order_id": str(order_id), "state": "reserved", "now_us": now_us}
    if not tx.execute(_NOTE, row).changed:
        return _reserved_before(tx, order_id, wanted)
    found = tx.lock("stock", wanted, key="product_id")
    for product, quantity in wanted.items():
        if product not in found:
            raise _no_product(product)
        available = found[product].on_hand
        if available < quantity:
            raise Failure(
                f"{quantity} of product {product} are wanted and {available} are available",
                code=INVENTORY_ERROR,
                details={
                    "product_id": product,
                    "available": available,
                    "requested_quantity": quantity,
                },
            )
    _take(tx, str(order_id), wanted)
    return _answer(order_id, "reserved", wanted)


def _reserved_before(tx: Transaction, order_id: UUID, wanted: dict[str, int]) -> Reservation:
    held = _held(tx, order_id)
    state: str = tx.execute(_STATE, {"order_id": str(order_id)}).one().state
    if state == "released":
        raise _closed(order_id, "was released")
    if held != wanted:
        raise IdempotencyConflictError(str(order_id))
    return _answer(order_id, "reserved", wanted)


def _take(tx: Transaction, order_id: str, wanted: dict[str, int]) -> None:
    rows = [
        {"order_id": order_id, "product_id": product, "quantity": quantity}
        for product, quantity in wanted.items()
    ]
    tx.execute(_HOLD, [{k: row[k] for k in ("product_id", "quantity")} for row in rows])
    tx.execute(_NOTE_LINE, rows)


def _end(tx: Transaction, *, order_id: UUID, state: _Ending, now_us: int) -> Reservation:
    row = {"order_id": str(order_id), "state": state, "now_us": now_us}
    if state == "released" and tx.execute(_NOTE, row).changed:
        return _answer(order_id, state, {})
    found: Any = tx.lock("reservations", (str(order_id),), key="order_id").get(str(order_id))
    if found is None:
        raise _no_reservation(order_id)
    held = _held(tx, order_id)
    if found.state == state:
        return _answer(order_id, state, held)
    if found.state != "reserved":
        raise _closed(order_id, f"is {found.state} and cannot be {state}")
    tx.lock("stock", held, key="product_id")
    tx.execute(
        _END[state],
        [{"product_id": product, "quantity": quantity} for product, quantity in held.items()],
    )
    tx.execute(_SET_STATE, row)
    return _answer(order_id, state, held)


def _hold(
    tx: Transaction, *, request: CheckStock, reservation_id: UUID, now_us: int
) -> StockAnswer:
    product = str(request.product_id)
    row = tx.lock("stock", (product,), key="product_id").get(product)
    if row is None:
        raise _no_product(product)
    if row.on_hand < request.quantity:
        return StockAnswer(
            available=False,
            product_id=request.product_id,
            requested_quantity=request.quantity,
            available_quantity=row.on_hand,
        )
    name = str(reservation_id)
    tx.execute(_NOTE, {"order_id": name, "state": "reserved", "now_us": now_us})
    _take(tx, name, {product: request.quantity})
    return StockAnswer(
        available=True,
        product_id=request.product_id,
        reserved_quantity=request.quantity,
        remaining_stock=row.on_hand - request.quantity,
        reservation_id=reservation_id,
    )


def _restock(tx: Transaction, *, request: Restock) -> StockLevel:
    values = {"product_id": str(request.product_id), "quantity": request.quantity}
    tx.execute(_RESTOCK, values)
    return _level(tx, product_id=request.product_id)


def _level(tx: Transaction, *, product_id: UUID) -> StockLevel:
    row = tx.execute(_LEVEL, {"product_id": str(product_id)}).first()
    if row is None:
        raise _no_product(str(product_id))
    return StockLevel(product_id, *row)


def _reservation(tx: Transaction, *, order_id: UUID) -> Reservation:
    row = tx.execute(_STATE, {"order_id": str(order_id)}).first()
    if row is None:
        raise _no_reservation(order_id)
    return _answer(order_id, row.state, _held(tx, order_id))


def _held(tx: Transaction, order_id: UUID) -> dict[str, int]:
    rows = tx.execute(_LINES, {"order_id": str(order_id)})
    return {row.product_id: row.quantity for row in rows}


def _answer(
    order_id: UUID, state: Literal["reserved", "committed", "released"], held: Mapping[str, int]
) -> Reservation:
    return Reservation(order_id, state, products=len(held), units=sum(held.values()))


def _no_product(product: str) -> Failure:
    return Failure(
        f"there is no product {product}", code=PRODUCT_NOT_FOUND, details={"product_id": product}
    )


def _no_reservation(order_id: UUID) -> Failure:
    return Failure(
        f"nothing is held for order {order_id}",
        code=RESERVATION_NOT_FOUND,
        details={"order_id": str(order_id)},
    )


def _closed(order_id: UUID, why: str) -> Failure:
    return Failure(
        f"the reservation of order {order_id} {why}",
        code=RESERVATION_CLOSED,
        details={"order_id": str(order_id)},
    )
