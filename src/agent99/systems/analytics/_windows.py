"""The windows into which records fall by their time; all are half-open: start ≤ time < end. Pure.

Windows that overlap are made of panes, which do not: a record is added to one pane, however many
windows show it (Li et al., "No pane, no gain", SIGMOD Record 34(1), 2005).
"""

from __future__ import annotations

from math import gcd
from typing import Final

import msgspec

from agent99.errors import UsageError

SECOND_US: Final = 1_000_000
SECONDS_MAX: Final = 100 * 366 * 86_400
"""A century: the longest window, delay or lateness."""
PANES_MAX: Final = 10_000
"""Of which a window is made, at most."""


class Tumbling(msgspec.Struct, frozen=True, tag=True):
    """Windows of one length, side by side from the epoch on: hours, days (UTC).

    Raises:
        UsageError: the length is below a microsecond, or above a century.
    """

    size_s: float
    """Seconds; a whole number of microseconds."""

    def __post_init__(self) -> None:
        check_seconds("size_s", self.size_s, us_min=1)

    @property
    def size_us(self) -> int:
        """The length, microseconds."""
        return _us(self.size_s)

    @property
    def pane_us(self) -> int:
        """The length of a pane: the window's."""
        return self.size_us


class Hopping(msgspec.Struct, frozen=True, tag=True):
    """Windows of one length, of which one begins every so often: the last hour, each 5 minutes.

    Raises:
        UsageError: a length is below a microsecond, windows would leave gaps, or they would be made
            of more than 10,000 panes.
    """

    size_s: float
    every_s: float
    """Seconds between two beginnings; at most the size."""

    def __post_init__(self) -> None:
        check_seconds("size_s", self.size_s, us_min=1)
        check_seconds("every_s", self.every_s, us_min=1)
        if self.every_s > self.size_s:
            raise UsageError(
                f"hops of {self.every_s} s leave gaps between windows of {self.size_s}"
            )
        if self.size_us > PANES_MAX * self.pane_us:
            raise UsageError(
                f"{self.size_s} s each {self.every_s} s: more than {PANES_MAX:,} panes in a window"
            )

    @property
    def size_us(self) -> int:
        """The length, microseconds."""
        return _us(self.size_s)

    @property
    def every_us(self) -> int:
        """Between two beginnings, microseconds."""
        return _us(self.every_s)

    @property
    def pane_us(self) -> int:
        """The length of a pane: what both lengths are multiples of."""
        return gcd(self.size_us, self.every_us)


class Sliding(msgspec.Struct, frozen=True, tag=True):
    """One window for each moment at which a key has records: what came in the `size_s` up to it.

    The window of the moment t has the records with t - size < time ≤ t, as SQL's RANGE frames have.

    Raises:
        UsageError: the length is below a microsecond.
    """

    size_s: float

    def __post_init__(self) -> None:
        check_seconds("size_s", self.size_s, us_min=1)

    @property
    def size_us(self) -> int:
        """The length, microseconds."""
        return _us(self.size_s)


class Session(msgspec.Struct, frozen=True, tag=True):
    """Windows of activity: records of a key that lie less than `gap_s` apart are in one.

    It starts at its first record and ends `gap_s` after its last one.

    Raises:
        UsageError: the gap is below a microsecond.
    """

    gap_s: float

    def __post_init__(self) -> None:
        check_seconds("gap_s", self.gap_s, us_min=1)

    @property
    def gap_us(self) -> int:
        """The gap, microseconds."""
        return _us(self.gap_s)


class CountOf(msgspec.Struct, frozen=True, tag=True):
    """Each so many records of a key, in the order in which they are stored, whatever their times.

    It needs the records of a key in one shard of the source: `Source(shard_by=...)`.

    Raises:
        UsageError: fewer than one record.
    """

    records: int

    def __post_init__(self) -> None:
        if type(self.records) is not int or self.records < 1:
            raise UsageError(f"a window of {self.records!r} records; at least 1")


Window = Tumbling | Hopping | Sliding | Session | CountOf


def check_seconds(name: str, seconds: float, *, us_min: int = 0) -> None:
    """Refuse what is no length of time, or shorter than `us_min` microseconds.

    Raises:
        UsageError: says which, by `name`.
    """
    if type(seconds) not in (int, float) or not 0 <= seconds <= SECONDS_MAX:
        raise UsageError(f"{name} is {seconds!r}; a number of seconds, 0 to {SECONDS_MAX:,}")
    if _us(seconds) < us_min:
        raise UsageError(f"{name} is {seconds}; more than 0")


def _us(seconds: float) -> int:
    return round(seconds * SECOND_US)
