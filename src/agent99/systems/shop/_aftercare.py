"""What follows a confirmed order: a shipment and a message. Pure.

Both are named by their order: the same order asked for twice is one shipment and one message.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Final, Literal

from agent99.systems.shop._identity import derived_uuid
from agent99.systems.shop._model import Notified, Notify, Ship, Shipment

_AT_HOME: Final = ("Royal Mail", "Parcelforce", "Evri")
_ABROAD: Final = ("DHL", "DPD")
_HOME: Final = "United Kingdom"
_CHANNELS: Final[Mapping[bool, Literal["email", "sms"]]] = {True: "sms", False: "email"}


def ship(request: Ship) -> Shipment:
    """Return the shipment of an order; the carrier follows from the country and the order."""
    carriers = _AT_HOME if request.shipping_address.country == _HOME else _ABROAD
    drawn = sha256(request.order_id.bytes).digest()[0]
    return Shipment(
        shipment_id=derived_uuid("shipment", request.order_id),
        carrier=carriers[drawn % len(carriers)],
    )


def notify(request: Notify) -> Notified:
    """Return the message about an order: one in ten customers wants a text, the others a letter."""
    wants_sms = request.customer_id.bytes[0] % 10 == 0
    return Notified(
        notification_id=derived_uuid(request.type, request.order_id), channel=_CHANNELS[wants_sms]
    )
