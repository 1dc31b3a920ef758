"""Whether an audit log is what was once written: the first entry that is not, and why. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec

from agent99.systems.events._entry import FIELDS, GENESIS, Head, Row, digest_of

_TEXTS: Final = slice(FIELDS.index("event_id"), FIELDS.index("correlation") + 1)
_IS_REPEAT: Final = FIELDS.index("is_repeat")
_TRUTH: Final = {0: (False,), 1: (True,)}
"""SQL has no truth values."""

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
        self.breach: Breach | None = None
        self._number = 0
        self._hash = GENESIS
        self._anchors = dict(anchors or {})
        self._agreed = 0
        self._reached: dict[int, int] = {}

    def __repr__(self) -> str:
        return f"Verifier({self._number}, breach={self.breach!r})"

    @property
    def head(self) -> Head:
        """The last entry that was sound."""
        return Head(self._number, self._hash)

    def look(self, rows: Iterable[Row]) -> bool:
        """Look at the next entries; returns False, and looks no further, when one is bad."""
        try:
            return self.breach is None and all(map(self._is_next, rows))
        except (KeyError, TypeError, ValueError):
            return self._fail(self._number + 1, "hash", "what stands in it is no entry's")

    def end(self, end: End) -> Proof:
        """Compare the end of the chain with what else tells where it should be."""
        if self.breach is None and self._ends_as(end) and self._anchors:
            number = min(self._anchors)
            self._fail(number, "anchor", "it was anchored, and is not there")
        return Proof(self._number, self._hash.hex(), self._agreed, self.breach)

    def _is_next(self, row: Row) -> bool:
        number, _, _, _, _, _, _, _, partition, sequence, is_repeat, event, previous, digest = row
        expected = self._number + 1
        if number != expected:
            return self._fail(expected, "gap", f"it is missing; the next one there is {number}")
        "".join(row[_TEXTS])  # which only texts can be; JSON would make one of bytes
        if digest != digest_of(previous, row[:_IS_REPEAT] + _TRUTH[is_repeat], event):
            return self._fail(expected, "hash", "its content is not what its hash was made of")
        if previous != self._hash:
            return self._fail(expected, "link", "it does not follow the entry before it")
        if sequence <= self._reached.get(partition, 0):
            where = f"place {sequence} of partition {partition}"
            return self._fail(expected, "place", f"it is of {where}, which is behind it already")
        if expected in self._anchors:
            if self._anchors.pop(expected) != digest:
                return self._fail(expected, "anchor", "another entry was anchored in its place")
            self._agreed += 1
        self._number, self._hash = expected, digest
        self._reached[partition] = sequence
        return True

    def _ends_as(self, end: End) -> bool:
        after = self._number + 1
        if end.first < 1:
            return self._fail(end.first, "head", "no entry of the chain has such a number")
        if end.last > end.head.number:
            return self._fail(end.head.number + 1, "head", "it is behind the end of the chain")
        if end.head != self.head:
            ends = f"entry {end.head.number}, {end.head.hash.hex()[:12]}…"
            number = min(after, end.head.number + 1)
            return self._fail(number, "head", f"the chain should end with {ends}")
        for partition in sorted({*end.positions, *self._reached}, key=str):
            begun, position = end.positions.get(partition, (0, 0))
            reached = self._reached.get(partition, begun)
            if reached != position:
                what = f"partition {partition} was written up to {position} of the log"
                return self._fail(after, "tail", f"{what}, and the chain knows it up to {reached}")
        return True

    def _fail(self, number: int, rule: Rule, message: str) -> Literal[False]:
        self.breach = Breach(number, rule, message)
        return False
