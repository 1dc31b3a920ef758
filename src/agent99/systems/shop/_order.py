"""One order as a value: how it stands, why it was refused, what followed it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from agent99.errors import Failure
from agent99.systems.shop._model import ORDER_CANCELLED, OrderConfirmation
from agent99.systems.shop._money import to_pounds
from agent99.systems.shop._states import OrderState

DELIVERY_DAYS: Final = 7


class Refusal(msgspec.Struct, frozen=True):
    """Why an order was rejected, in the words that its customer was told."""

    code: str
    message: str
    details: Mapping[str, Any] = {}

    @classmethod
    def of(cls, failure: Failure) -> Refusal:
        """Return what a failure says."""
        return cls(failure.code, failure.message, failure.details)

    def failure(self) -> Failure:
        """Return the failure again."""
        return Failure(self.message, code=self.code, details=self.details)


CANCELLED: Final = Refusal(ORDER_CANCELLED, "it was cancelled; nothing of it is owed")
"""What is said of an order that was cancelled."""


class Step(StrEnum):
    """What follows a confirmed order: entries of its history that leave its state as it is."""

    SHIP = "ship"
    NOTIFY = "notify"


class Order(msgspec.Struct, frozen=True):
    """An order as it stands, without its lines."""

    order_id: UUID
    customer_id: UUID
    state: OrderState
    total_pence: int
    received_us: int
    refusal: Refusal | None = None
    """Why it was rejected, or cancelled."""
    saga_id: str = ""
    """What takes it to its end; empty: it was taken before anybody noted that."""

    def confirmation(self) -> OrderConfirmation:
        """Return the customer's answer: the same whenever it is asked for."""
        received = datetime.fromtimestamp(self.received_us // 1_000_000, UTC).date()
        return OrderConfirmation(
            order_id=self.order_id,
            total=to_pounds(self.total_pence),
            estimated_delivery=received + timedelta(days=DELIVERY_DAYS),
            total_pence=self.total_pence,
        )
