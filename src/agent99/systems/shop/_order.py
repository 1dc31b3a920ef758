"""One order as a value: how it stands, why it was refused, what followed it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from agent99.errors import Failure
from agent99.systems.shop._identity import order_uuid, rest_key
from agent99.systems.shop._model import (
    ORDER_CANCELLED,
    OrderConfirmation,
    OrderLine,
    PlaceOrder,
    StockLine,
)
from agent99.systems.shop._money import to_pounds
from agent99.systems.shop._states import OrderState

DELIVERY_DAYS: Final = 7
WAITS_FOR_STOCK: Final = 2
"""The version of the saga that takes orders since which they may wait for stock."""
CANCELS_REST: Final = 2
"""The version of the saga that cancels an order since which it cancels its back-order, too."""


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
    back_ordered: tuple[OrderLine, ...] | UnsetType = UNSET
    """What was not there when it was taken apart: the lines of its back-order. Unset, and so not
    written, where all was: journals know an order by what it wrote before there was the field."""

    @property
    def back_order_id(self) -> UUID | None:
        """The order of what was not there; None: all of it was."""
        return order_uuid(rest_key(self.order_id)) if self.back_ordered else None

    def confirmation(self) -> OrderConfirmation:
        """Return the customer's answer: the same whenever it is asked for."""
        received = datetime.fromtimestamp(self.received_us // 1_000_000, UTC).date()
        back_order_id = self.back_order_id
        return OrderConfirmation(
            order_id=self.order_id,
            total=to_pounds(self.total_pence),
            estimated_delivery=received + timedelta(days=DELIVERY_DAYS),
            total_pence=self.total_pence,
            back_order_id=UNSET if back_order_id is None else back_order_id,
            back_ordered=UNSET if self.back_ordered is UNSET else units_of(self.back_ordered),
        )


def rest_of(order: Order, request: PlaceOrder) -> PlaceOrder | None:
    """Return the back-order of an order, which waits for its stock; None: it has none."""
    if order.back_ordered is UNSET:
        return None
    return msgspec.structs.replace(request, items=order.back_ordered, if_short="wait")


def units_of(lines: tuple[OrderLine, ...]) -> tuple[StockLine, ...]:
    """Return what is to be in stock for an order's lines."""
    return tuple(StockLine(line.product_id, line.quantity) for line in lines)


def take_apart(
    lines: tuple[OrderLine, ...], missing: Iterable[StockLine]
) -> tuple[tuple[OrderLine | None, ...], tuple[OrderLine, ...]]:
    """Return an order's lines without what is missing, and lines of that.

    Of several lines of one product the first are served first. A line of which nothing is there is
    None, so that the others keep their places.
    """
    lacking = {each.product_id: each.quantity for each in missing}
    kept: list[OrderLine | None] = []
    rest: list[OrderLine] = []
    for line in reversed(lines):
        short = min(line.quantity, lacking.get(line.product_id, 0))
        if not short:
            kept.append(line)
            continue
        lacking[line.product_id] -= short
        rest.append(msgspec.structs.replace(line, quantity=short))
        left = line.quantity - short
        kept.append(msgspec.structs.replace(line, quantity=left) if left else None)
    return tuple(reversed(kept)), tuple(reversed(rest))
