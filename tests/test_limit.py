"""Waits that end in time: as asyncio's own, on a timer that all of them share."""

from __future__ import annotations

import asyncio

import pytest

from agent99.clock import Deadlines, TimeLimit, wait_ended
from agent99.testing import ManualClock


async def test_a_block_ends_when_its_time_is_up() -> None:
    """What it waits for is cancelled, and it raises `TimeoutError`; its task goes on."""
    clock = ManualClock()
    deadlines = Deadlines(clock)

    async def run() -> str:
        limit = TimeLimit(deadlines, clock, 5.0)
        with pytest.raises(TimeoutError), limit:
            await asyncio.Event().wait()
        assert "TimeLimit(5.0 s, is_up=True)" == repr(limit)
        current = asyncio.current_task()
        assert current is not None
        return f"goes on, cancelling={current.cancelling()}"

    task = asyncio.create_task(run())
    await clock.advance(4.9)
    assert not task.done()
    await clock.advance(0.2)
    assert "goes on, cancelling=0" == await task


async def test_a_block_that_ends_in_time_leaves_nothing_behind() -> None:
    """Its result and its errors come through, a `TimeoutError` of its own among them."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    with TimeLimit(deadlines, clock, 5.0):
        assert 1 == len(deadlines)
    for error in (ValueError("x"), TimeoutError("its own"), asyncio.CancelledError()):
        with pytest.raises(type(error)) as raised, TimeLimit(deadlines, clock, 5.0):
            raise error
        assert error is raised.value
    assert 0 == len(deadlines)


async def test_who_is_cancelled_as_well_is_cancelled() -> None:
    """When somebody else cancels the task at the same moment, that is what it learns."""
    clock = ManualClock()
    deadlines = Deadlines(clock)

    async def run() -> None:
        with TimeLimit(deadlines, clock, 5.0):
            await asyncio.Event().wait()

    noted: list[bool] = []
    note = noted.append
    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    deadlines.add(5.0, lambda: note(task.cancel()))  # in the same turn of the loop
    await clock.advance(5.1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [True] == noted


async def test_a_wait_ends_with_its_future_or_with_the_time() -> None:
    """It tells which; the future goes on when the time is up, and nothing is left behind."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wait_ended(deadlines, future, 5.0))
    await clock.advance(5.1)
    assert (False, False) == (await waiting, future.done())
    waiting = asyncio.create_task(wait_ended(deadlines, future, 10.0))
    await clock.advance(1.0)
    future.set_result(None)
    assert await waiting
    assert await wait_ended(deadlines, future, 10.0)
    assert 0 == len(deadlines)
