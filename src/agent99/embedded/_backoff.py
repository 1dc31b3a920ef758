"""When to start a server again that died. Pure."""

from __future__ import annotations

DELAY_FIRST_S = 0.1
DELAY_MAX_S = 5.0
HEALTHY_S = 10.0
"""A server that ran this long is healthy: its next death is the first of its row."""


class Backoff:
    """At once after a first death, and later and later after those that follow soon.

    Invariant: `0 <= delay_s <= DELAY_MAX_S`.
    """

    def __init__(self, now_s: float) -> None:
        self.delay_s = 0.0
        """Seconds from the next death to the restart."""
        self._started_s = now_s

    def __repr__(self) -> str:
        return f"Backoff(delay_s={self.delay_s})"

    def restart_at_s(self, died_s: float) -> float:
        """Return when to start again a server that died now; the next delay is longer."""
        if died_s - self._started_s >= HEALTHY_S:
            self.delay_s = 0.0
        moment_s = died_s + self.delay_s
        self.delay_s = min(max(self.delay_s * 2, DELAY_FIRST_S), DELAY_MAX_S)
        return moment_s

    def started(self, now_s: float) -> None:
        """Note that the server was started again."""
        self._started_s = now_s
