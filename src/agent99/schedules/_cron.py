"""The moments of cron expressions, by the one library that knows them. Pure, but for time zones.

A daily time that a change of the clocks leaves out comes as soon as there is a time again; one that
is there twice comes the first time. With `*` at the beginning of the minute or hour the moments
follow the hours as they pass: an hour that is there twice has them twice, one that is not has none.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from agent99.errors import UsageError, how_to_install

if TYPE_CHECKING:
    from cronsim import CronSim

EXPRESSION_CHARACTERS_MAX = 200
_FIELDS = "minute hour day-of-month month day-of-week"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros_of(moment: datetime) -> int:
    """Return microseconds since the epoch, of a time with a zone."""
    return (moment - _EPOCH) // _MICROSECOND


def next_by_cron(expression: str, zone: str, after_us: int, until_us: int) -> int | None:
    """Return the first moment of an expression after `after_us`; None: none by `until_us`.

    Raises:
        UsageError: the library is not installed; the expression or the zone is wrong.
    """
    after = (_EPOCH + after_us * _MICROSECOND).astimezone(zone_of(zone))
    for moment in _moments(expression, after):
        moment_us = micros_of(moment)
        if moment_us > until_us:
            return None
        # The library looks at the clock's face: of an hour that comes twice it names the first one,
        # also to whoever is in the second.
        if moment_us > after_us:
            return moment_us
    return None  # nothing in fifty years


@lru_cache(64)
def zone_of(name: str) -> tzinfo:
    """Return a time zone by its IANA name.

    Raises:
        UsageError: there is none of that name, as far as is known here.
    """
    if name == "UTC":
        return UTC  # also where no time zones are installed
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError):
        raise UsageError(
            f"{name!r} is no time zone that is known here, such as 'Europe/Berlin' or 'UTC'"
        ) from None


def _moments(expression: str, after: datetime) -> CronSim:
    """Return the moments of an expression, from then on.

    Raises:
        UsageError: the library is not installed, or the expression is wrong.
    """
    if not isinstance(expression, str):
        raise UsageError(f"a cron expression is text, not {expression!r}")
    if len(expression) > EXPRESSION_CHARACTERS_MAX:
        raise UsageError(f"a cron expression has at most {EXPRESSION_CHARACTERS_MAX} characters")
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - an optional dependency
    except ModuleNotFoundError as error:
        raise UsageError(f"cron needs {error.name}: {how_to_install('cron')}") from error
    if len(expression.split()) != 5:
        raise UsageError(f"{expression!r} is no cron expression: five fields, {_FIELDS}")
    try:
        return CronSim(expression, after)
    except CronSimError as error:
        raise UsageError(f"{expression!r} is no cron expression: {error}") from None
