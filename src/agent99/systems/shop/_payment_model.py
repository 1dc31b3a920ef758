"""The messages of a payment in two phases, beside the sample's charge: held, taken or let go, back.

What happens to a payment is named by its order, and a refund by an id of its own: asked for twice
it is done once, and gets the same answer. What a request repeats differently is refused.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta

from agent99.systems.shop._money import MONEY_PENCE_MAX, Money, to_pence

PAYMENT_CLOSED: Final = "PAYMENT_CLOSED"
CAPTURE_TOO_LARGE: Final = "CAPTURE_TOO_LARGE"
REFUND_TOO_LARGE: Final = "REFUND_TOO_LARGE"

REFUNDS_SHOWN_MAX: Final = 500
"""Refunds in one view: what fits into a message, however long their reasons are."""

PaymentState: TypeAlias = Literal["authorised", "captured", "declined", "voided"]
_Pence: TypeAlias = Annotated[int, Meta(ge=1, le=MONEY_PENCE_MAX)]


class Authorise(msgspec.Struct, frozen=True):
    """Hold money of a customer for an order."""

    customer_id: UUID
    amount: Money
    order_id: UUID
    currency: Literal["GBP"] = "GBP"

    def __post_init__(self) -> None:
        to_pence(self.amount, "amount")

    @property
    def amount_pence(self) -> int:
        """The amount in pence."""
        return to_pence(self.amount, "amount")


class Authorisation(msgspec.Struct, frozen=True):
    """The money was held; the answer stays the same, whatever has become of it since."""

    payment_id: UUID
    order_id: UUID
    authorised_pence: int


class Capture(msgspec.Struct, frozen=True):
    """Take the money that is held for an order."""

    order_id: UUID
    amount_pence: _Pence | None = None
    """At most what is held: the rest is let go. None: all of it."""


class CaptureReceipt(msgspec.Struct, frozen=True):
    """The money was taken, and the rest let go."""

    payment_id: UUID
    order_id: UUID
    captured_pence: int
    released_pence: int
    """What was held and not taken."""
    transaction_id: str
    """`txn_` and 32 hexadecimal digits."""


class Voided(msgspec.Struct, frozen=True):
    """Nothing is held for the order, and nothing will be."""

    payment_id: UUID
    order_id: UUID
    state: Literal["voided", "declined"]
    """`declined`: the bank had refused, and there was nothing to let go."""
    released_pence: int
    """What was held; 0 where nothing ever was."""


class Refund(msgspec.Struct, frozen=True):
    """Give money back, of what was taken for an order."""

    order_id: UUID
    refund_id: UUID
    """Names it: made by who asks, the same on every retry, another for every other refund."""
    amount_pence: _Pence
    reason: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class RefundReceipt(msgspec.Struct, frozen=True):
    """The money went back."""

    refund_id: UUID
    payment_id: UUID
    order_id: UUID
    amount_pence: int
    transaction_id: str
    """`txn_` and 32 hexadecimal digits; another than the capture's."""


class RefundView(msgspec.Struct, frozen=True):
    """One refund of a payment."""

    refund_id: UUID
    amount_pence: int
    reason: str | None
    transaction_id: str
    at_us: int
    """When, microseconds since the epoch, UTC."""


class PaymentView(msgspec.Struct, frozen=True):
    """One payment as it stands. `refunded <= captured <= amount`, always."""

    payment_id: UUID
    customer_id: UUID | None
    """None where it was voided before anybody asked for it."""
    order_id: UUID | None
    state: PaymentState
    amount_pence: int
    """What was authorised or declined."""
    captured_pence: int
    """What was taken; 0 in every state but `captured`."""
    refunded_pence: int
    """What of that went back."""
    transaction_id: str | None
    """Of the capture; None where nothing was taken."""
    refunds: tuple[RefundView, ...] = ()
    """The oldest first; of more than `REFUNDS_SHOWN_MAX` the latest."""
