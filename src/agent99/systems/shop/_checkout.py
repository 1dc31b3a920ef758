"""One order from its request to its answer: what `order_processing` does, without the bus.

Every step is safe to repeat, because stock and payment are named by the order. So an order whose
outcome is unknown is left where it is and answered `PENDING`; the same key goes on from there.
"""

from __future__ import annotations

from typing import Final, Protocol
from uuid import UUID

from agent99.errors import Agent99Error, Failure, RequestError, TransportError
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._model import (
    INVENTORY_ERROR,
    PAYMENT_DECLINED,
    PAYMENT_ERROR,
    PENDING,
    PRODUCT_NOT_FOUND,
    Charge,
    ChargeReceipt,
    OrderConfirmation,
    PlaceOrder,
    Reservation,
    Reserve,
    StockLine,
)
from agent99.systems.shop._money import to_pounds
from agent99.systems.shop._order import Order, Refusal
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._states import OrderEvent, OrderState

_NO_STOCK: Final = frozenset({INVENTORY_ERROR, PRODUCT_NOT_FOUND})


class Services(Protocol):
    """What an order needs of others. Each call is repeated with the same order until it is known.

    A `Failure` is their answer; any other `RequestError`, or a `TransportError`, leaves it open
    whether the call took effect.
    """

    async def reserve(self, request: Reserve) -> Reservation:
        """Hold the stock of an order, all lines or none."""
        ...

    async def commit(self, order_id: UUID) -> Reservation:
        """Ship what is held."""
        ...

    async def release(self, order_id: UUID) -> Reservation:
        """Put back what is held."""
        ...

    async def charge(self, request: Charge) -> ChargeReceipt:
        """Take the money, once per order."""
        ...


class Checkout:
    """Takes orders to their end.

    Invariant: an order is confirmed only when it is paid for and its stock has left; it is rejected
    only when nothing of it is held and nothing was paid.
    """

    def __init__(self, orders: Orders, prices: PriceList, services: Services) -> None:
        self._orders = orders
        self._prices = prices
        self._services = services

    def __repr__(self) -> str:
        return f"Checkout({self._orders!r}, {self._prices!r})"

    async def place(self, request: PlaceOrder, key: str | None = None) -> OrderConfirmation:
        """Take an order, or go on with it, and return its confirmation.

        Args:
            request: The order.
            key: The same key is the same order and gets the same answer, across restarts.

        Raises:
            Failure: `PRICE_MISMATCH`, `INVENTORY_ERROR`, `PAYMENT_ERROR`: rejected, and the same
                again for the same key; `ORDER_TOO_LARGE`; `PENDING` (`order_id`, `state`, `cause`;
                retryable): not known yet.
            IdempotencyConflictError: the key came before with another order.
            StoreError: and its kinds.
        """
        order = await self._orders.take(request, key)
        if order.state is OrderState.RECEIVED:
            order = await self._reserve(order, request)
        if order.state in (OrderState.RESERVED, OrderState.PENDING_PAYMENT):
            order = await self._pay(order)
        if order.state is OrderState.PAID:
            order = await self._confirm(order)
        if order.refusal is not None:
            raise order.refusal.failure()
        return order.confirmation()

    async def _reserve(self, order: Order, request: PlaceOrder) -> Order:
        try:
            self._prices.refuse_invented(request.items)
        except Failure as mismatch:
            return await self._refuse(order, Refusal.of(mismatch))
        lines = tuple(StockLine(line.product_id, line.quantity) for line in request.items)
        try:
            await self._services.reserve(Reserve(order.order_id, lines))
        except (RequestError, TransportError) as error:
            if not isinstance(error, Failure) or error.code not in _NO_STOCK:
                raise _pending(order, error) from error
            refusal = Refusal(INVENTORY_ERROR, error.message, error.details)
            return await self._refuse(order, refusal)
        try:
            return await self._orders.move(order.order_id, OrderEvent.RESERVE)
        except IllegalTransitionError:
            # Another instance, with the same key, was refused the stock a moment before.
            await self._release(order)
            return await self._orders.find(order.order_id)

    async def _refuse(self, order: Order, refusal: Refusal) -> Order:
        try:
            return await self._orders.move(order.order_id, OrderEvent.REFUSE, refusal)
        except IllegalTransitionError as error:
            # Another instance, with the same key, got the stock a moment later.
            raise _pending(order, error) from error

    async def _pay(self, order: Order) -> Order:
        charge = Charge(
            customer_id=order.customer_id,
            amount=to_pounds(order.total_pence),
            order_id=order.order_id,
        )
        try:
            await self._services.charge(charge)
        except (RequestError, TransportError) as error:
            if isinstance(error, Failure) and error.code == PAYMENT_DECLINED:
                return await self._give_up(order, error)
            raise _pending(await self._lose_sight(order), error) from error
        return await self._orders.move(order.order_id, OrderEvent.PAY)

    async def _lose_sight(self, order: Order) -> Order:
        if order.state is not OrderState.RESERVED:
            return order
        try:
            return await self._orders.move(order.order_id, OrderEvent.LOSE_SIGHT_OF_PAYMENT)
        except IllegalTransitionError:
            return await self._orders.find(order.order_id)  # another instance knows more

    async def _give_up(self, order: Order, declined: Failure) -> Order:
        # The stock first: an order that is rejected already would never let go of it.
        await self._release(order)
        refusal = Refusal(PAYMENT_ERROR, declined.message, declined.details)
        return await self._orders.move(order.order_id, OrderEvent.DECLINE, refusal)

    async def _release(self, order: Order) -> None:
        try:
            await self._services.release(order.order_id)
        except (RequestError, TransportError) as error:
            raise _pending(order, error) from error

    async def _confirm(self, order: Order) -> Order:
        try:
            await self._services.commit(order.order_id)
        except (RequestError, TransportError) as error:
            raise _pending(order, error) from error
        return await self._orders.move(order.order_id, OrderEvent.CONFIRM)


def _pending(order: Order, cause: Agent99Error) -> Failure:
    return Failure(
        f"order {order.order_id} is {order.state} and its outcome is not known yet; ask again"
        " with the same key",
        code=PENDING,
        details={"order_id": str(order.order_id), "state": order.state.value, "cause": cause.code},
        retryable=True,
    )
