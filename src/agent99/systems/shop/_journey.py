"""One order from its request to its answer: a saga, whose steps are here, without the bus.

Each step asks one other agent and then moves the order, both named by the order, so that it can be
repeated. Stock is held, then money; both are let go of again if a later step fails. The stock is
committed before the money is taken: once it is, only the confirmation is left, and nothing of that
can be refused.

What is not in stock may be waited for (`if_short`), by the whole order or by the rest of it. The
rest is an order of its own, its back-order, with its own payment: what customers have not got they
have not paid for, and either can be cancelled without the other. It begins when the first is
confirmed.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec

from agent99.errors import (
    Agent99Error,
    Failure,
    RequestError,
    StoreError,
    StoreUnavailableError,
    TransportError,
)
from agent99.saga import Saga, Step, Undo
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._identity import derived_uuid, order_uuid
from agent99.systems.shop._model import (
    INVENTORY_ERROR,
    PAYMENT_DECLINED,
    PAYMENT_ERROR,
    PRODUCT_NOT_FOUND,
    RESERVATION_CLOSED,
    Lines,
    OrderConfirmation,
    OrderLine,
    PlaceOrder,
    Reservation,
    Reserve,
    StockLine,
)
from agent99.systems.shop._money import to_pounds
from agent99.systems.shop._order import CANCELLED, Order, Refusal, units_of
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._payment_model import Authorisation, Authorise, CaptureReceipt
from agent99.systems.shop._price_cache import CachedPrices
from agent99.systems.shop._states import ENDS, OrderEvent, OrderState

PAYMENT_WINDOW_S: Final = 600.0
"""Seconds for which an order waits for the bank's word; then it is rejected, and its stock let go.
Less than stock is held."""
BACK_ORDER_S: Final = 30 * 86_400.0
"""Seconds for which an order waits for stock; then it is rejected."""
WAITING_MAX: Final = 500
"""Orders that wait for stock: half of the sagas that one instance may have in hand, so that there
is always room for those that do not wait, and for who cancels."""
_NO_STOCK: Final = frozenset({INVENTORY_ERROR, PRODUCT_NOT_FOUND})


class Services(Protocol):
    """What an order needs of others, each once for its order, however often it is asked for.

    A `Failure` is their answer; any other `RequestError`, or a `TransportError`, leaves it open
    whether the call took effect.
    """

    async def reserve(self, request: Reserve, key: str) -> Reservation:
        """Hold the stock of an order, all lines or none."""
        ...

    async def commit(self, order_id: UUID, key: str) -> Reservation:
        """Ship what is held."""
        ...

    async def release(self, order_id: UUID, key: str) -> Reservation:
        """Put back what is held."""
        ...

    async def take_back(
        self, order_id: UUID, return_id: UUID, items: tuple[StockLine, ...], key: str
    ) -> None:
        """Put back what was shipped."""
        ...

    async def authorise(self, request: Authorise, key: str) -> Authorisation:
        """Hold the money."""
        ...

    async def void(self, order_id: UUID, key: str) -> None:
        """Let go of the money."""
        ...

    async def capture(self, order_id: UUID, key: str) -> CaptureReceipt:
        """Take the money that is held."""
        ...


class Journey:
    """Takes orders through their steps, and lets go of what one held that cannot be had."""

    def __init__(
        self, orders: Orders, prices: PriceList | CachedPrices, services: Services
    ) -> None:
        self._orders = orders
        self._prices = prices
        self._services = services

    def __repr__(self) -> str:
        return f"Journey({self._orders!r})"

    async def place(self, request: PlaceOrder, saga: Saga) -> OrderConfirmation:
        """Take an order, and bring it to its confirmation.

        Raises:
            Failure: it is refused, with the sample's code; nothing of it is held any more.
        """
        order_id = saga.uuid() if saga.key is None else order_uuid(saga.key)
        order = await saga.step("take", self.take, request, order_id, undo=self.reject)
        if order.refusal is not None:
            raise order.refusal.failure()
        if order.state is OrderState.CONFIRMED:  # long ago: nobody keeps its saga any more
            return order.confirmation()
        order = await self._hold(request, order, saga)
        await saga.step(
            "authorise",
            self.authorise,
            order,
            undo=self.void,
            patience_s=PAYMENT_WINDOW_S,
        )
        await saga.step("commit", self.commit, order_id, patience_s=PAYMENT_WINDOW_S)
        await saga.pivot("capture", self.capture, order_id)
        await saga.step("confirm", self.confirm, order_id)
        return order.confirmation()

    async def _hold(self, request: PlaceOrder, order: Order, saga: Saga) -> Order:
        """Have the stock held, and return the order of what is."""
        order_id, items = order.order_id, request.items
        if request.if_short == "refuse":
            await saga.step("reserve", self.reserve, order_id, items, undo=self.let_stock_go)
            return order
        held: Order | None = await saga.step(
            "hold", self.hold, order_id, request, undo=self.let_held_go
        )
        if held is not None:
            return held
        try:
            stocked: Order = await saga.step(
                "await stock",
                self.await_stock,
                *(order_id, request),
                undo=self.let_held_go,
                patience_s=BACK_ORDER_S,
            )
        except Failure as error:  # its time is up: asking again makes no difference
            raise Failure(error.message, code=error.code, details=error.details) from error
        return stocked

    # --- steps ------------------------------------------------------------------------------------

    async def take(self, step: Step, request: PlaceOrder, order_id: UUID) -> Order:
        """Store the order as received."""
        return await self._orders.take(request, order_id, step.saga_id)

    async def reject(self, undo: Undo[Order], request: PlaceOrder, order_id: UUID) -> None:
        """Reject the order, once nothing of it is held, for the reason that it failed with.

        One that was cancelled is not rejected but cancelled. One that was never stored is stored
        for that: a step that comes late finds it rejected.
        """
        order = await self._orders.take(request, order_id, undo.saga_id)
        if order.state in ENDS:
            return
        if undo.is_cancelled:
            await self._move(order_id, OrderEvent.CANCEL, CANCELLED)
            return
        refusal = Refusal(undo.error.code, undo.error.message, undo.error.details)
        is_new = order.state in (OrderState.RECEIVED, OrderState.BACK_ORDERED)
        await self._move(order_id, OrderEvent.REFUSE if is_new else OrderEvent.DECLINE, refusal)

    async def _check_prices(self, items: Lines) -> None:
        prices = self._prices
        if not isinstance(prices, PriceList):
            prices = await prices.known(items)
        prices.refuse_invented(items)

    async def reserve(self, step: Step, order_id: UUID, items: Lines) -> None:
        """Hold the stock, if every line quotes a price of the list."""
        await self._check_prices(items)
        try:
            await self._services.reserve(Reserve(order_id, units_of(items)), step.key)
        except Failure as error:
            if error.code not in _NO_STOCK:
                raise
            raise Failure(error.message, code=INVENTORY_ERROR, details=error.details) from error
        await self._move(order_id, OrderEvent.RESERVE)

    async def hold(self, step: Step, order_id: UUID, request: PlaceOrder) -> Order | None:
        """Hold the stock, or what there is of it; None: it is to be waited for.

        An order of which a part is held is of that part from now on.
        """
        await self._check_prices(request.items)
        wanted = Reserve(order_id, units_of(request.items))
        if request.if_short == "split":
            wanted = msgspec.structs.replace(wanted, if_short="part")
        try:
            held = await self._services.reserve(wanted, step.key)
        except Failure as error:
            if error.code not in _NO_STOCK:
                raise
            if error.code == PRODUCT_NOT_FOUND or await self._is_crowded(order_id):
                raise Failure(error.message, code=INVENTORY_ERROR, details=error.details) from error
            await self._wait_for(order_id)
            return None
        return await self._held(order_id, held)

    async def await_stock(self, step: Step, order_id: UUID, request: PlaceOrder) -> Order:
        """Hold the stock, as soon as all of it is there."""
        wanted = Reserve(order_id, units_of(request.items))
        try:
            held = await self._services.reserve(wanted, step.key)
        except Failure as error:
            if error.code != INVENTORY_ERROR:
                raise
            raise Failure(
                error.message, code=error.code, details=error.details, retryable=True
            ) from error
        return await self._held(order_id, held)

    async def let_held_go(self, undo: Undo[Any], order_id: UUID, request: PlaceOrder) -> None:
        """Put back what is held of the order, or what has been committed already.

        What that was the order says: who died, or was overtaken, does not know.
        """
        del request
        _, kept = await self._orders.placed(order_id)
        await self._let_go(undo.key, order_id, kept.items)

    async def let_stock_go(self, undo: Undo[None], order_id: UUID, items: Lines) -> None:
        """Put the stock back on the shelf: what is held, or what has been committed already."""
        await self._let_go(undo.key, order_id, items)

    async def authorise(self, step: Step, order: Order) -> None:
        """Hold the money; while nobody knows whether it is held, the order says so."""
        amount = to_pounds(order.total_pence)
        request = Authorise(order.customer_id, amount, order.order_id)
        try:
            await self._services.authorise(request, step.key)
        except Failure as error:
            if error.code == PAYMENT_DECLINED:
                raise Failure(error.message, code=PAYMENT_ERROR, details=error.details) from error
            if error.code == StoreUnavailableError.code:  # it went away in the middle, perhaps
                await self._lose_sight(order.order_id)
            raise
        except (RequestError, StoreError, TransportError):
            await self._lose_sight(order.order_id)
            raise
        await self._move(order.order_id, OrderEvent.AUTHORISE)

    async def void(self, undo: Undo[None], order: Order) -> None:
        """Let go of the money."""
        await self._services.void(order.order_id, undo.key)

    async def commit(self, step: Step, order_id: UUID) -> None:
        """Make the stock the customer's."""
        await self._services.commit(order_id, step.key)

    async def capture(self, step: Step, order_id: UUID) -> None:
        """Take the money."""
        await self._services.capture(order_id, step.key)
        await self._move(order_id, OrderEvent.PAY)

    async def confirm(self, step: Step, order_id: UUID) -> None:
        """Confirm the order: what follows it begins."""
        del step
        await self._move(order_id, OrderEvent.CONFIRM)

    # --- inside -----------------------------------------------------------------------------------

    async def _held(self, order_id: UUID, held: Reservation) -> Order:
        """Move an order whose stock is held; it becomes one of that, whoever had it held.

        A request to hold a part may have been overtaken by the answer to another one.
        """
        if held.missing:
            return await self._written(self._orders.take_apart(order_id, held.missing))
        return await self._move(order_id, OrderEvent.RESERVE)

    async def _wait_for(self, order_id: UUID) -> None:
        """Let an order wait for its stock.

        Raises:
            Failure: its stock is held by now; ask once more.
        """
        try:
            await self._orders.move(order_id, OrderEvent.AWAIT_STOCK)
        except IllegalTransitionError as error:
            raise Failure(str(error), code=error.code, retryable=True) from error

    async def _is_crowded(self, order_id: UUID) -> bool:
        """Tell whether too many others wait already."""
        order = await self._orders.find(order_id)
        if order.state is OrderState.BACK_ORDERED:
            return False
        return await self._orders.count_waiting() >= WAITING_MAX

    async def _let_go(self, key: str, order_id: UUID, items: tuple[OrderLine, ...]) -> None:
        try:
            await self._services.release(order_id, key)
        except Failure as error:
            if error.code != RESERVATION_CLOSED:
                raise
            return_id = derived_uuid("undone", order_id)
            await self._services.take_back(order_id, return_id, units_of(items), key)

    async def _lose_sight(self, order_id: UUID) -> None:
        try:
            await self._orders.move(order_id, OrderEvent.LOSE_SIGHT_OF_PAYMENT)
        except (IllegalTransitionError, Agent99Error):
            return  # it is known by now, or nothing can be written: the step is tried again

    async def _move(
        self, order_id: UUID, event: OrderEvent, refusal: Refusal | None = None
    ) -> Order:
        return await self._written(self._orders.move(order_id, event, refusal))

    async def _written(self, change: Awaitable[Order]) -> Order:
        """Return an order after a change of it.

        Raises:
            RuntimeError: it does not take the change. No `Failure`: a step that fails with one took
                no effect, and what this one asked for is held by now.
            StoreError: and its kinds: it can be changed later.
        """
        try:
            return await change
        except (Failure, IllegalTransitionError, StoreError) as error:
            if error.retryable:
                raise
            raise RuntimeError(f"the order cannot be changed so: {error}") from error
