"""The bounds of a member of a group, and its counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from agent99.errors import UsageError
from agent99.groups._start import Start, check_start
from agent99.work import Curve

Active = Literal["all", "one"]
_WHOLE_NUMBERS = ("batch_max", "prefetch_max", "commit_events_max")
_DURATIONS = ("commit_s", "drain_s_max", "retry_s_max", "ping_s", "silence_s_max")


class GroupOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one member; the defaults suit most.

    Raises:
        UsageError: a number below 1, a duration that is not above 0, or another word than those.
    """

    start: Start | None = None
    """Where a group begins that is created just now, `first` unless it is said; one that is there
    already goes on where it is. Where a broadcast begins: `new`."""
    active: Active = "all"
    """Who of the members works: all of them, sharing the partitions; or `one`, on everything in the
    order of the log, while the others stand by. It is fixed when the group is created."""
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
        if self.active not in ("all", "one"):
            raise UsageError(f"{type(self).__name__}.active is {self.active!r}: 'all' or 'one'")
        if self.start is not None:
            check_start(self.start)
        _check(self, _WHOLE_NUMBERS, _DURATIONS)


class EventOptions(GroupOptions, frozen=True, kw_only=True):
    """The bounds of one member that is handed single events.

    Raises:
        UsageError: as `GroupOptions`.
    """

    curve: Curve = Curve(attempts_max=5, delay_s=1.0, delay_s_max=60.0, timeout_s=30.0)
    """How often an event is tried, how long it waits in between, and how long one attempt may
    take; then it goes into quarantine."""
    keys_max: int = 16
    """Keys of one partition whose events are at the handler side by side."""
    waiting_max: int = 1_000
    """Events of one partition that are not done yet: those that fail, and those of the same keys
    behind them. At the bound the partition waits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, ("keys_max", "waiting_max"), ())


def _check(options: GroupOptions, numbers: Iterable[str], durations: Iterable[str]) -> None:
    of = type(options).__name__
    for name in numbers:
        if getattr(options, name) < 1:
            raise UsageError(f"{of}.{name} is {getattr(options, name)}; at least 1")
    for name in durations:
        if not getattr(options, name) > 0:
            raise UsageError(f"{of}.{name} is {getattr(options, name)}; more than 0")


class GroupStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What one member does, and has done since it joined."""

    members: int
    """That it knows of, itself included."""
    partitions: frozenset[int]
    """That it owns now."""
    events: int
    """Handed to the handler, which returned."""
    batches: int
    """0 where single events are handed out."""
    failures: int
    """Times that the handler raised; the batch, or the event, came again."""
    buried: int
    """Events that went into quarantine."""
    claimed: int
    """Partitions that it has come to own."""
    released: int
    """Partitions that it has handed over."""
    fenced: int
    """Partitions that it lost to a member that took them: nothing more of them was handed out."""
    held_up: dict[int, str]
    """Its partitions in which what comes next cannot be done just now, and why: it tries on. A
    handler that fails at a batch, a quarantine that is full."""
