"""The clock that stands still: the contract of clocks, and what only it promises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agent99.testing import ManualClock, check_clock
from agent99.testing._clock import ManualTimer


async def test_manual_clock_keeps_the_contract() -> None:
    """The deterministic clock passes the contract that the real one passes."""
    await check_clock(ManualClock, advance=ManualClock.advance)


async def test_timers_of_one_moment_fire_in_their_order() -> None:
    """Timers of the same moment fire in the order in which they were set."""
    clock, fired = ManualClock(), []
    for number in range(5):
        clock.call_later(1.0, lambda number=number: fired.append(number))
    await clock.advance(1.0)
    assert [0, 1, 2, 3, 4] == fired


async def test_tasks_react_before_the_next_timer() -> None:
    """What a timer wakes runs, and may set timers of its own, before time goes on."""
    clock, seen = ManualClock(), []

    async def tick() -> None:
        for _ in range(3):
            await clock.sleep(1.0)
            seen.append(clock.monotonic_s())

    task = asyncio.create_task(tick())
    await clock.advance(10.0)
    await task
    assert ([1.0, 2.0, 3.0], 10.0) == (seen, clock.monotonic_s())


async def test_time_stands_still_by_itself() -> None:
    """Without `advance` no timer fires and no time passes."""
    clock, fired = ManualClock(wall_us=1_600_000_000_000_000), []
    clock.call_later(0.001, lambda: fired.append("x"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert (0.0, 1_600_000_000_000_000, []) == (clock.monotonic_s(), clock.wall_us(), fired)
    await clock.advance(2.5)
    assert 1_600_000_002_500_000 == clock.wall_us()


class _Broken(ManualClock):
    """A clock that forgets its second timer."""

    def __init__(self) -> None:
        super().__init__()
        self.timers = 0

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> ManualTimer:
        self.timers += 1
        return super().call_later(delay_s, callback if self.timers != 2 else lambda: None)


async def test_contract_finds_a_broken_clock() -> None:
    """The contract fails for a clock that loses timers."""
    with pytest.raises(AssertionError, match="timers fired in the order"):
        await check_clock(_Broken, advance=_Broken.advance)


async def test_repr_tells_time_and_timers() -> None:
    """The clock and its timers say what they are."""
    clock = ManualClock()
    timer = clock.call_later(1.0, list)
    assert "ManualClock(0.0 s, timers=1)" == repr(clock)
    timer.cancel()
    assert "ManualTimer(cancelled)" == repr(timer)
