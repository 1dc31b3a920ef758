"""The stock of the shop, in SQL: held for an order as a whole or not, then shipped or let go.

Any number of processes may share one database. What an order asks for takes effect once, because a
reservation is named by its order, and its parts and returns by ids of their own; no key is needed
beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final
from uuid import UUID

from agent99.clock import Clock
from agent99.ids import Ids
from agent99.store import Store, Transaction
from agent99.systems.shop import _stock_rows as rows
from agent99.systems.shop import _stock_steps as steps
from agent99.systems.shop._model import (
    CheckStock,
    Reservation,
    Reserve,
    Restock,
    StockAnswer,
    StockLevel,
    StockLine,
)
from agent99.systems.shop._settings import HOLD_S
from agent99.systems.shop._stock_model import Commit, TakeBack, TakenBack

_US: Final = 1_000_000
_OPENING = (
    "INSERT INTO stock (product_id, opening, on_hand) VALUES (:product_id, :units, :units)"
    " ON CONFLICT DO NOTHING"
)


class Stock:
    """What is on the shelves, what is held for whom and until when, and what has left.

    Reservations, and then the rows of their products, are locked in the order of their ids, so that
    orders for the same products wait for one another and never for each other.

    Times are those of the processes' wall clocks, and stand in the database: whoever is there when
    the time of a reservation is up can let it go.

    Invariant: for every product `on_hand + reserved + shipped == opening + restocked`, and no
    part is negative; the tables check it too. What is reserved is what the reservations in that
    state have not shipped, which is never nothing.
    """

    def __init__(self, store: Store, clock: Clock, ids: Ids, hold_s: float = HOLD_S) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._hold_s = hold_s

    def __repr__(self) -> str:
        return f"Stock({self._store!r})"

    async def fill(self, opening: Mapping[UUID, int]) -> None:
        """Put the opening stock on the shelves; a product that is there already stays as it is.

        Raises:
            StoreError: and its kinds.
        """
        filled = [{"product_id": str(key), "units": units} for key, units in opening.items()]
        if filled:
            await self._store.transaction(lambda tx: tx.execute(_OPENING, filled).changed)

    async def reserve(self, request: Reserve) -> Reservation:
        """Hold all lines of an order, or none; the same product on several lines is summed.

        With `if_short="part"` what there is of them is held, if there is any, and the answer says
        what is missing.

        The same order again gets the same answer, whatever has become of its reservation since,
        unless it was let go: what was given up is not held again by a request that comes late. For
        how long it is held is what the first request said.

        Raises:
            Failure: `INVENTORY_ERROR` (`product_id`, `available`, `requested_quantity`),
                `PRODUCT_NOT_FOUND` (`product_id`); `RESERVATION_CLOSED` (`order_id`, `state`): it
                was released, or has expired; nothing is held.
            IdempotencyConflictError: the order came before with other lines.
            StoreError: and its kinds.
        """
        work = partial(steps.reserve, request=request, times=self._times(request.hold_s))
        return await self._store.transaction(work)

    async def commit(self, order_id: UUID) -> Reservation:
        """Ship all that is held for an order. The same order again gets the same answer.

        What is held may ship, also when its time is up: whichever comes first to the database, the
        commit or the expiry, decides.

        Raises:
            Failure: `RESERVATION_NOT_FOUND`; `RESERVATION_CLOSED` (`order_id`, `state`): it was
                released, or has expired.
            StoreError: and its kinds.
        """
        return await self._end(order_id, "committed")

    async def commit_part(self, request: Commit) -> Reservation:
        """Ship some of what is held for an order. The same part again gets the same answer.

        Without `items` it is all of it, as in `commit`. What is kept stays held until the
        reservation's time is up, which the part does not put off. Where nothing is kept or left,
        the reservation is committed.

        Raises:
            Failure: `RESERVATION_NOT_FOUND`; `RESERVATION_CLOSED` (`order_id`, `state`): it holds
                nothing any more; `RESERVATION_TOO_SMALL` (`order_id`, `product_id`, `held`,
                `requested_quantity`). Nothing ships, and the part's name is as new.
            IdempotencyConflictError: the part came before with another order, items or rest.
            StoreError: and its kinds.
        """
        if request.items is None:
            return await self.commit(request.order_id)
        work = partial(steps.ship_part, request=request, now_us=self._clock.wall_us())
        return await self._store.transaction(work)

    async def release(self, order_id: UUID) -> Reservation:
        """Put back what is held for an order. The same order again gets the same answer.

        Of one that has expired there is nothing to put back, and the answer says so: it stays
        expired. An order for which nothing is held is noted as released, so that a request to hold
        its stock that is still on its way takes no effect. Parts that have shipped stay shipped.

        Raises:
            Failure: `RESERVATION_CLOSED` (`order_id`, `state`): it has left the house.
            StoreError: and its kinds.
        """
        return await self._end(order_id, "released")

    async def expire(self) -> int:
        """Let go of every reservation whose time is up; returns how many these were.

        Any number of processes may do so at once: each reservation is let go by one.

        Raises:
            StoreError: and its kinds; those that were let go before stay so.
        """
        count, has_more = 0, True
        while has_more:
            work = partial(steps.expire, now_us=self._clock.wall_us())
            batch = await self._store.transaction(work)
            count, has_more = count + batch.expired, batch.has_more
        return count

    async def next_expiry_us(self) -> int | None:
        """Return when the next reservation is due, microseconds since the epoch; None: none is.

        Raises:
            StoreError: and its kinds.
        """
        return await self._store.read(steps.next_expiry)

    async def take_back(self, request: TakeBack) -> TakenBack:
        """Put units that were shipped for an order on the shelf again, as restocked ones.

        The same return again gets the same answer.

        Raises:
            Failure: `RESERVATION_NOT_FOUND`; `RETURN_TOO_LARGE` (`order_id`, `product_id`,
                `shipped`, `returned`, `requested_quantity`): all returns together would be more
                than was shipped. Nothing is taken back, and the return's name is as new.
            IdempotencyConflictError: the return came before with another order or other items.
            StoreError: and its kinds.
        """
        work = partial(steps.take_back, request=request, now_us=self._clock.wall_us())
        return await self._store.transaction(work)

    async def hold(self, request: CheckStock, key: str | None = None) -> StockAnswer:
        """Hold units of one product under an id of their own: the sample's operation.

        They are let go like those of an order, after the time that the settings say.

        Args:
            request: What to hold.
            key: The same key and request get the same answer, and hold nothing more.

        Raises:
            Failure: `PRODUCT_NOT_FOUND`.
            IdempotencyConflictError: the key came before with another request.
            StoreError: and its kinds.
        """
        work = partial(
            steps.hold,
            request=request,
            reservation_id=UUID(self._ids.uuid()),
            times=self._times(None),
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
        work = partial(
            _restock, request=request, delivery_id=self._ids.uuid(), now_us=self._clock.wall_us()
        )
        if key is None:
            return await self._store.transaction(work)
        return await self._store.once(key, request, work, StockLevel)

    async def level(self, product_id: UUID) -> StockLevel:
        """Return the stock of one product.

        Raises:
            Failure: `PRODUCT_NOT_FOUND`.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(rows.level, product_id=product_id))

    async def reservation(self, order_id: UUID) -> Reservation:
        """Return how the reservation of an order stands.

        Raises:
            Failure: `RESERVATION_NOT_FOUND`.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(_reservation, order_id=order_id))

    async def _end(self, order_id: UUID, state: steps.Ending) -> Reservation:
        now_us = self._clock.wall_us()
        work = partial(steps.end, order_id=order_id, state=state, now_us=now_us)
        return await self._store.transaction(work)

    def _times(self, hold_s: float | None) -> steps.Times:
        now_us = self._clock.wall_us()
        return steps.Times(now_us, now_us + int((hold_s or self._hold_s) * _US))


def _restock(tx: Transaction, *, request: Restock, delivery_id: str, now_us: int) -> StockLevel:
    steps.add_units(tx, {str(request.product_id): request.quantity})
    level = rows.level(tx, request.product_id)
    arrived = StockLine(request.product_id, request.quantity)
    rows.note_delivery(tx, delivery_id, arrived, now_us)
    return level


def _reservation(tx: Transaction, *, order_id: UUID) -> Reservation:
    row = rows.find(tx, order_id)
    lines = rows.lines_of(tx, str(order_id))
    missing = rows.missing_of(rows.wanted_of(row, lines), rows.held_in(lines))
    return rows.said(order_id, row.state, lines, row.expires_us, missing)
