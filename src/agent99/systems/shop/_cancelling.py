"""An order that its customer does not want any more: a saga.

While the order is under way, its own saga is turned back. Once it is confirmed, its shipment stays
in the house, and goods and money go back. What has left the house cannot be cancelled. An
order's back-order is cancelled with it, unless that has left, or was rejected.
"""

from __future__ import annotations

from typing import Final, Protocol
from uuid import UUID

import msgspec

from agent99.errors import Failure
from agent99.saga import Saga, Step
from agent99.systems.shop._giving_back import GivingBack
from agent99.systems.shop._identity import derived_uuid, refund_uuid
from agent99.systems.shop._model import (
    ORDER_CLOSED,
    PAYMENT_NOT_FOUND,
    SHIPMENT_CLOSED,
    OrderCancelled,
)
from agent99.systems.shop._order import CANCELLED, CANCELS_REST, rest_of
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._payment_model import PaymentView
from agent99.systems.shop._return_model import OrderReturn
from agent99.systems.shop._returns import Returns
from agent99.systems.shop._states import ENDS, OrderEvent, OrderState

UNDER_WAY: Final = "ORDER_UNDER_WAY"
"""The code of what is tried again until the order has ended, and nothing of it is under way."""
END_S: Final = 7 * 86_400.0
"""Seconds for which the end of an order is waited for; who asks is told `PENDING` meanwhile."""


class Services(Protocol):
    """What a cancellation needs of others, each once for its id."""

    async def turn_back(self, saga_id: str) -> None:
        """Have an order's saga undone, if there is still a way back."""
        ...

    async def keep(self, order_id: UUID, key: str) -> None:
        """Keep an order's shipment in the house.

        Raises:
            Failure: `SHIPMENT_CLOSED`: it has left.
        """
        ...

    async def cancel_rest(self, order_id: UUID, key: str) -> OrderCancelled:
        """Cancel a back-order.

        Raises:
            Failure: `ORDER_CLOSED`: it has left, or was rejected; and so for ever.
        """
        ...

    async def payment(self, order_id: UUID, key: str) -> PaymentView:
        """Return the payment of an order.

        Raises:
            Failure: `PAYMENT_NOT_FOUND`.
        """
        ...


