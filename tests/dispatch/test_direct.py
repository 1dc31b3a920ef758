"""A handler that never waits runs without a task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from agent99.clock import SystemClock
from agent99.dispatch import Context, current_context, direct_runner, never_waits

CONTEXT = Context("work", "alice", "i", 1.0, SystemClock(), {}, None, None, None, None)


async def quick() -> int:
    """Add."""
    return 1 + 1


async def with_await() -> None:
    """Wait."""
    await asyncio.sleep(0)


async def with_block() -> None:
    """Enter something that may wait."""
    async with asyncio.Lock():
        pass


async def with_loop() -> None:
    """Take from something that may wait."""
    async for _ in generator():
        pass


async def with_comprehension() -> list[int]:
    """Do the same in one expression."""
    return [number async for number in generator()]


async def generator() -> AsyncIterator[int]:
    """Give."""
    yield 1


def plain() -> None:
    """Be no coroutine function."""


class Owner:
    """Has methods."""

    async def quick(self) -> None:
        """Return."""

    async def slow(self) -> None:
        """Wait."""
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (quick, True),
        (Owner().quick, True),
        (Owner().slow, False),
        (with_await, False),
        (with_block, False),
        (with_loop, False),
        (with_comprehension, False),
        (generator, False),
        (plain, False),
        (partial(quick), False),
    ],
)
def test_what_has_no_await_never_waits(function: Any, expected: bool) -> None:
    """Anything that could wait, or that cannot be looked into, has a task of its own."""
    assert expected == never_waits(function)


class Told:
    """Keeps what a runner tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def runner(self) -> Callable[[Callable[[], Any]], None]:
        """Return a runner on the running loop: it takes a coroutine function."""

        def failed(_request: Context, error: BaseException) -> None:
            self.told.append(type(error))
            if isinstance(error, KeyboardInterrupt):
                raise error

        def ended(request: Context, result: Any) -> None:
            assert current_context() is request
            self.told.append(result)

        start = direct_runner(asyncio.get_running_loop(), ended, failed)

        def run(function: Callable[[], Any]) -> None:
            start(lambda _request, _payload: function(), CONTEXT, None)

        return run


async def test_it_has_ended_when_the_runner_returns() -> None:
    """Its result, or what it raised, is told by then."""

    async def broken() -> None:
        raise ValueError

    told = Told()
    run = told.runner()
    run(quick)
    run(broken)
    run(lambda: None)  # no coroutine: as if the handler had raised
    assert told.told == [2, ValueError, AttributeError]


async def test_the_current_task_is_nobodys_and_the_callers_comes_back() -> None:
    """To cancel it, or to ask it whether it was cancelled, harms nobody."""
    seen: list[Any] = []

    async def handler() -> None:
        task = asyncio.current_task()
        assert task is not None
        seen.append((task is outer, task.cancel(), task.cancelling()))

    outer, told = asyncio.current_task(), Told()
    run = told.runner()
    await asyncio.sleep(0)
    run(handler)
    assert asyncio.current_task() is outer
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(lambda: done.set_result((run(handler), asyncio.current_task(loop))))
    assert await done == (None, None)
    assert (seen, told.told) == ([(False, False, 0)] * 2, [None, None])


async def test_context_variables_stay_within_it() -> None:
    """What it sets is seen by nobody else, and it sees what its caller has set."""
    variable: ContextVar[str] = ContextVar("variable", default="none")

    async def handler() -> str:
        before = variable.get()
        variable.set("inner")
        return before

    variable.set("outer")
    told = Told()
    run = told.runner()
    run(handler)
    run(handler)
    assert (told.told, variable.get()) == (["outer", "outer"], "outer")


async def test_an_interrupt_goes_on_to_whoever_runs_the_loop() -> None:
    """Ctrl-C in a handler is not the caller's business."""

    async def interrupted() -> None:
        raise KeyboardInterrupt

    outer, told = asyncio.current_task(), Told()
    with pytest.raises(KeyboardInterrupt):
        told.runner()(interrupted)
    assert asyncio.current_task() is outer


async def test_what_waits_although_is_told_so() -> None:
    """It is closed, its clean-up has run, and whoever asked gets an error."""
    cleaned: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            cleaned.append("up")

    told = Told()
    told.runner()(waits)
    assert (told.told, cleaned) == ([RuntimeError], ["up"])
