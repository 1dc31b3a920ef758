"""The orders of the shop, in SQL: taken once, moved by the state table, never forgotten.

Any number of processes may share one database.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final
from uuid import UUID

from agent99.clock import Clock
from agent99.errors import Failure
from agent99.ids import Ids
from agent99.store import Store
from agent99.systems.shop import _order_rows as rows
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._events import CustomerTold, OrderShipped
from agent99.systems.shop._model import (
    Backlog,
    MessageType,
    Notify,
    OrderView,
    PlaceOrder,
    StockLine,
)
from agent99.systems.shop._money import MONEY_PENCE_MAX, to_pounds
from agent99.systems.shop._order import Order, Refusal
from agent99.systems.shop._states import OrderEvent

ORDER_TOO_LARGE: Final = "ORDER_TOO_LARGE"
_ADD_PRICE = (
    "INSERT INTO prices (product_id, price_pence) VALUES (:product_id, :price_pence)"
    " ON CONFLICT DO NOTHING"
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

    async def take(self, request: PlaceOrder, order_id: UUID, saga_id: str = "") -> Order:
        """Store an order as received, once, and return it as it stands by now.

        Args:
            request: The order.
            order_id: The same id is the same order, across restarts.
            saga_id: What takes it to its end.

        Raises:
            Failure: `ORDER_TOO_LARGE`: the total is beyond the bound of money; not stored.
            IdempotencyConflictError: the id came before with another order.
            StoreError: and its kinds.
        """
        if request.total_pence > MONEY_PENCE_MAX:
            raise Failure(
                f"the order's total is above {to_pounds(MONEY_PENCE_MAX)}", code=ORDER_TOO_LARGE
            )
        work = partial(
            rows.take, order_id=order_id, request=request, saga_id=saga_id, at=self._at()
        )
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
            refusal: Why, where it ends rejected or cancelled; kept for whoever asks again.

        Raises:
            IllegalTransitionError: the order's state does not take the event; nothing changed.
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        work = partial(rows.move, order_id=order_id, event=event, refusal=refusal, at=self._at())
        return await self._store.transaction(work)

    async def take_apart(self, order_id: UUID, missing: tuple[StockLine, ...]) -> Order:
        """Let an order, of which a part is held, be of that part; the rest is its back-order.

        Done again it changes nothing. Returns the order as it stands then, with its new total.

        Raises:
            IllegalTransitionError: it has ended already; nothing changed.
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        work = partial(rows.take_apart, order_id=order_id, missing=missing, at=self._at())
        return await self._store.transaction(work)

    async def note_shipment(self, shipped: OrderShipped) -> None:
        """Write into an order's history that it is on its way, once; its state stays as it is.

        Raises:
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        work = partial(rows.note_shipment, shipped=shipped, now_us=self._clock.wall_us())
        await self._store.transaction(work)

    async def note_message(self, told: CustomerTold) -> None:
        """Write down that a customer was told something, once.

        Raises:
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        work = partial(rows.note_message, told=told, now_us=self._clock.wall_us())
        await self._store.transaction(work)

    async def owed(self, order_id: UUID, kind: MessageType) -> tuple[Notify, ...]:
        """Return what the customer of an order is to be told and was not yet, of one type.

        Raises:
            StoreError: and its kinds.
        """
        return await self._store.read(partial(rows.owed_messages, order_id=order_id, kind=kind))

    async def backlog(self) -> Backlog:
        """Return what follows the orders and is not done yet.

        Raises:
            StoreError: and its kinds.
        """
        to_ship, to_tell = await self._store.read(rows.unfollowed)
        return Backlog(to_ship, to_tell, (await self._store.outbox.counts()).waiting)

    async def placed(self, order_id: UUID) -> tuple[Order, PlaceOrder]:
        """Return an order as it stands, and as it was asked for.

        Raises:
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(rows.placed, order_id=order_id))

    async def find(self, order_id: UUID) -> Order:
        """Return an order as it stands.

        Raises:
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(rows.find, order_id=order_id))

    async def has_begun(self, order_id: UUID, request: PlaceOrder) -> bool:
        """Tell whether an order was taken.

        Raises:
            IdempotencyConflictError: another one was taken under its id.
            StoreError: and its kinds.
        """
        work = partial(rows.has_begun, order_id=order_id, request=request)
        return await self._store.read(work)

    async def count_waiting(self) -> int:
        """Return how many orders wait for stock.

        Raises:
            StoreError: and its kinds.
        """
        return await self._store.read(rows.count_waiting)

    async def view(self, order_id: UUID) -> OrderView:
        """Return an order with its lines and its history.

        Raises:
            Failure: `ORDER_NOT_FOUND`.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(rows.view, order_id=order_id))

    async def add_prices(self, prices: PriceList) -> None:
        """Add prices to the price list; those that are there already stay.

        Raises:
            StoreError: and its kinds.
        """
        added = [{"product_id": str(key), "price_pence": pence} for key, pence in prices]
        if added:
            await self._store.transaction(lambda tx: tx.execute(_ADD_PRICE, added).changed)

    async def price_list(self) -> PriceList:
        """Return the price list, to be kept in memory.

        Raises:
            StoreError: and its kinds.
        """
        return await self._store.read(rows.price_list)

    def _at(self) -> rows.Moment:
        return rows.Moment(self._clock.wall_us(), self._traceparent())
