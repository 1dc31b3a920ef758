"""What `order_processing` asks of the other agents, over the mesh."""

from __future__ import annotations

from typing import Any, Final, TypeVar
from uuid import UUID

from agent99 import Agent
from agent99.systems.shop._asking import Asker
from agent99.systems.shop._model import (
    Charge,
    ChargeReceipt,
    Notified,
    Notify,
    OrderQuery,
    Reservation,
    Reserve,
    Ship,
    Shipment,
)

T = TypeVar("T")

ANSWER_S_MAX: Final = 0.5
"""Seconds that are kept of a customer's time: to write down what is not known, and to say so."""
ANSWER_SHARE: Final = 0.2
"""The same as a share of the time that is left, for customers in a hurry."""
AFTERCARE_S: Final = 10.0
"""Seconds for a shipment or a message, all tries together; nobody waits for it."""


class MeshServices:
    """Inventory, payment, fulfilment and notification, whoever serves them now.

    Every request carries a key that follows from its order, and is asked again until it is answered
    or the customer's time is up.
    """

    def __init__(self, agent: Agent, asker: Asker) -> None:
        self._agent = agent
        self._asker = asker

    def __repr__(self) -> str:
        return f"MeshServices({self._agent!r})"

    async def reserve(self, request: Reserve) -> Reservation:
        """Hold the stock of an order, all lines or none."""
        key = f"{request.order_id}:reserve"
        return await self._ask("inventory", "reserve", request, Reservation, key)

    async def commit(self, order_id: UUID) -> Reservation:
        """Ship what is held."""
        query = OrderQuery(order_id)
        return await self._ask("inventory", "commit", query, Reservation, f"{order_id}:commit")

    async def release(self, order_id: UUID) -> Reservation:
        """Put back what is held."""
        query = OrderQuery(order_id)
        return await self._ask("inventory", "release", query, Reservation, f"{order_id}:release")

    async def charge(self, request: Charge) -> ChargeReceipt:
        """Take the money, once per order."""
        key = f"{request.order_id}:charge"
        return await self._ask("payment", "request", request, ChargeReceipt, key)

    async def ship(self, request: Ship) -> Shipment:
        """Send an order on its way; outside of any customer's request."""
        key = f"{request.order_id}:ship"
        return await self._ask("fulfillment", "request", request, Shipment, key, AFTERCARE_S)

    async def notify(self, request: Notify) -> Notified:
        """Tell a customer; outside of any customer's request."""
        key = f"{request.order_id}:notify"
        return await self._ask("notification", "request", request, Notified, key, AFTERCARE_S)

    async def _ask(
        self,
        capability: str,
        operation: str,
        payload: Any,
        returns: type[T],
        key: str,
        budget_s: float | None = None,
    ) -> T:
        async def call(timeout_s: float) -> T:
            return await self._agent.request(
                capability,
                operation,
                payload,
                returns=returns,
                timeout_s=timeout_s,
                idempotency_key=key,
            )

        if budget_s is None:
            left_s = self._agent.context.remaining_s()
            budget_s = left_s - min(ANSWER_S_MAX, left_s * ANSWER_SHARE)
        return await self._asker.ask(call, budget_s=budget_s)
