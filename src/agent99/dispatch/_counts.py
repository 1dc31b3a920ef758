"""What an instance has done, in numbers."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agent99.dispatch._call import Call
from agent99.dispatch._tally import Tally
from agent99.dispatch._witness import Witness


class Statistics(msgspec.Struct, frozen=True):
    """The counts of one instance at one moment."""

    requests: int
    """Taken on, since the start."""
    errors: int
    """Of them, answered with an error."""
    refused: int
    """Answered with an error before an operation began; not among `requests`."""
    in_flight: int
    waiting: int
    processing_ns: int
    """Time spent in handlers, in all; divide by `requests` for the mean."""
    dropped: dict[str, int]
    """Messages that were never answered, by reason."""
    last_error: str


class Counts:
    """What became of the messages that reached no operation."""

    __slots__ = ("_witness", "dropped", "last_error", "refused")

    def __init__(self, witness: Witness) -> None:
        self._witness = witness
        self.refused = 0
        """Answered with an error before an operation began."""
        self.dropped: dict[str, int] = {}
        self.last_error = ""

    def __repr__(self) -> str:
        return f"Counts(refused={self.refused}, dropped={self.dropped})"

    def statistics(self, tallies: Sequence[Tally], *, in_flight: int, waiting: int) -> Statistics:
        """Return these counts and those of all operations together."""
        return Statistics(
            requests=sum(tally.requests for tally in tallies),
            errors=sum(tally.errors for tally in tallies),
            refused=self.refused,
            in_flight=in_flight,
            waiting=waiting,
            processing_ns=sum(tally.processing_ns for tally in tallies),
            dropped=dict(self.dropped),
            last_error=self.last_error,
        )

    def drop(self, reason: str, call: Call | None = None) -> None:
        """Count a message that will not be answered, and tell."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self._witness.dropped(reason, call)
