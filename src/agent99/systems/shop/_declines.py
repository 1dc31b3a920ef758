"""Which payments are declined, which orders cancelled or waited for: by a hash, in every run alike.

Pure. Of the payments it is rule 9.
"""

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
        return _is_drawn(self.rate, self.seed, order_id)


class Regret(msgspec.Struct, frozen=True):
    """Which orders their customers cancel: a share, by a hash of their ids."""

    rate: float = 0.0
    seed: int = 0

    def cancels(self, order_id: UUID) -> bool:
        """Tell whether the customer of an order thinks better of it."""
        return _is_drawn(self.rate, f"cancel:{self.seed}", order_id)

    def is_hasty(self, order_id: UUID) -> bool:
        """Tell whether at once; else when it is confirmed."""
        return _is_drawn(0.5, f"hasty:{self.seed}", order_id)


class Patience(msgspec.Struct, frozen=True):
    """Which orders may be sent in two: a share, by a hash of their ids."""

    rate: float = 0.0
    seed: int = 0

    def waits(self, order_id: UUID) -> bool:
        """Tell whether the customer of an order waits for what is not in stock."""
        return _is_drawn(self.rate, f"wait:{self.seed}", order_id)


def _is_drawn(rate: float, seed: object, order_id: UUID) -> bool:
    """Tell whether an order is one of a share of all orders, 0 to 1; another seed, other orders."""
    drawn = sha256(f"{seed}:{order_id}".encode()).digest()
    return int.from_bytes(drawn[: _BITS // 8], "big") < rate * float(2**_BITS)
