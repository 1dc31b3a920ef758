"""Which payments are declined: by a hash, so the same ones in every run (rule 9). Pure."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from agent99.errors import UsageError

_BITS = 64


class DeclineRule(msgspec.Struct, frozen=True):
    """Declines a share of all orders, chosen by their ids alone.

    Raises:
        UsageError: the rate is not between 0 and 1.
    """

    rate: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.05
    """The share: 0.0 declines nothing, 1.0 everything."""
    seed: int = 0
    """Another seed declines others."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate <= 1.0:
            message = f"the decline rate is {self.rate}; it must be between 0 and 1"
            raise UsageError(message)

    def declines(self, order_id: UUID) -> bool:
        """Tell whether the payment of an order is declined."""
        drawn = sha256(f"{self.seed}:{order_id}".encode()).digest()
        return int.from_bytes(drawn[: _BITS // 8], "big") < self.rate * float(2**_BITS)
