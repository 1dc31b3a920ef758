"""What a node was asked."""

from __future__ import annotations

from collections.abc import Sequence

from agent99.systems.cache._words import Change, Outcome, Status, Verb


class Tally:
    """Counts since the node is there."""

    __slots__ = ("deletes", "gets", "hits", "sets")

    def __init__(self) -> None:
        self.gets = 0
        self.hits = 0
        self.sets = 0
        self.deletes = 0

    def __repr__(self) -> str:
        return f"Tally({self.counts()})"

    def changed(self, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> None:
        """Count changes that were made."""
        for change, outcome in zip(changes, outcomes, strict=True):
            if outcome.status == Status.DONE:
                if change.verb == Verb.DELETE:
                    self.deletes += 1
                else:
                    self.sets += 1

    def counts(self) -> dict[str, int]:
        """Return the counts by name."""
        return {
            "gets": self.gets,
            "sets": self.sets,
            "deletes": self.deletes,
            "hits": self.hits,
            "misses": self.gets - self.hits,
        }
