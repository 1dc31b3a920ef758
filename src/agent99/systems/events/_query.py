"""What is asked of the audit log. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from agent99.envelope import parse_pattern
from agent99.errors import UsageError

ENTRIES_MAX: Final = 10_000
"""Of one answer to a query."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries; what is empty or None does not matter.

    Raises:
        UsageError: the limit.
        InvalidNameError: the type.
    """

    type: str = ""
    """The topic; `order.*` and `order.>` stand for several, as in subscriptions."""
    actor: str = ""
    entity: str = ""
    correlation: str = ""
    since_us: int | None = None
    """Stored then or later, microseconds since the epoch."""
    until_us: int | None = None
    """Stored before."""
    after: int = 0
    """Entries with a higher number: the last one of the page before."""
    limit: int = 1_000
    """1 to 10,000."""

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= ENTRIES_MAX:
            raise UsageError(f"limit is {self.limit}; it must be 1 to {ENTRIES_MAX:,}")
        if self.type:
            parse_pattern(self.type)
