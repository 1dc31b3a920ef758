"""What an instance has done, in numbers."""

from __future__ import annotations

import msgspec


class Statistics(msgspec.Struct, frozen=True):
    """The counts of one instance at one moment."""

    requests: int
    """Taken on, since the start."""
    errors: int
    """Answered with an error: by an operation, or before one began."""
    in_flight: int
    waiting: int
    processing_ns: int
    """Time spent in handlers, in all; divide by `requests` for the mean."""
    dropped: dict[str, int]
    """Messages that were never answered, by reason."""
    last_error: str


class Tally:
    """What became of the requests for one operation; plain attributes: the hot path writes them."""

    __slots__ = ("errors", "last_error", "processing_ns", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.processing_ns = 0
        self.last_error = ""

    def __repr__(self) -> str:
        return f"Tally(requests={self.requests}, errors={self.errors})"


class Counts:
    """What became of the messages that reached no operation."""

    __slots__ = ("dropped", "last_error", "refused")

    def __init__(self) -> None:
        self.refused = 0
        """Answered with an error before an operation began."""
        self.dropped: dict[str, int] = {}
        self.last_error = ""

    def __repr__(self) -> str:
        return f"Counts(refused={self.refused}, dropped={self.dropped})"

    def drop(self, reason: str) -> None:
        """Count a message that will not be answered."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
