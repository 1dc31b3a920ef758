"""How often stored work is tried, for how long, and how long it waits in between. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from agent99.errors import UsageError

JITTER = 0.1
"""So much of it a wait is shorter or longer at most: what failed together comes back apart."""


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """Attempts, and the waits between them: doubling, up to a bound."""

    attempts_max: Annotated[int, Meta(ge=1, le=1_000)] = 5
    """How often it is tried in all."""
    delay_s: Annotated[float, Meta(gt=0, le=86_400)] = 1.0
    """Seconds before the second attempt."""
    delay_s_max: Annotated[float, Meta(gt=0, le=604_800)] = 300.0
    """Seconds that no wait exceeds, but for its jitter."""
    timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 300.0
    """Seconds of one attempt; then it has failed."""

    def wait_s(self, attempt: int, fraction: float) -> float:
        """Return the seconds to wait after an attempt that failed.

        Args:
            attempt: Its number; starts at 1.
            fraction: A random number in [0, 1).
        """
        doublings = min(attempt - 1, 64)
        plain_s = min(self.delay_s * 2.0**doublings, self.delay_s_max)
        return plain_s * (1 - JITTER + 2 * JITTER * fraction)


def checked_curve(
    *, attempts_max: int, delay_s: float, delay_s_max: float, timeout_s: float = 300.0
) -> Curve:
    """Return a curve of what a user wrote.

    Raises:
        UsageError: a figure is out of its range.
    """
    given = {
        "attempts_max": attempts_max,
        "delay_s": delay_s,
        "delay_s_max": delay_s_max,
        "timeout_s": timeout_s,
    }
    try:
        return msgspec.convert(given, Curve)
    except msgspec.ValidationError as error:
        raise UsageError(f"{error}: {given}") from error
