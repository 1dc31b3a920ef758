"""What who asks says, as a question has it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from agent99.errors import UsageError
from agent99.systems.analytics._bounds import EPOCH, MICROSECOND
from agent99.systems.analytics._delta import Scalar


def asked_key(key: Scalar | Iterable[Scalar]) -> list[Scalar] | None:
    """Return a value for each column of a key; None: no key is meant."""
    if key is None:
        return None
    if isinstance(key, int | float | str | bool):
        return [key]
    return list(key)


def asked_us(moment: datetime | None) -> int | None:
    """Return a moment in microseconds since the epoch.

    Raises:
        UsageError: it has no time zone.
    """
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise UsageError(f"{moment!r} has no time zone")
    return (moment - EPOCH) // MICROSECOND
