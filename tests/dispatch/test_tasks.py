"""A handler's first step runs at once, inside a real task."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from agent99.clock import SystemClock
from agent99.dispatch import Context, current_context, eager_starter, new_event_loop

CONTEXT = Context("work", "alice", "i", 1.0, SystemClock(), {}, None, None, None, None)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run on the loop that `agent99 run` uses."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())


def starter(
    ended: Callable[[Any, Any], None] = lambda _request, _result: None,
    failed: Callable[[Any, BaseException], None] | None = None,
) -> Callable[[Awaitable[Any]], asyncio.Task[None] | None]:
    """Return what starts work on the running loop."""

    def fail(_request: Any, error: BaseException) -> None:
        raise error

    start = eager_starter(asyncio.get_running_loop(), ended, failed or fail)
    return lambda work: start(lambda _request, _payload: work, CONTEXT, None)


def test_the_first_step_is_taken_before_the_task_is_returned() -> None:
    """Work that needs no wait is done at once."""

    async def main() -> None:
        order: list[str] = []

        async def quick() -> None:
            order.append("ran")

        task = starter()(quick())
        order.append("returned")
        assert order == ["ran", "returned"]
        assert task is None

    run(main)


def test_a_handler_is_a_task_of_its_own_from_its_first_step() -> None:
    """`current_task` is the handler's, not the caller's, and the caller's comes back."""

    async def main() -> None:
        seen: list[asyncio.Task[Any] | None] = []

        async def handler() -> None:
            seen.append(asyncio.current_task())
            await asyncio.sleep(0)
            seen.append(asyncio.current_task())

        outer = asyncio.current_task()
        task = starter()(handler())
        assert asyncio.current_task() is outer
        await task
        assert seen == [task, task]

    run(main)


def test_timeouts_and_task_groups_work_in_the_first_step() -> None:
    """`asyncio.timeout`, `TaskGroup` and `wait_for` need a real task around them."""

    async def main() -> None:
        results: list[str] = []

        async def timed() -> None:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                results.append("timeout")

        async def grouped() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0))
            results.append("group")

        async def waited() -> None:
            await asyncio.wait_for(asyncio.sleep(0), 1)
            results.append("wait_for")

        start = starter()
        await asyncio.gather(start(timed()), start(grouped()), start(waited()))
        assert sorted(results) == ["group", "timeout", "wait_for"]

    run(main)


def test_anyio_works_in_the_first_step() -> None:
    """Libraries on anyio, httpx among them, find their task and its cancel scopes."""
    anyio = pytest.importorskip("anyio")

    async def main() -> None:
        async def scoped() -> bool:
            with anyio.move_on_after(0.01) as scope:
                await anyio.sleep_forever()
            return bool(scope.cancelled_caught)

        done: list[bool] = []

        async def handler() -> None:
            done.append(await scoped())

        await starter()(handler())
        assert done == [True]

    run(main)


def test_a_task_can_be_cancelled_after_its_first_step() -> None:
    """It is a task like any other."""

    async def main() -> None:
        ended: list[str] = []

        async def handler() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("cleaned up")

        task = starter()(handler())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["cleaned up"]

    run(main)


def test_a_handler_starts_others_at_once() -> None:
    """Starting within a first step nests."""

    async def main() -> None:
        start = starter()
        order: list[str] = []

        async def inner() -> None:
            order.append("inner")

        async def outer() -> None:
            order.append("outer begins")
            assert start(inner()) is None
            order.append("outer ends")

        start(outer())
        assert order == ["outer begins", "inner", "outer ends"]

    run(main)


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
def test_whoever_starts_work_is_told_how_it_ended(waits: bool) -> None:
    """Its result, or what it raised, after its first step or a later one."""

    async def main() -> None:
        told: list[Any] = []

        async def fine() -> str:
            if waits:
                await asyncio.sleep(0)
            return current_context().operation

        async def broken() -> None:
            await fine()
            raise ValueError("broken")

        start = starter(
            lambda request, result: told.append((request, result)),
            lambda request, error: told.append((request, type(error))),
        )
        outer = asyncio.current_task()
        for work in (fine(), broken()):
            task = start(work)
            assert asyncio.current_task() is outer
            assert (task is not None) is waits
            if task is not None:
                await task
        assert told == [(CONTEXT, "work"), (CONTEXT, ValueError)]

    run(main)


def test_work_need_not_be_a_coroutine() -> None:
    """Middleware may hand on anything that can be awaited."""

    async def main() -> None:
        told: list[Any] = []
        loop = asyncio.get_running_loop()
        done, later = loop.create_future(), loop.create_future()
        done.set_result("done")
        start = starter(lambda _request, result: told.append(result))
        assert start(done) is None
        task = start(later)
        later.set_result("later")
        assert task is not None
        await task
        assert told == ["done", "later"]

    run(main)


