"""What one process has fired."""

from __future__ import annotations

import msgspec


class SchedulesStatistics(msgspec.Struct, kw_only=True):
    """What one process knows, and has done since it began to fire."""

    known: int = 0
    """Schedules that it has heard of."""
    fired: int = 0
    """Moments whose events it stored, and whose schedules it moved on."""
    yielded: int = 0
    """Moments at which another process was quicker."""
    passed_by: int = 0
    """Moments that it did not fire, since they were missed (`missed="skip"`)."""
    failed: int = 0
    """Attempts that failed; each moment is tried again."""
