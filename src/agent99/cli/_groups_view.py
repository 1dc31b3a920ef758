"""What `agent99 events groups` shows: one line for each group. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from agent99.cli._show import count, duration
from agent99.cli._top_view import figure

if TYPE_CHECKING:
    from agent99.groups import GroupState

COLUMNS = (
    *("group", "state", "lag", "oldest", "events/s", "members", "owned"),
    *("redelivered", "quarantined", "mode", "topics"),
)
NUMBERS = frozenset({"lag", "oldest", "events/s", "members", "owned", "redelivered", "quarantined"})
"""Columns that stand to the right."""
REASONS_MAX = 3
"""Why partitions of one group are held up, as the lines below the table tell."""
LEAVING = ("topics", "mode", "owned", "quarantined", "redelivered", "events/s")
"""Columns that a narrow terminal does without, the first of them first."""


class Bounds(msgspec.Struct, frozen=True):
    """What of a group is an alert; None: nothing is."""

    lag: int | None = None
    age_s: float | None = None


class Seen(msgspec.Struct, frozen=True):
    """What one look found of one group."""

    about: GroupState
    age_s: float | None
    """Since the oldest event that waits was stored."""
    events_per_s: float | None
    """Since the look before; None: there was none."""
    over: tuple[str, ...]
    """Which of the bounds it is over: `lag`, `age`."""

    @property
    def state(self) -> str:
        """Whether somebody works on what waits."""
        if not self.about.lag:
            return "idle"
        if not self.about.members:
            return "NO MEMBER"
        return "HELD UP" if self.about.held_up else "at work"


class Look(msgspec.Struct, frozen=True):
    """What one look found, by name or in the order that was asked for."""

    seen: tuple[Seen, ...]
    monotonic_s: float
    time_us: int
    """When, microseconds since the epoch, UTC."""

    @property
    def over(self) -> tuple[Seen, ...]:
        """The groups that are over a bound."""
        return tuple(one for one in self.seen if one.over)


def compare(
    states: Sequence[GroupState], last: Look | None, bounds: Bounds, now: tuple[float, int]
) -> Look:
    """Return what became of the groups since the look before.

    Args:
        now: By the monotonic clock, in seconds; and microseconds since the epoch, UTC.
    """
    monotonic_s, time_us = now
    before = {one.about.name: one.about.events for one in last.seen} if last is not None else {}
    passed_s = monotonic_s - last.monotonic_s if last is not None else 0.0

    def see(about: GroupState) -> Seen:
        age_s = None
        if about.oldest_us is not None:
            age_s = max(0.0, (time_us - about.oldest_us) / 1e6)
        rate = None
        if about.name in before and passed_s > 0:
            rate = max(0, about.events - before[about.name]) / passed_s
        return Seen(about, age_s, rate, _over(about.lag, age_s, bounds))

    return Look(tuple(map(see, states)), monotonic_s, time_us)


def _over(lag: int, age_s: float | None, bounds: Bounds) -> tuple[str, ...]:
    over_lag = bounds.lag is not None and lag > bounds.lag
    over_age = bounds.age_s is not None and age_s is not None and age_s > bounds.age_s
    return (*(("lag",) if over_lag else ()), *(("age",) if over_age else ()))


# --- for people -----------------------------------------------------------------------------------


def group_rows(look: Look, rows_max: int | None = None) -> list[tuple[str, ...]]:
    """Return a row for each group, as many as there is room for."""
    rows = [_row(one) for one in look.seen[:rows_max]]
    left = len(look.seen) - len(rows)
    return [*rows, (f"… {left} more", *("" for _ in COLUMNS[1:]))] if left else rows


def _row(one: Seen) -> tuple[str, ...]:
    about = one.about
    age = "-" if one.age_s is None else duration(one.age_s)
    rate = "-" if one.events_per_s is None else figure(one.events_per_s)
    return (
        *(about.name, one.state, f"{about.lag:,}", age, rate),
        *(f"{len(about.members):,}", f"{about.owned} of {about.partitions}"),
        *(f"{about.failures:,}", f"{about.buried:,}"),
        *(f"{_mode(about)} active", " ".join(about.topics)),
    )


def _mode(about: GroupState) -> str:
    return "one" if about.is_exclusive else "all"


def head_line(look: Look, mesh: str, url: str) -> str:
    """Return how many groups there are, how many nobody works for, and how many are held up."""
    many = count(len(look.seen), "group") if look.seen else "no groups"
    states = Counter(one.state for one in look.seen)
    alone, held_up = states["NO MEMBER"], states["HELD UP"]
    without = f", {alone:,} with NO MEMBER" if alone else ""
    stuck = f", {held_up:,} HELD UP" if held_up else ""
    return f"{many}{without}{stuck} on mesh {mesh!r} at {url}"


def held_up_lines(look: Look) -> list[str]:
    """Return a sentence for each reason why partitions of a group are held up."""
    lines: list[str] = []
    for one in look.seen:
        reasons = Counter(one.about.held_up.values())
        told = [
            f"group {one.about.name!r}: {count(many, 'partition')} held up: {reason}"
            for reason, many in reasons.most_common(REASONS_MAX)
        ]
        left = len(reasons) - len(told)
        lines += [*told, f"group {one.about.name!r}: {left:,} more reasons"] if left else told
    return lines


def over_lines(look: Look, bounds: Bounds) -> list[str]:
    """Return a sentence for each group that is over a bound."""
    return [f"group {one.about.name!r}: {' and '.join(_reasons(one, bounds))}" for one in look.over]


def _reasons(one: Seen, bounds: Bounds) -> list[str]:
    reasons: list[str] = []
    if "lag" in one.over:
        reasons.append(f"{count(one.about.lag, 'event')} waiting, more than {bounds.lag:,}")
    if "age" in one.over and one.age_s is not None:
        reasons.append(f"the oldest for {one.age_s:,.1f} s, longer than {bounds.age_s:,g} s")
    return reasons


# --- for programmes -------------------------------------------------------------------------------


def look_document(look: Look) -> dict[str, Any]:
    """Return a look as JSON: what is not known is null."""
    return {"groups": [_document(one) for one in look.seen]}


def _document(one: Seen) -> dict[str, Any]:
    about = one.about
    return {
        "group": about.name,
        "topics": about.topics,
        "active": _mode(about),
        "members": about.members,
        "owned": about.owned,
        "partitions": about.partitions,
        "lag": about.lag,
        "oldest_us": about.oldest_us,
        "oldest_age_s": None if one.age_s is None else round(one.age_s, 3),
        "events": about.events,
        "events_per_s": None if one.events_per_s is None else round(one.events_per_s, 3),
        "redelivered": about.failures,
        "quarantined": about.buried,
        "no_member": one.state == "NO MEMBER",
        "held_up": about.held_up,
        "over": one.over,
    }
