"""From a confirmed order to its shipment and its message: posted behind the customer's back.

A failure there undoes nothing: the customer has the confirmation. It is tried again, and ends in
quarantine if it cannot be done.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from agent99.systems.shop._model import Notify, PlaceOrder, Ship
from agent99.systems.shop._order import Order

if TYPE_CHECKING:
    from agent99.systems.shop._orders import Orders


class Aftercare(Protocol):
    """What follows a confirmed order. Returned = stored; the same order again is done once."""

    async def ship(self, request: Ship) -> None:
        """Have an order sent on its way."""
        ...

    async def notify(self, request: Notify) -> None:
        """Have a customer told."""
        ...


async def hand_over(orders: Orders, aftercare: Aftercare, order_id: UUID) -> None:
    """Have a confirmed order shipped, and its customer told; safe to repeat.

    Raises:
        Failure: `ORDER_NOT_FOUND`.
        StoreError: and its kinds.
        what `aftercare` raises; the other half may have been stored.
    """
    order, request = await orders.placed(order_id)
    await asyncio.gather(
        aftercare.ship(Ship(order_id, request.items, request.shipping_address)),
        aftercare.notify(_message(order, request)),
    )


def _message(order: Order, request: PlaceOrder) -> Notify:
    confirmation = order.confirmation()
    return Notify(
        type="order_confirmation",
        customer_id=request.customer_id,
        order_id=order.order_id,
        template_data={
            "total": str(confirmation.total),
            "estimated_delivery": confirmation.estimated_delivery.isoformat(),
        },
    )
