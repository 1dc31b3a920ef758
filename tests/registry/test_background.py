"""Background tasks start again when they fail; alarms cut waits short; waits end."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest

from agent99.errors import ClosedError, DeadlineExceededError, DisconnectedError
from agent99.ids import SeededIds
from agent99.registry._background import Alarm, Background
from agent99.registry._buckets import in_batches
from agent99.registry._waiting import Waiting
from agent99.testing import ManualClock


async def test_a_task_that_fails_starts_again(caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged and counted, and the task runs again after a growing wait."""
    clock = ManualClock()
    background = Background(clock, SeededIds(1), retry_s_min=1.0, retry_s_max=4.0)
    started_s: list[float] = []

    async def run() -> None:
        started_s.append(clock.monotonic_s())
        if len(started_s) % 2:
            raise DisconnectedError("gone")
        raise ValueError("a bug")

    with caplog.at_level(logging.INFO, logger="agent99.registry"):
        background.start("task", run)
        await clock.advance(30)
    waits = [b - a for a, b in pairwise(started_s)]
    ceilings = [1.0, 2.0, 4.0, 4.0, 4.0]
    assert all(c / 2 <= w <= c for w, c in zip(waits, ceilings, strict=False)), waits
    assert len(started_s) == background.failures
    assert {"INFO", "ERROR"} == {record.levelname for record in caplog.records}
    assert "Background(task)" == repr(background)
    await background.aclose()
    await background.aclose()
    assert "Background()" == repr(background)


async def test_of_a_row_of_failures_the_first_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What goes on is told quietly; after a good half minute it is news again."""
    clock = ManualClock()
    background = Background(clock, SeededIds(1), retry_s_min=1.0, retry_s_max=4.0)
    runs_s = iter([0.0, 0.0, 0.0, 40.0, 0.0])

    async def run() -> None:
        await clock.sleep(next(runs_s, 1e9))
        raise DeadlineExceededError("not confirmed")

    with caplog.at_level(logging.INFO, logger="agent99.registry"):
        background.start("task", run)
        await clock.advance(90)
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "INFO", "INFO", "WARNING", "INFO"]
    await background.aclose()


async def test_a_task_that_ran_long_starts_again_soon() -> None:
    """After a long good run the wait is short again."""
    clock = ManualClock()
    background = Background(clock, SeededIds(1), retry_s_min=1.0, retry_s_max=4.0)
    started_s: list[float] = []

    async def run() -> None:
        started_s.append(clock.monotonic_s())
        await clock.sleep(10)
        raise DisconnectedError("gone")

    background.start("task", run)
    await clock.advance(50)
    assert all(b - a <= 11 for a, b in pairwise(started_s))
    await background.aclose()


async def test_a_task_that_returns_is_done() -> None:
    """Returning ends a task."""
    background = Background(ManualClock(), SeededIds(1), retry_s_min=1.0, retry_s_max=4.0)
    done = asyncio.Event()

    async def run() -> None:
        done.set()

    background.start("task", run)
    await done.wait()
    await background.aclose()
    assert 0 == background.failures


async def test_an_alarm_ends_after_its_time_or_earlier() -> None:
    """A wait lasts its time, unless the alarm rings."""
    clock = ManualClock()
    alarm = Alarm(clock)
    woken_s: list[float] = []

    async def run() -> None:
        while True:
            await alarm.wait(10)
            woken_s.append(clock.monotonic_s())

    task = asyncio.create_task(run())
    await clock.advance(12)
    alarm.ring(3)
    alarm.ring(1)  # the first early ring holds
    await clock.advance(4)
    alarm.ring()
    await clock.advance(1)
    alarm.ring(5)
    alarm.close()
    alarm.close()
    await clock.advance(8)
    assert [10.0, 15.0, 16.0] == woken_s
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "Alarm(rung=False, early=False)" == repr(alarm)


async def test_a_wait_ends_when_it_holds() -> None:
    """The condition is asked at the start and at each look."""
    waiting = Waiting(ManualClock())
    found: list[int] = []
    await waiting.wait(1, "nothing", lambda: True)
    task = asyncio.create_task(waiting.wait(1, "nothing", lambda: bool(found)))
    await asyncio.sleep(0)
    waiting.look()
    assert "Waiting(1)" == repr(waiting)
    found.append(1)
    waiting.look()
    waiting.look()
    await task
    assert "Waiting(0)" == repr(waiting)


async def test_a_wait_ends_at_its_deadline() -> None:
    """What does not come in time is an error that says what was awaited."""
    clock = ManualClock()
    waiting = Waiting(clock)
    task = asyncio.create_task(waiting.wait(2.5, "nobody came", lambda: False))
    await clock.advance(2.4)
    assert not task.done()
    await clock.advance(0.1)
    with pytest.raises(DeadlineExceededError, match=r"nobody came within 2\.5 s"):
        await task


async def test_a_wait_ends_when_it_is_closed() -> None:
    """Closing ends every wait with `ClosedError`."""
    waiting = Waiting(ManualClock())
    task = asyncio.create_task(waiting.wait(1, "nothing", lambda: False))
    await asyncio.sleep(0)
    waiting.close()
    waiting.look()
    with pytest.raises(ClosedError):
        await task


async def test_a_condition_that_raises_ends_its_own_wait() -> None:
    """The error goes to who asked, and the others wait on."""
    waiting = Waiting(ManualClock())
    divisors = [1]
    other = asyncio.create_task(waiting.wait(1, "nothing", lambda: False))
    task = asyncio.create_task(waiting.wait(1, "nothing", lambda: 0 // divisors[0] > 0))
    await asyncio.sleep(0)
    divisors[0] = 0
    waiting.look()
    with pytest.raises(ZeroDivisionError):
        await task
    assert not other.done()
    other.cancel()


async def test_batches_are_bounded_and_end_at_an_error() -> None:
    """At most so many run at once; after an error no further batch starts."""
    running = most = 0
    done: list[int] = []

    async def act(number: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        if number == 5:
            raise DisconnectedError("gone")
        done.append(number)

    with pytest.raises(DisconnectedError):
        await in_batches(range(10), 3, act)
    assert (3, [0, 1, 2, 3, 4]) == (most, done)
