"""What leaves the shop by its outboxes: topics, and what each event says. Pure.

Every event is keyed by its order, so that those of one order stay in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from uuid import UUID

import msgspec

from agent99.systems.shop._model import Channel
from agent99.systems.shop._states import OrderState

PREPARED: Final = "shipment.prepared"
SHIPPED: Final = "shipment.shipped"
SHIPMENT_CANCELLED: Final = "shipment.cancelled"
TOLD: Final = "notification.sent"
REFUNDED: Final = "order.refunded"


def order_topic(state: str) -> str:
    """Return the topic of the orders that come into a state."""
    return f"order.{state}"


class OrderMoved(msgspec.Struct, frozen=True):
    """An order took a step: the same as an entry of its history."""

    order_id: UUID
    customer_id: UUID
    step: int
    """Starts at 0 and counts up by one."""
    event: str
    state: str
    """The state after it."""
    total_pence: int
    at_us: int
    """When, microseconds since the epoch, UTC."""
    reason: str | None = None
    """Why it was rejected: an error code."""


class ShipmentPrepared(msgspec.Struct, frozen=True):
    """An order, or a part of it, is held back for a while; one that is not skips this."""

    order_id: UUID
    shipment_id: UUID
    carrier: str
    at_us: int
    leaves_us: int
    """When it leaves by itself, unless it is cancelled."""
    part: int = 1


class OrderShipped(msgspec.Struct, frozen=True):
    """An order, or a part of it, is with a carrier."""

    order_id: UUID
    shipment_id: UUID
    carrier: str
    at_us: int
    part: int = 1


class ShipmentCancelled(msgspec.Struct, frozen=True):
    """An order, or a part of it, will not be with a carrier."""

    order_id: UUID
    shipment_id: UUID
    at_us: int
    part: int = 1


class CustomerTold(msgspec.Struct, frozen=True):
    """A message about an order is with a provider."""

    order_id: UUID
    customer_id: UUID
    notification_id: UUID
    type: str
    channel: Channel
    at_us: int
    number: int = 1
    """Which of several of its type."""


class OrderRefunded(msgspec.Struct, frozen=True):
    """Money was given back for an order: the same as an entry of its history."""

    order_id: UUID
    customer_id: UUID
    refund_id: UUID
    step: int
    amount_pence: int
    at_us: int


Told: TypeAlias = (
    OrderMoved | OrderRefunded | ShipmentPrepared | OrderShipped | ShipmentCancelled | CustomerTold
)
"""Whatever the shop tells of an order."""
_KINDS: Final[Mapping[str, type[Told]]] = MappingProxyType(
    {
        **{order_topic(state): OrderMoved for state in OrderState},
        REFUNDED: OrderRefunded,
        PREPARED: ShipmentPrepared,
        SHIPPED: OrderShipped,
        SHIPMENT_CANCELLED: ShipmentCancelled,
        TOLD: CustomerTold,
    }
)


def read_told(topic: str, body: bytes | Mapping[str, Any]) -> Told | None:
    """Return what an event says; None: its topic is none of the shop's.

    Args:
        topic: The event's.
        body: The stored message, or its payload by name.

    Raises:
        msgspec.ValidationError: it says something else than its topic.
        msgspec.DecodeError: the message is no JSON.
    """
    kind = _KINDS.get(topic)
    if kind is None:
        return None
    if isinstance(body, bytes):
        return msgspec.json.decode(body, type=kind)  # the header stands among the fields
    return msgspec.convert(body, kind)
