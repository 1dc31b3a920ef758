"""Whether a value is still good, and whether to compute it anew before it is not. Pure."""

from __future__ import annotations

from enum import Enum, auto
from math import log


class Freshness(Enum):
    """What a value is worth at a moment."""

    FRESH = auto()
    """Serve it."""
    STALE = auto()
    """Serve it, and have it computed anew meanwhile."""
    GONE = auto()
    """Expired: never serve it."""


def freshness(now_us: int, fresh_us: int, expires_us: int) -> Freshness:
    """Return what a value is worth.

    Args:
        now_us: Microseconds since the epoch, as the others.
        fresh_us: From then on it is stale; 0: not before it expires.
        expires_us: From then on it is gone; 0: never.
    """
    if expires_us and now_us >= expires_us:
        return Freshness.GONE
    return Freshness.STALE if fresh_us and now_us >= fresh_us else Freshness.FRESH


def is_due_early(now_us: int, fresh_until_us: int, cost_us: int, beta: float, draw: float) -> bool:
    """Tell whether one reader, by lot, computes a value anew though it is fresh still.

    The nearer the end and the dearer the value, the likelier; the expected number of readers who
    do so before the end is small whatever their rate, and the end itself finds no crowd. This is
    XFetch (Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention,
    PVLDB 8(8), 2015, figure 3).

    Args:
        now_us: Microseconds since the epoch.
        fresh_until_us: When it stops being fresh; 0: never, so that it is never due.
        cost_us: Microseconds that it took to compute; 0: unknown, due at the end only.
        beta: 1 is optimal; more: earlier; 0: at the end only.
        draw: A number in (0, 1], drawn anew for each reader.
    """
    return fresh_until_us > 0 and now_us - cost_us * beta * log(draw) >= fresh_until_us
