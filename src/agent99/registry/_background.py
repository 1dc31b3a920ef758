"""Tasks that nobody awaits, and waits that can be cut short."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from agent99.clock import Clock, TimerHandle
from agent99.errors import Agent99Error, DisconnectedError
from agent99.ids import Ids
from agent99.registry._log import logger

_ROW_S = 30.0
"""A failure after so long a good run is news; before that it belongs to the one before."""


class Background:
    """Named tasks that run until they are closed; one that fails is logged and starts again.

    Invariant: a task that was started ends only by returning or by `aclose`.
    """

    def __init__(self, clock: Clock, ids: Ids, *, retry_s_min: float, retry_s_max: float) -> None:
        self._clock = clock
        self._ids = ids
        self._retry_s_min = retry_s_min
        self._retry_s_max = retry_s_max
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures = 0
        """How often a task failed and started again."""

    def __repr__(self) -> str:
        return f"Background({', '.join(sorted(task.get_name() for task in self._tasks))})"

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run `run` until it returns, again and again while it fails."""
        task = asyncio.get_running_loop().create_task(self._supervise(name, run), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """End all tasks and wait until they have ended. Idempotent."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        attempt = 0
        while True:
            started_s = self._clock.monotonic_s()
            try:
                await run()
            except DisconnectedError as error:  # expected: it comes back, and the wire tells of it
                logger.info("%s: %s; trying again", name, error)
            except Agent99Error as error:
                is_news = not attempt or self._clock.monotonic_s() - started_s > _ROW_S
                level = logging.WARNING if is_news else logging.INFO
                logger.log(level, "%s: %s; trying again", name, error)
            except Exception:  # noqa: BLE001 - nobody awaits it: it must not end in silence
                logger.exception("%s failed; starting again", name)
            else:
                return
            self.failures += 1
            if self._clock.monotonic_s() - started_s > self._retry_s_max:
                attempt = 0
            ceiling_s = min(self._retry_s_min * 2.0**attempt, self._retry_s_max)
            attempt = min(attempt + 1, 30)
            await self._clock.sleep(ceiling_s * (0.5 + self._ids.fraction() / 2))


class Alarm:
    """A wait of one task that others can cut short.

    Invariant: at most two timers, the wait's own and an early one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = asyncio.Event()
        self._early: TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Alarm(rung={self._rung.is_set()}, early={self._early is not None})"

    async def wait(self, delay_s: float) -> None:
        """Return after `delay_s` seconds or when the alarm rings, whichever is first."""
        timer = self._clock.call_later(delay_s, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            timer.cancel()
            self._rung.clear()

    def ring(self, delay_s: float = 0.0) -> None:
        """End the wait, now or after `delay_s`; an early ring that is under way is kept."""
        if delay_s <= 0:
            self._rung.set()
        elif self._early is None:
            self._early = self._clock.call_later(delay_s, self._ring_early)

    def close(self) -> None:
        """Forget an early ring that has not happened yet."""
        if self._early is not None:
            self._early.cancel()
            self._early = None

    def _ring_early(self) -> None:
        self._early = None
        self._rung.set()
