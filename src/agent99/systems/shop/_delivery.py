"""What is asked of fulfilment and notification beside what the sample has, and the answers."""

from __future__ import annotations

from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from agent99.systems.shop._aftercare import ShipmentState
from agent99.systems.shop._model import Channel, Part, StockLine

Mode: TypeAlias = Literal["up", "down", "mute"]
"""Of a channel of the pretend provider: it works; it refuses; it works and does not answer."""


class CancelShipment(msgspec.Struct, frozen=True):
    """Do not hand a part of an order to its carrier."""

    order_id: UUID
    part: Part = 1


class ShipmentView(msgspec.Struct, frozen=True):
    """One shipment as it stands."""

    order_id: UUID
    part: int
    shipment_id: UUID
    status: ShipmentState
    carrier: str | None
    """None: it was cancelled before anybody asked for it."""
    items: tuple[StockLine, ...]
    """Empty where it was cancelled before, or shipped by a version that did not keep them."""
    leaves_us: int | None
    """When it leaves, or would have left, by itself; None: it was not held back."""
    at_us: int
    """Since when it stands so, microseconds since the epoch, UTC."""


class OrderShipments(msgspec.Struct, frozen=True):
    """What fulfilment knows of an order."""

    order_id: UUID
    shipments: tuple[ShipmentView, ...]
    """By part; empty where nothing was asked for. Which parts are to come only the order knows."""


class SetProvider(msgspec.Struct, frozen=True):
    """Let channels of the pretend provider work, or fail."""

    channel: Channel | None = None
    """None: all of them."""
    mode: Mode | None = None
    """None: they stay as they are."""


class ProviderView(msgspec.Struct, frozen=True):
    """The pretend provider as it stands."""

    modes: dict[Channel, Mode]
    sent: int
    """Messages that customers got."""
    calls: int
    """Requests to send one that came through, repeated ones included."""
