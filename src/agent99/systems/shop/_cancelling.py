"""An order that its customer does not want any more: a saga.

While the order is under way, its own saga is turned back. Once it is confirmed, its shipment stays
in the house, and goods and money go back. What has left the house cannot be cancelled.
"""

from __future__ import annotations

from typing import Final, Protocol
from uuid import UUID

from agent99.errors import Failure
from agent99.saga import Saga, Step
from agent99.systems.shop._identity import derived_uuid
from agent99.systems.shop._journey import PAYMENT_WINDOW_S
from agent99.systems.shop._model import (
    ORDER_CLOSED,
    SHIPMENT_CLOSED,
    OrderCancelled,
    StockLine,
)
from agent99.systems.shop._order import CANCELLED
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._return_model import OrderReturn
from agent99.systems.shop._returns import Returns
from agent99.systems.shop._states import ENDS, OrderEvent, OrderState

UNDER_WAY: Final = "ORDER_UNDER_WAY"
"""The code of what is tried again until the order has ended."""


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

    async def take_back(
        self, order_id: UUID, return_id: UUID, items: tuple[StockLine, ...], key: str
    ) -> None:
        """Put back what was shipped."""
        ...

    async def refund(self, order_id: UUID, refund_id: UUID, amount_pence: int, key: str) -> None:
        """Give money back."""
        ...


class Cancelling:
    """Cancels orders, whoever asks and however often: each step is named by the order."""

    def __init__(self, orders: Orders, returns: Returns, services: Services) -> None:
        self._orders = orders
        self._returns = returns
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
            state = await saga.step("wait", self.wait, order_id, patience_s=PAYMENT_WINDOW_S)
        if state is OrderState.REJECTED:
            raise _closed(order_id, state.value)
        if state is OrderState.CONFIRMED:
            await saga.pivot("keep", self.keep, order_id)
        part = await saga.step("match", self.match, order_id)
        if state is OrderState.CONFIRMED:
            await self._settle(part, saga)
        return OrderCancelled(order_id, part.amount_pence)

    async def _settle(self, part: OrderReturn, saga: Saga) -> None:
        if part.items:
            await saga.step("take back", self.take_back, part)
        if part.amount_pence:
            await saga.step("refund", self.refund, part)
            await saga.step("note", self.note, part)
        await saga.step("close", self.close, part.order_id)

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

    async def match(self, step: Step, order_id: UUID) -> OrderReturn:
        """Find what is left of it, and note that it is given back."""
        del step
        return await self._returns.match_order(order_id, _return_id(order_id))

    async def take_back(self, step: Step, part: OrderReturn) -> None:
        """Put its goods on the shelf again."""
        order_id = part.order_id
        await self._services.take_back(order_id, _return_id(order_id), part.items, step.key)

    async def refund(self, step: Step, part: OrderReturn) -> None:
        """Give its money back."""
        order_id = part.order_id
        await self._services.refund(order_id, _return_id(order_id), part.amount_pence, step.key)

    async def note(self, step: Step, part: OrderReturn) -> None:
        """Write the refund into its history."""
        del step
        await self._returns.note(_return_id(part.order_id), part)

    async def close(self, step: Step, order_id: UUID) -> None:
        """Write down that it is cancelled: by now nothing of it is held, or owed."""
        del step
        await self._orders.move(order_id, OrderEvent.CANCEL, CANCELLED)


def _return_id(order_id: UUID) -> UUID:
    return derived_uuid("cancelled", order_id)


def _closed(order_id: UUID, state: str) -> Failure:
    return Failure(
        f"order {order_id} is {state}, and cannot be cancelled any more",
        code=ORDER_CLOSED,
        details={"order_id": str(order_id), "state": state},
    )
