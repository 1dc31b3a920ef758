"""The one user of time: a port, the real clock, and deadlines that share a timer.

The deterministic twin is `agent99.testing.ManualClock`; both pass `agent99.testing.check_clock`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class TimerHandle(Protocol):
    """A call that was put off."""

    def cancel(self) -> None:
        """Make sure that the call does not happen; does nothing when it already did."""
        ...


class Clock(Protocol):
    """Tells the time and waits."""

    def monotonic_s(self) -> float:
        """Return seconds from an arbitrary start; never goes back. For durations and deadlines."""
        ...

    def wall_us(self) -> int:
        """Return microseconds since the epoch, UTC. For what leaves the process."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds (0 gives other tasks a turn)."""
        ...

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback` on the running event loop after `delay_s` seconds."""
        ...


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    monotonic_s = staticmethod(time.monotonic)

    def __repr__(self) -> str:
        return "SystemClock()"

    def wall_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        return time.time_ns() // 1000

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds."""
        await asyncio.sleep(delay_s)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback` on the running event loop after `delay_s` seconds."""
        return asyncio.get_running_loop().call_later(delay_s, callback)


class Deadlines:
    """Many deadlines on one timer.

    `asyncio.timeout` costs about 10 µs a call; here an entry is two dictionary operations, because
    deadlines are gathered into slots of `resolution_s` and one timer serves them all. A callback runs
    no earlier than its deadline and, on an idle loop, no later than `resolution_s` after it.

    Invariant: the timer is set if and only if a slot has an entry.
    """

    def __init__(self, clock: Clock, *, resolution_s: float = 0.01) -> None:
        self._clock = clock
        self._resolution_s = resolution_s
        self._slots: dict[int, dict[int, Callable[[], None]]] = {}
        self._timer: TimerHandle | None = None
        self._timer_slot = 0
        self._next_key = 0

    def __repr__(self) -> str:
        return f"Deadlines(pending={len(self)})"

    def __len__(self) -> int:
        return sum(len(slot) for slot in self._slots.values())

    def add(self, deadline_s: float, expire: Callable[[], None]) -> tuple[int, int]:
        """Call `expire` once the monotonic clock has passed `deadline_s`; returns the ticket to remove it."""
        index = int(deadline_s / self._resolution_s) + 1
        self._next_key = key = self._next_key + 1
        slot = self._slots.get(index)
        if slot is None:
            self._slots[index] = {key: expire}
            if self._timer is None or index < self._timer_slot:
                self._set_timer(index)
        else:
            slot[key] = expire
        return index, key

    def remove(self, ticket: tuple[int, int]) -> None:
        """Forget a deadline; does nothing when it has passed."""
        index, key = ticket
        slot = self._slots.get(index)
        if slot is not None:
            slot.pop(key, None)
            # An empty slot stays until its time: dropping it would cost a timer per request.

    def close(self) -> None:
        """Forget every deadline."""
        self._slots.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, index: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_slot = index
        delay_s = max(0.0, index * self._resolution_s - self._clock.monotonic_s())
        self._timer = self._clock.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.monotonic_s()
        due = [index for index in self._slots if index * self._resolution_s <= now]
        for index in sorted(due):
            for expire in self._slots.pop(index).values():
                expire()
        if self._slots:
            self._set_timer(min(self._slots))
