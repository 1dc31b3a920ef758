"""One schedule: what is appended, when, and how far it is. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid5

import msgspec
from msgspec import Meta

from agent99.schedules._rule import At, Cron, Every, Missed, Rule, Turn

KEPT_US = 7 * 86_400_000_000
"""So long a schedule with a name is remembered that is over: who sets it up again fires nothing."""
GROWTH_BYTES = 96
"""For a size, a moment that was fired, a count of ten digits and a revision of twenty."""


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A schedule, as it is stored. All times are microseconds since the epoch, UTC."""

    id: str
    topic: str
    key: str | None = None
    """Of the events; None: each has its own, and they are in no order."""
    event: msgspec.Raw
    """What is appended, as JSON: `msgspec.json.decode(schedule.event)`."""
    rule: At | Every | Cron
    missed: Missed = "once"
    next_us: int | None = None
    """When it is due next, or was while nobody has fired it; None: it is over."""
    fired: int = 0
    """Firings so far."""
    last_us: int | None = None
    """The moment that was fired, or passed by, last."""
    over_us: int | None = None
    """When somebody found that there is no next moment."""
    made_us: int
    made_by: Annotated[str, Meta(max_length=128)]
    """The instance that made it, or the connection."""
    seed: UUID
    """What the ids of its events are made of: a schedule of the same id that is made anew has
    others."""
    is_named: bool = False
    """Whether its maker gave the id."""
    size: int = 0
    """Bytes that its entry takes, with the digits of the revision that it is written over."""

    @property
    def next_at(self) -> datetime | None:
        """When it is due next, UTC; None: it is over."""
        if self.next_us is None:
            return None
        return datetime.fromtimestamp(self.next_us / 1e6, UTC)

    @property
    def look_us(self) -> int:
        """When somebody has to look at it: it is due, or, being over, to be forgotten."""
        if self.next_us is not None:
            return self.next_us
        return (self.over_us or 0) + KEPT_US

    def event_id(self) -> str:
        """Return the id of the event that is due next: the same in every process."""
        return str(uuid5(self.seed, str(self.next_us)))


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Schedule).decode


def sized(schedule: Schedule) -> Schedule:
    """Return a schedule that is about to be made, with room for all that comes in later."""
    return msgspec.structs.replace(schedule, size=len(_encode(schedule)) + GROWTH_BYTES)


def encode(schedule: Schedule, revision: int = 0) -> bytes:
    """Return a schedule's entry, padded: it never grows, so that a full bucket stops no firing.

    Args:
        revision: Over which it is written. The server keeps that number with the entry.
    """
    return _encode(schedule).ljust(schedule.size - len(str(revision)))


def decode(value: bytes) -> Schedule | None:
    """Return a schedule, or None: it is a stranger's, or a later version's."""
    try:
        schedule = _decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None
    return schedule if bytes(schedule.event).startswith(b"{") else None


def is_same(made: Schedule, known: Schedule, *, is_anchored: bool = True) -> bool:
    """Tell whether two schedules say the same, however far each is.

    Args:
        is_anchored: False: any start of a period will do.
    """
    return (
        (made.topic, made.key, made.missed) == (known.topic, known.key, known.missed)
        and _is_same_rule(made.rule, known.rule, is_anchored=is_anchored)
        and msgspec.json.decode(made.event) == msgspec.json.decode(known.event)
    )


def _is_same_rule(made: Rule, known: Rule, *, is_anchored: bool) -> bool:
    if isinstance(made, Every) and isinstance(known, Every) and not is_anchored:
        return made.period_us == known.period_us
    return made == known


def moved_on(schedule: Schedule, turn: Turn, now_us: int) -> Schedule | None:
    """Return a schedule whose moment is dealt with; None: there is nothing to keep of it."""
    if turn.next_us is None and not schedule.is_named:
        return None
    return msgspec.structs.replace(
        schedule,
        next_us=turn.next_us,
        last_us=schedule.next_us,
        fired=schedule.fired + turn.is_fired,
        over_us=now_us if turn.next_us is None else None,
    )
