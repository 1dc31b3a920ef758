"""From an order's event to its shipment and its messages: posted behind the customer's back.

A failure there undoes nothing: the customer has the confirmation. It is tried again, and ends in
quarantine if it cannot be done.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from agent99.errors import Failure
from agent99.systems.shop._identity import order_uuid, rest_key
from agent99.systems.shop._model import MessageType, Notify, PlaceOrder, Ship
from agent99.systems.shop._order import rest_of
from agent99.systems.shop._states import OrderState

if TYPE_CHECKING:
    from agent99.systems.shop._orders import Orders


NOT_BEGUN: Final = "BACK_ORDER_NOT_BEGUN"


class Aftercare(Protocol):
    """What follows a confirmed order. Returned = stored; the same order again is done once."""

    async def ship(self, request: Ship) -> None:
        """Have an order sent on its way."""
        ...

    async def notify(self, request: Notify) -> None:
        """Have a customer told."""
        ...

    async def order_rest(self, request: PlaceOrder, key: str) -> None:
        """Have a back-order begun; its end is not waited for."""
        ...


async def hand_over(
    orders: Orders, aftercare: Aftercare, order_id: UUID, *, hold_s: float = 0.0
) -> None:
    """Have a confirmed order shipped, its customer told, and its back-order begun; safe to repeat.

    One that was cancelled meanwhile is not shipped. Its back-order is begun all the same: who
    cancels an order waits for it, and cancels it too.

    Args:
        hold_s: Seconds for which it stays in the house, to be cancelled.

    Raises:
        Failure: `ORDER_NOT_FOUND`; `BACK_ORDER_NOT_BEGUN`: nobody took it so far.
        IdempotencyConflictError: another order was placed under the key of its back-order.
        StoreError: and its kinds.
        what `aftercare` raises; the others may have been stored.
    """
    order, request = await orders.placed(order_id)
    telling = tell(orders, aftercare, order_id, "order_confirmation")
    if order.state is OrderState.CONFIRMED:
        shipment = Ship(order_id, request.items, request.shipping_address, hold_s=hold_s)
        await asyncio.gather(aftercare.ship(shipment), telling)
    else:
        await telling
    rest = rest_of(order, request)
    if rest is not None:  # at last: what cannot begin holds nothing up
        await _begin(orders, aftercare, rest, rest_key(order_id))


async def _begin(orders: Orders, aftercare: Aftercare, rest: PlaceOrder, key: str) -> None:
    """Have a back-order begun, and see that it is."""
    if await orders.has_begun(order_uuid(key), rest):
        return
    await aftercare.order_rest(rest, key)
    if not await orders.has_begun(order_uuid(key), rest):
        raise Failure("the back-order has not begun", code=NOT_BEGUN, retryable=True)


async def tell(orders: Orders, aftercare: Aftercare, order_id: UUID, kind: MessageType) -> None:
    """Have a customer told what is owed of a type; safe to repeat.

    Raises:
        StoreError: and its kinds.
        what `aftercare` raises; some of them may have been stored.
    """
    for message in await orders.owed(order_id, kind):
        await aftercare.notify(message)
