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
        if not 0 <= self.after < 2**63:
            raise UsageError(f"after is {self.after}; it must be 0 or more, and less than 2**63")
        if "*" in self.type and ">" in self.type:
            raise UsageError(f"{self.type!r} has `*` and `>`: ask by one of them")
        if self.type:
            parse_pattern(self.type)
        for name in ("actor", "entity", "correlation"):
            check_text(name, getattr(self, name))


def check_text(name: str, text: str) -> None:
    """Refuse what no database can hold.

    Raises:
        UsageError
    """
    if "\0" in text or not text.isprintable():
        raise UsageError(f"{name} is {text!r}; it must be text that can be printed")
