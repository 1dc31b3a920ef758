"""The bounds of a member of a group, and its counts."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent99.errors import UsageError

_WHOLE_NUMBERS = ("batch_max", "prefetch_max", "commit_events_max")
_DURATIONS = ("commit_s", "drain_s_max", "retry_s_max", "ping_s", "silence_s_max")


class GroupOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one member; the defaults suit most.

    Raises:
        UsageError: a number below 1, a duration that is not above 0, or more than one start.
    """

    start: Literal["first", "new"] = "first"
    """Where a group begins that is created just now: with the first event that the log holds, or
    with what comes from now on. One that is there already goes on where it is."""
    from_sequence: int | None = None
    """Begin at this sequence of the log instead."""
    from_us: int | None = None
    """Begin with the first event stored then or later, microseconds since the epoch, instead."""
    batch_max: int = 256
    """Events that the handler is given at once."""
    prefetch_max: int = 512
    """Events of one partition that wait here for the handler."""
    commit_s: float = 1.0
    """Seconds between two commits of a position: so much may come again after a crash."""
    commit_events_max: int = 10_000
    """Events of one partition after which its position is committed sooner."""
    drain_s_max: float = 5.0
    """Seconds that the handler has to end what it is at, when its partition goes to another member;
    then it is cancelled, and what it was at comes again there."""
    retry_s_max: float = 30.0
    """The longest pause before a batch whose handler failed is handed to it again, in seconds."""
    ping_s: float = 0.2
    """Seconds between two pings of the member before this one."""
    silence_s_max: float = 1.5
    """Seconds without an answer after which a member counts as dead."""

    def __post_init__(self) -> None:
        for name in _WHOLE_NUMBERS:
            if getattr(self, name) < 1:
                raise UsageError(f"GroupOptions.{name} is {getattr(self, name)}; at least 1")
        for name in _DURATIONS:
            if not getattr(self, name) > 0:
                raise UsageError(f"GroupOptions.{name} is {getattr(self, name)}; more than 0")
        places = (self.start != "first", self.from_sequence is not None, self.from_us is not None)
        if sum(places) > 1:
            raise UsageError("a group begins at one place: start, from_sequence or from_us")


class GroupStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one member does, and has done since it joined."""

    members: int
    """That it knows of, itself included."""
    partitions: frozenset[int]
    """That it owns now."""
    events: int
    """Handed to the handler, which returned."""
    batches: int
    failures: int
    """Times that the handler raised; the batch came again."""
    claimed: int
    """Partitions that it has come to own."""
    released: int
    """Partitions that it has handed over."""
    fenced: int
    """Partitions that it lost to a member that took them: nothing more of them was handed out."""
