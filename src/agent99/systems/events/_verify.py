"""Whether an audit log is what was once written: the first entry that is not, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from agent99.systems.events._entry import AuditEntry, Head, seal

Rule = Literal["gap", "link", "hash", "place", "anchor", "head", "tail"]


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


class End(msgspec.Struct, frozen=True, kw_only=True):
    """What else tells how a chain should end; all of it read in one moment."""

    head: Head
    """What the database says is its end."""
    last: int
    """The highest number that an entry has; 0: there is none."""
    first: int
    """The lowest one; 1, where there is none."""
    positions: Mapping[int, tuple[int, int]]
    """By partition, behind which place in the mesh's log the chain began, and up to which place its
    events are in the chain."""


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

    def end(self, end: End) -> Proof:
        """Compare the end of the chain with what else tells where it should be."""
        if self.breach is None:
            self._compare_end(end)
        if self.breach is None and self._anchors:
            number = min(self._anchors)
            self._fail(number, "anchor", "it was anchored, and is not there")
        return Proof(self.head.number, self.head.hash.hex(), self._agreed, self.breach)

    def _look_at(self, entry: AuditEntry) -> None:
        expected = self.head.number + 1
        if entry.number != expected:
            there = f"the next one that is there is {entry.number}"
            return self._fail(expected, "gap", f"it is missing; {there}")
        if not _is_sealed(entry):
            return self._fail(expected, "hash", "its content is not what its hash was made of")
        if entry.previous != self.head.hash:
            return self._fail(expected, "link", "it does not follow the entry before it")
        if entry.sequence <= self._reached.get(entry.partition, 0):
            where = f"place {entry.sequence} of partition {entry.partition}"
            return self._fail(expected, "place", f"it is of {where}, which is behind it already")
        if expected in self._anchors:
            if self._anchors.pop(expected) != entry.hash:
                return self._fail(expected, "anchor", "another entry was anchored in its place")
            self._agreed += 1
        self.head = Head(expected, entry.hash)
        self._reached[entry.partition] = entry.sequence
        return None

    def _compare_end(self, end: End) -> None:
        after = self.head.number + 1
        if end.first < 1:
            return self._fail(end.first, "head", "no entry of the chain has such a number")
        if end.last > end.head.number:
            return self._fail(end.head.number + 1, "head", "it is behind the end of the chain")
        if end.head != self.head:
            ends = f"entry {end.head.number}, {end.head.hash.hex()[:12]}…"
            number = min(after, end.head.number + 1)
            return self._fail(number, "head", f"the chain should end with {ends}")
        for partition in sorted({*end.positions, *self._reached}):
            begun, position = end.positions.get(partition, (0, 0))
            reached = self._reached.get(partition, begun)
            if reached != position:
                what = f"partition {partition} was written up to {position} of the log"
                return self._fail(after, "tail", f"{what}, and the chain knows it up to {reached}")
        return None

    def _fail(self, number: int, rule: Rule, message: str) -> None:
        self.breach = Breach(number, rule, message)


def _is_sealed(entry: AuditEntry) -> bool:
    """Tell whether an entry has the hash that it must have; no other kind of value has one."""
    try:
        return entry.hash == seal(entry)
    except (TypeError, ValueError):
        return False
