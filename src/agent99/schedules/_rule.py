"""When something is due: the moments of a rule, and what becomes of those that were missed. Pure.

All moments are microseconds since the epoch, UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from agent99.schedules._cron import next_by_cron

AHEAD_US_MAX = 3_653 * 86_400_000_000
"""Ten years: no moment is further ahead."""
SKIPPED_US = 10_000_000
"""With `missed="skip"`, a moment so long past is not fired any more."""

Missed = Literal["once", "skip"]
"""What becomes of moments at which no process was there to fire them: `once`, one firing stands for
all of them, as soon as there is a process; `skip`, none does, but for one of the last 10 s."""


class At(msgspec.Struct, frozen=True, tag="at"):
    """One moment."""

    at_us: int


class Every(msgspec.Struct, frozen=True, tag="every"):
    """Moments at the same distance: `start_us`, and each whole number of periods after it."""

    period_us: Annotated[int, Meta(ge=1_000_000)]
    """A second at least."""
    start_us: int


class Cron(msgspec.Struct, frozen=True, tag="cron"):
    """The minutes that a cron expression names."""

    expression: str
    """Minute, hour, day of the month, month, day of the week."""
    zone: str
    """By IANA's name: `UTC`, `Europe/Berlin`."""


Rule = At | Every | Cron


class Turn(NamedTuple):
    """What is to be done with a moment that has come."""

    is_fired: bool
    next_us: int | None
    """The moment after it that is not past yet; None: there is none."""


def next_after(rule: Rule, after_us: int) -> int | None:
    """Return the first moment of a rule that is later; None: there is none within ten years.

    Raises:
        UsageError: cron's library is not installed, or does not know the zone.
    """
    match rule:
        case At(at_us):
            return at_us if at_us > after_us else None
        case Every(period_us, start_us):
            periods = (after_us - start_us) // period_us + 1
            return start_us + max(0, periods) * period_us
        case Cron(expression, zone):
            return next_by_cron(expression, zone, after_us, after_us + AHEAD_US_MAX)


def turn_of(rule: Rule, missed: Missed, due_us: int, now_us: int) -> Turn:
    """Return what is to be done with `due_us`, which is not later than `now_us`.

    Whoever looks at the same moment fires the same one. What lies between it and now is passed by:
    a firing stands for all that was missed, and what comes next is a moment of the rule.

    Raises:
        as `next_after`.
    """
    is_fired = missed == "once" or now_us - due_us <= SKIPPED_US
    return Turn(is_fired, next_after(rule, max(due_us, now_us)))
