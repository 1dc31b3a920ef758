"""What follows an order: shipments and messages, how they are named, what they may become. Pure.

They are named by their order: the same part asked for twice is one shipment, the same message asked
for twice is one message.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Final, Literal, TypeAlias
from uuid import UUID

import msgspec

from agent99.systems.shop._identity import derived_uuid
from agent99.systems.shop._model import Channel, MessageType, Notify, Ship, Shipment

_AT_HOME: Final = ("Royal Mail", "Parcelforce", "Evri")
_ABROAD: Final = ("DHL", "DPD")
_HOME: Final = "United Kingdom"

ShipmentState: TypeAlias = Literal["prepared", "shipped", "cancelled"]
BECOMES: Final[Mapping[ShipmentState, frozenset[ShipmentState]]] = MappingProxyType(
    {
        "prepared": frozenset({"shipped", "cancelled"}),
        "shipped": frozenset[ShipmentState](),
        "cancelled": frozenset[ShipmentState](),
    }
)
"""What a shipment of each state may become; what is not here does not happen."""


def ship(request: Ship) -> Shipment:
    """Return the shipment of a part; the carrier follows from the country and the order."""
    carriers = _AT_HOME if request.shipping_address.country == _HOME else _ABROAD
    drawn = sha256(request.order_id.bytes).digest()[0]
    return Shipment(
        shipment_id=shipment_uuid(request.order_id, request.part),
        carrier=carriers[drawn % len(carriers)],
        status="prepared" if request.hold_s > 0 else "shipped",
        part=request.part,
    )


def shipment_uuid(order_id: UUID, part: int) -> UUID:
    """Return the id of a part's shipment."""
    return derived_uuid(_numbered("shipment", part), order_id)


def ship_fingerprint(request: Ship) -> str:
    """Return a hash of what is shipped where; 1.1 and "1.10" are the same price.

    How long it is held back is no part of it: a request that comes again is the same with another.
    """
    lines = [(line.product_id, line.quantity, line.unit_price_pence) for line in request.items]
    return _hashed((lines, request.shipping_address))


def notification_uuid(order_id: UUID, kind: MessageType, number: int) -> UUID:
    """Return the id of a message."""
    return derived_uuid(_numbered(kind, number), order_id)


def notify_fingerprint(request: Notify) -> str:
    """Return a hash of what a customer is told."""
    return _hashed(request)


def channels(customer_id: UUID) -> tuple[Channel, ...]:
    """Return all channels, the one that a customer likes best first: one in ten wants a text."""
    wants_sms = customer_id.bytes[0] % 10 == 0
    return ("sms", "email") if wants_sms else ("email", "sms")


def _numbered(what: str, number: int) -> str:
    """Return the name of the first of several without its number: it had none before."""
    return what if number == 1 else f"{what}:{number}"


def _hashed(said: object) -> str:
    return sha256(msgspec.json.encode(said, order="sorted")).hexdigest()
