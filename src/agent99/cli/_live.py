"""Commands that go on until Ctrl-C: their end, their pace, and what they draw again and again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from agent99.cli._wish import StopWish, wait_or
from agent99.clock import Clock

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

T = TypeVar("T")


def is_screen() -> bool:
    """Tell whether stdout is a terminal on which something can be drawn again."""
    from rich.console import Console

    return sys.stdout.isatty() and not Console().is_dumb_terminal


async def until_stopped(work: Coroutine[Any, Any, T]) -> T | None:
    """Return what comes of the work; None if somebody wanted an end before: Ctrl-C, SIGTERM."""
    wish = StopWish()
    working = asyncio.ensure_future(work)
    try:
        return working.result() if await wait_or(working, wish.asked) else None
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        wish.close()


class Pace:
    """Looks at something again and again, each time an interval after the last."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._next_s = clock.monotonic_s()

    def __repr__(self) -> str:
        return f"Pace(interval_s={self._interval_s})"

    async def wait(self) -> None:
        """Wait until it is time for the next look; not before the first."""
        await self._clock.sleep(max(0.0, self._next_s - self._clock.monotonic_s()))
        self._next_s = self._clock.monotonic_s() + self._interval_s


async def draw(
    looks: AsyncIterator[T],
    screen: Callable[[T, Console], RenderableType],
    leave: Callable[[T], None],
) -> None:
    """Draw looks on the terminal's other screen; `leave` prints the last when that is left."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    last: list[T] = []
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            async for look in looks:
                last[:] = [look]
                live.update(screen(look, console), refresh=True)
    finally:
        for look in last:
            leave(look)
