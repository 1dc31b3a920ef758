"""How soon, and how often, what died is started again. Pure: time comes in."""

from __future__ import annotations

from collections import deque


class RestartBudget:
    """Grants restarts: a back-off that doubles, and at most `restarts_max` in any `window_s`.

    Args:
        restarts_max: Restarts within a window.
        window_s: Seconds; a worker that lived longer counts as well again.
        delay_s_min: The first back-off in seconds; doubled with each restart in the window.
        delay_s_max: The longest.

    Invariant: it remembers at most `restarts_max` moments, none older than the window.
    """

    def __init__(
        self,
        *,
        restarts_max: int = 5,
        window_s: float = 60.0,
        delay_s_min: float = 0.1,
        delay_s_max: float = 5.0,
    ) -> None:
        self.restarts_max = restarts_max
        self.window_s = window_s
        self._delay_s_min = delay_s_min
        self._delay_s_max = delay_s_max
        self._moments: deque[float] = deque()

    def __repr__(self) -> str:
        return f"RestartBudget({len(self._moments)} of {self.restarts_max} in {self.window_s:g} s)"

    def next_delay_s(self, now_s: float) -> float | None:
        """Take one restart; returns the seconds to wait before it, None when none is left."""
        while self._moments and self._moments[0] <= now_s - self.window_s:
            self._moments.popleft()
        used = len(self._moments)
        if used >= self.restarts_max:
            return None
        self._moments.append(now_s)
        return min(self._delay_s_min * 2.0**used, self._delay_s_max)
