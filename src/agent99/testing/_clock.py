"""A clock that stands still until it is told to go on."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Generator

_TURNS_TO_SETTLE = 32
"""Turns of the loop after each moment: enough for a chain of so many awaits to react to it."""


class ManualClock:
    """A `Clock` for tests: time passes only in `advance`, and always in the same way.

    Args:
        wall_us: Microseconds since the epoch at the start.

    Invariant: time never goes back; a timer runs at its own time, those of one time in their order.
    """

    def __init__(self, *, wall_us: int = 1_700_000_000_000_000) -> None:
        self._now_s = 0.0
        self._wall_us = wall_us
        self._timers: list[tuple[float, int, ManualTimer]] = []
        self._count = 0

    def __repr__(self) -> str:
        return f"ManualClock({self._now_s} s, timers={len(self._timers)})"

    def monotonic_s(self) -> float:
        """Return the seconds that passed so far."""
        return self._now_s

    def wall_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        return self._wall_us + round(self._now_s * 1_000_000)

    async def sleep(self, delay_s: float) -> None:
        """Wait until the clock was advanced by `delay_s` (0 gives other tasks a turn)."""
        if delay_s <= 0:
            await _Turn()
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        timer = self.call_later(delay_s, wake)
        try:
            await woken
        finally:
            timer.cancel()

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> ManualTimer:
        """Call `callback` when the clock was advanced by `delay_s`."""
        timer = ManualTimer(callback)
        self._count += 1
        heapq.heappush(self._timers, (self._now_s + max(0.0, delay_s), self._count, timer))
        return timer

    async def advance(self, delay_s: float) -> None:
        """Let `delay_s` pass: run each timer at its time, and let tasks react before the next."""
        await _settle()
        until_s = self._now_s + delay_s
        while self._timers and self._timers[0][0] <= until_s:
            due_s, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                self._now_s = max(self._now_s, due_s)
                timer.callback()
                await _settle()
        self._now_s = max(self._now_s, until_s)
        await _settle()


class ManualTimer:
    """A call that a `ManualClock` puts off."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def __repr__(self) -> str:
        return f"ManualTimer({'cancelled' if self.callback is None else self.callback})"

    def cancel(self) -> None:
        """Make sure that the call does not happen."""
        self.callback = None


class _Turn:
    """Awaiting it gives every ready task one turn."""

    def __await__(self) -> Generator[None]:
        yield


async def _settle() -> None:
    for _ in range(_TURNS_TO_SETTLE):
        await _Turn()
