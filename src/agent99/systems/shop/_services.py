"""What `order_processing` asks of the other agents, over the mesh."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, TypeVar
from uuid import UUID

from agent99 import Agent
from agent99.errors import DeadlineExceededError, Failure, UsageError
from agent99.saga import PENDING, Desk
from agent99.systems.shop._delivery import CancelShipment, ShipmentView
from agent99.systems.shop._model import (
    Notify,
    OrderCancelled,
    OrderConfirmation,
    OrderQuery,
    PlaceOrder,
    Reservation,
    Reserve,
    Ship,
    StockLine,
)
from agent99.systems.shop._payment_model import (
    Authorisation,
    Authorise,
    Capture,
    CaptureReceipt,
    PaymentView,
    Refund,
    RefundReceipt,
    Voided,
)
from agent99.systems.shop._stock_model import Commit, TakeBack, TakenBack

T = TypeVar("T")

ATTEMPT_S: Final = 2.0
"""Seconds until a request that brought no answer is given up, and made again."""
BEGIN_S: Final = 0.5
"""Seconds for the answer of a saga that is to begin, which is that it goes on, or has ended."""


class MeshServices:
    """Inventory, payment, fulfilment and notification, whoever serves them now.

    Every request carries the key of its step. What nobody waits for is posted, under a key of the
    order.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def __repr__(self) -> str:
        return f"MeshServices({self._agent!r})"

    async def reserve(self, request: Reserve, key: str) -> Reservation:
        """Hold the stock of an order, all lines or none."""
        return await self._ask("inventory", "reserve", request, Reservation, key)

    async def commit(self, order_id: UUID, key: str) -> Reservation:
        """Ship what is held."""
        return await self._ask("inventory", "commit", Commit(order_id), Reservation, key)

    async def release(self, order_id: UUID, key: str) -> Reservation:
        """Put back what is held."""
        return await self._ask("inventory", "release", OrderQuery(order_id), Reservation, key)

    async def take_back(
        self, order_id: UUID, return_id: UUID, items: tuple[StockLine, ...], key: str
    ) -> None:
        """Put back what was shipped."""
        request = TakeBack(order_id, return_id, items)
        await self._ask("inventory", "take_back", request, TakenBack, key)

    async def authorise(self, request: Authorise, key: str) -> Authorisation:
        """Hold the money."""
        return await self._ask("payment", "authorise", request, Authorisation, key)

    async def void(self, order_id: UUID, key: str) -> None:
        """Let go of the money."""
        await self._ask("payment", "void", OrderQuery(order_id), Voided, key)

    async def capture(self, order_id: UUID, key: str) -> CaptureReceipt:
        """Take the money that is held."""
        return await self._ask("payment", "capture", Capture(order_id), CaptureReceipt, key)

    async def refund(self, order_id: UUID, refund_id: UUID, amount_pence: int, key: str) -> None:
        """Give money back."""
        request = Refund(order_id, refund_id, amount_pence)
        await self._ask("payment", "refund", request, RefundReceipt, key)

    async def turn_back(self, saga_id: str) -> None:
        """Have an order's saga undone, if there is still a way back."""
        with suppress(UsageError):  # it has ended, or goes only forward: what became of it is seen
            await Desk(self._agent).cancel(saga_id)

    async def keep(self, order_id: UUID, key: str) -> None:
        """Keep an order's shipment in the house."""
        await self._ask("fulfillment", "cancel", CancelShipment(order_id), ShipmentView, key)

    async def payment(self, order_id: UUID, key: str) -> PaymentView:
        """Return the payment of an order."""
        return await self._ask("payment", "query", OrderQuery(order_id), PaymentView, key)

    async def ship(self, request: Ship) -> None:
        """Have an order sent on its way."""
        key = f"{request.order_id}:ship" + (f":{request.part}" if request.part > 1 else "")
        await self._agent.post("fulfillment", "request", request, idempotency_key=key)

    async def order_rest(self, request: PlaceOrder, key: str) -> None:
        """Ask for a back-order; its end is not waited for, and whether it has begun is not said."""
        try:
            await self._agent.request(
                "order_processing",
                payload=request,
                returns=OrderConfirmation,
                timeout_s=BEGIN_S,
                idempotency_key=key,
            )
        except DeadlineExceededError:
            return  # who asked looks whether it has begun
        except Failure as error:  # it goes on, or has ended: the same
            if error.retryable and error.code != PENDING:
                raise

    async def cancel_rest(self, order_id: UUID, key: str) -> OrderCancelled:
        """Cancel a back-order."""
        return await self._ask(
            "order_processing", "cancel", OrderQuery(order_id), OrderCancelled, key
        )

    async def notify(self, request: Notify) -> None:
        """Have a customer told."""
        key = f"{request.order_id}:notify"
        if request.type != "order_confirmation":
            key = f"{key}:{request.type}:{request.number}"
        await self._agent.post("notification", "request", request, idempotency_key=key)

    async def _ask(
        self, capability: str, operation: str, payload: Any, returns: type[T], key: str
    ) -> T:
        return await self._agent.request(
            capability,
            operation,
            payload,
            returns=returns,
            timeout_s=ATTEMPT_S,
            idempotency_key=key,
        )
