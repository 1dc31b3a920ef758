"""Whether an audit log is what was once written: the first entry that is not, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from agent99.systems.events._entry import AuditEntry, Head, seal

Rule = Literal["gap", "link", "hash", "anchor", "head", "tail"]


class Breach(msgspec.Struct, frozen=True):
    """The first thing that is wrong."""

    number: int
    """Of the first entry that is bad, or missing."""
    rule: Rule
    message: str


class Proof(msgspec.Struct, frozen=True):
    """What came of looking at a whole audit log."""

    entries: int
    """Of those that were looked at, all up to the breach are sound."""
    head: str
    """The hash of the last sound one, in hexadecimal: write it down elsewhere."""
    anchors: int
    """Heads that were written down in the mesh and agree."""
    breach: Breach | None = None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.breach is None


class Verifier:
    """Is given all entries in their order, then how it should end; keeps the first breach.

    Args:
        anchors: Hashes by number of entry, as they were written down elsewhere in their time.
    """

    def __init__(self, anchors: Mapping[int, bytes] | None = None) -> None:
        self.head = Head()
        """The last entry that was sound."""
        self.breach: Breach | None = None
        self._anchors = dict(anchors or {})
        self._agreed = 0
        self._reached: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"Verifier({self.head.number}, breach={self.breach!r})"

    def look(self, entries: Iterable[AuditEntry]) -> bool:
        """Look at the next entries; returns False, and looks no further, when one is bad."""
        for entry in entries:
            if self.breach is None:
                self._look_at(entry)
            if self.breach is not None:
                return False
        return self.breach is None

    def end(self, head: Head, positions: Mapping[int, int]) -> Proof:
        """Compare the end of the chain with what else tells where it should be.

        Args:
            head: What the database says is its end.
            positions: By partition, the place in the log up to which its events are in the chain;
                read in the same moment as `head`.
        """
        if self.breach is None:
            self._compare_end(head, positions)
        if self.breach is None and self._anchors:
            number = min(self._anchors)
            self._fail(number, "anchor", "it was anchored, and is not there")
        return Proof(self.head.number, self.head.hash.hex(), self._agreed, self.breach)

    def _look_at(self, entry: AuditEntry) -> None:
        expected = self.head.number + 1
        if entry.number != expected:
            there = f"the next one that is there is {entry.number}"
            return self._fail(expected, "gap", f"it is missing; {there}")
        if entry.hash != seal(entry):
            return self._fail(expected, "hash", "its content is not what its hash was made of")
        if entry.previous != self.head.hash:
            return self._fail(expected, "link", "it does not follow the entry before it")
        if expected in self._anchors:
            if self._anchors.pop(expected) != entry.hash:
                return self._fail(expected, "anchor", "another entry was anchored in its place")
            self._agreed += 1
        self.head = Head(expected, entry.hash)
        if entry.sequence > self._reached.get(entry.partition, 0):
            self._reached[entry.partition] = entry.sequence
        return None

    def _compare_end(self, head: Head, positions: Mapping[int, int]) -> None:
        after = self.head.number + 1
        if head != self.head:
            ends = f"the chain should end with entry {head.number}, {head.hash.hex()[:12]}…"
            return self._fail(min(after, head.number + 1), "head", ends)
        begin = min(positions.values(), default=0)
        for partition, position in sorted(positions.items()):
            reached = self._reached.get(partition, begin)
            if reached < position:
                what = f"partition {partition} was written up to {position} of the log"
                return self._fail(after, "tail", f"{what}, and the chain knows it up to {reached}")
        return None

    def _fail(self, number: int, rule: Rule, message: str) -> None:
        self.breach = Breach(number, rule, message)