def test_what_is_not_for_whoever_starts_work_goes_on() -> None:
    """Ctrl-C in a handler's first step is not the caller's business."""

    async def main() -> None:
        async def interrupted() -> None:
            raise KeyboardInterrupt

        outer = asyncio.current_task()
        with pytest.raises(KeyboardInterrupt):
            starter()(interrupted())
        assert asyncio.current_task() is outer

    run(main)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="3.12 starts eagerly on every loop")
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_on_a_loop_of_the_users_own_a_plain_task_is_made() -> None:
    """On 3.11 the first step waits its turn there; all else is the same."""
    ran: list[int] = []

    async def handler() -> None:
        ran.append(1)

    task = starter()(handler())
    assert ran == []
    await task
    assert ran == [1]


def test_without_uvloop_the_loop_is_asyncios(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvloop is used where it is installed, and never required."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_event_loop()
    try:
        assert isinstance(loop, asyncio.SelectorEventLoop)
        done: list[int] = []

        async def handler() -> None:
            done.append(1)

        async def main() -> None:
            assert starter()(handler()) is None

        loop.run_until_complete(main())
        assert done == [1]
    finally:
        loop.close()


def test_context_variables_stay_within_one_piece_of_work() -> None:
    """What work sets is seen after its waits and by what it starts, and by nobody else."""
    variable: ContextVar[str] = ContextVar("variable", default="none")

    async def main() -> None:
        seen: list[str] = []

        async def child() -> None:
            seen.append(variable.get())

        async def sets(value: str) -> None:
            assert variable.get() == "outer"
            variable.set(value)
            await asyncio.sleep(0)
            await asyncio.create_task(child())
            seen.append(variable.get())

        async def quick() -> None:
            variable.set("quick")

        variable.set("outer")
        start = starter()
        started = [start(sets("a")), start(quick()), start(sets("b"))]
        await asyncio.gather(*(task for task in started if task is not None))
        assert sorted(seen) == ["a", "a", "b", "b"]
        assert variable.get() == "outer"

    run(main)


def test_work_that_cancels_itself_in_its_first_step_ends_at_its_first_wait() -> None:
    """As any task: what it waits for is cancelled with it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        waited_for: asyncio.Future[None] = loop.create_future()
        ended: list[str] = []

        async def cancels(wait: Callable[[], Any]) -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            try:
                await wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        start = starter()
        for wait in (lambda: waited_for, lambda: asyncio.sleep(0)):
            task = start(cancels(wait))
            assert task is not None
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (waited_for.cancelled(), ended) == (True, ["cancelled"] * 2)

    run(main)


def test_work_can_be_started_within_a_first_step_and_outlive_it() -> None:
    """Starts nest, and each has a task of its own."""

    async def main() -> None:
        start = starter()
        tasks: list[Any] = []

        async def inner() -> None:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)

        async def outer() -> None:
            started = start(inner())
            assert started is not None
            tasks.append(asyncio.current_task())
            await started

        task = start(outer())
        assert task is not None
        await task
        assert tasks[0] is not tasks[1]
        assert tasks[1] is task

    run(main)


class Cycle:
    """Garbage for the collector, whose finalizer completes a future."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.itself = self
        self.future = future

    def __del__(self) -> None:
        """Wake who waits."""
        self.future.set_result(None)


def test_what_a_finalizer_puts_off_while_a_task_is_made_is_not_lost() -> None:
    """The collector may run at any allocation: whom it wakes is woken, and the work begins."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ran: list[int] = []
        start = starter()

        async def handler() -> None:
            ran.append(1)

        for allocations in range(1, 100):
            woken: asyncio.Future[None] = loop.create_future()
            waiter = asyncio.create_task(asyncio.wait_for(woken, 5))
            await asyncio.sleep(0)
            gc.disable()
            gc.collect()
            Cycle(woken)
            gc.set_threshold(allocations)
            gc.enable()
            assert start(handler()) is None
            gc.collect()
            await waiter
        assert len(ran) == 99

    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what is there already need not be looked at each time
    try:
        run(main)
    finally:
        gc.set_threshold(*thresholds)


def test_first_steps_nest_to_a_bound() -> None:
    """Deeper ones wait their turn, so that the stack never ends; afterwards all is as before."""

    async def main() -> None:
        start = starter()
        eager: list[bool] = []

        async def nested(levels: int) -> None:
            if not levels:
                return
            task = start(nested(levels - 1))
            eager.append(task is None)
            if task is not None:
                await task

        for _ in range(2):
            task = start(nested(sys.getrecursionlimit()))
            assert task is not None
            await task
        assert False in eager
        eager.clear()
        assert start(nested(8)) is None
        assert eager == [True] * 8

    run(main)


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
def test_what_goes_wrong_with_an_outcome_is_not_lost(waits: bool) -> None:
    """Whoever starts work gets what was raised when its outcome was told, or the task has it."""

    async def main() -> None:
        def ended(_request: Any, _result: Any) -> None:
            raise OSError("nobody could be told")

        async def handler() -> None:
            if waits:
                await asyncio.sleep(0)

        async def do() -> None:
            task = starter(ended)(handler())
            assert waits
            assert task is not None
            await task

        with pytest.raises(OSError, match="nobody"):
            await do()

    run(main)