class Cancelling:
    """Cancels orders, whoever asks and however often: each step is named by the order."""

    def __init__(
        self, orders: Orders, returns: Returns, giving_back: GivingBack, services: Services
    ) -> None:
        self._orders = orders
        self._returns = returns
        self._giving_back = giving_back
        self._services = services

    def __repr__(self) -> str:
        return f"Cancelling({self._orders!r})"

    async def cancel(self, order_id: UUID, saga: Saga) -> OrderCancelled:
        """Have an order undone, or given back.

        Raises:
            Failure: `ORDER_NOT_FOUND`; `ORDER_CLOSED` (state): it was rejected, or has left.
        """
        state = await saga.step("stop", self.stop, order_id)
        if state not in ENDS:
            state = await saga.step("wait", self.wait, order_id, patience_s=END_S)
        if state is OrderState.REJECTED:
            raise _closed(order_id, state.value)
        if state is OrderState.CANCELLED:
            return OrderCancelled(order_id, await saga.step("refunded", self.refunded, order_id))
        await saga.pivot("keep", self.keep, order_id)
        whole = await saga.step("match", self.match, order_id)
        part = await saga.step("limit", self.limit, whole)
        await self._giving_back.settle(_return_id(order_id), part, saga)
        rest_pence = 0
        if saga.version >= CANCELS_REST:
            rest_pence = await saga.step("cancel rest", self.cancel_rest, order_id)
        await saga.step("close", self.close, part)
        return OrderCancelled(order_id, part.amount_pence + rest_pence)

    # --- steps ------------------------------------------------------------------------------------

    async def stop(self, step: Step, order_id: UUID) -> OrderState:
        """Turn the order back, if it is under way; return where it stood."""
        del step
        order = await self._orders.find(order_id)
        if order.state not in ENDS and order.saga_id:
            await self._services.turn_back(order.saga_id)
        return order.state

    async def wait(self, step: Step, order_id: UUID) -> OrderState:
        """Return how the order has ended."""
        del step
        order = await self._orders.find(order_id)
        if order.state not in ENDS:
            raise Failure(f"order {order_id} is {order.state}", code=UNDER_WAY, retryable=True)
        return order.state

    async def keep(self, step: Step, order_id: UUID) -> None:
        """Keep its shipment in the house: from here there is no way back."""
        try:
            await self._services.keep(order_id, step.key)
        except Failure as error:
            if error.code != SHIPMENT_CLOSED:
                raise
            raise _closed(order_id, "shipped") from error

    async def cancel_rest(self, step: Step, order_id: UUID) -> int:
        """Cancel its back-order, if it has one; return the pence that went back for that."""
        order, request = await self._orders.placed(order_id)
        rest, rest_id = rest_of(order, request), order.back_order_id
        if rest is None or rest_id is None:
            return 0
        if not await self._orders.has_begun(rest_id, rest):  # that there is none is an answer
            message = f"the back-order of order {order_id} has not begun"
            raise Failure(message, code=UNDER_WAY, retryable=True)
        try:
            cancelled = await self._services.cancel_rest(rest_id, step.key)
        except Failure as error:
            if error.code != ORDER_CLOSED:
                raise
            return 0
        return cancelled.refunded_pence

    async def match(self, step: Step, order_id: UUID) -> OrderReturn:
        """Find what is left of it, and note that it is given back."""
        del step
        return await self._returns.match_order(order_id, _return_id(order_id))

    async def limit(self, step: Step, part: OrderReturn) -> OrderReturn:
        """Return what comes back, for no more money than there is: some was refunded by hand."""
        payment = await self._services.payment(part.order_id, step.key)
        left = payment.captured_pence - payment.refunded_pence
        amount = _refunded(payment, part.order_id) or min(part.amount_pence, left)
        return msgspec.structs.replace(part, amount_pence=amount)

    async def close(self, step: Step, part: OrderReturn) -> None:
        """Write down that it is cancelled, once nothing of it is held, or owed."""
        del step
        order_id, is_noted = part.order_id, part.amount_pence > 0
        under_way = await self._returns.count_open(
            order_id, _return_id(order_id), is_noted=is_noted
        )
        if under_way > 0:
            message = f"{under_way} returns of order {order_id} are under way"
            raise Failure(message, code=UNDER_WAY, retryable=True)
        await self._orders.move(order_id, OrderEvent.CANCEL, CANCELLED)

    async def refunded(self, step: Step, order_id: UUID) -> int:
        """Return the pence that went back when it was cancelled, and its back-order with it."""
        order = await self._orders.find(order_id)
        pence = await self._refunded(order_id, step.key)
        if order.back_order_id is not None:
            pence += await self._refunded(order.back_order_id, step.key)
        return pence

    async def _refunded(self, order_id: UUID, key: str) -> int:
        try:
            return _refunded(await self._services.payment(order_id, key), order_id)
        except Failure as error:
            if error.code != PAYMENT_NOT_FOUND:
                raise
            return 0  # it was cancelled before anybody asked for money


def _refunded(payment: PaymentView, order_id: UUID) -> int:
    refund_id = refund_uuid(_return_id(order_id), order_id)
    return sum(each.amount_pence for each in payment.refunds if each.refund_id == refund_id)


def _return_id(order_id: UUID) -> UUID:
    return derived_uuid("cancelled", order_id)


def _closed(order_id: UUID, state: str) -> Failure:
    return Failure(
        f"order {order_id} is {state}, and cannot be cancelled any more",
        code=ORDER_CLOSED,
        details={"order_id": str(order_id), "state": state},
    )
