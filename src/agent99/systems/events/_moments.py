"""Moments as the log has them: microseconds since the epoch. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
_LAST_US: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND


def micros_of(moment: datetime) -> int:
    """Return a moment in microseconds since the epoch; one without a zone is in UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // MICROSECOND


def moment_of(time_us: int) -> datetime:
    """Return a moment in UTC; what no calendar has is its last moment."""
    return EPOCH + min(time_us, _LAST_US) * MICROSECOND
