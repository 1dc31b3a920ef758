"""Start a handler's first step at once, inside a real task.

Most handlers finish, or reach their first await, in microseconds; waiting a turn of the loop for
that costs up to a third of the throughput. Python 3.12 has `eager_start`. On 3.11 a loop of our own
has tasks that stand ready; on any other 3.11 loop a plain task is made.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable
from contextvars import Context as ContextVars
from contextvars import copy_context
from functools import partial
from types import CoroutineType
from typing import Any, Generic, TypeVar, cast

from agent99.dispatch._context import Context, use_context
from agent99.dispatch._spare import SpareTask, Work, current_tasks, enter_task, leave_task

C = TypeVar("C", bound=Context)

Handle = Callable[[Context, Any], Awaitable[Any]]
Starter = Callable[[Handle, C, Any], "Task[None] | None"]
"""Starts a handler; returns its task, or None where it has ended already."""
Ended = Callable[[C, Any], None]
"""Takes a request and the result of its handler."""
Failed = Callable[[C, BaseException], None]
"""Takes a request and what its handler raised; raises again what is not for it."""

_OURS = "agent99_starts_at_once"


def new_event_loop() -> AbstractEventLoop:
    """Return an event loop that starts handlers at once: uvloop's if installed, else asyncio's."""
    base: type[asyncio.AbstractEventLoop]
    try:
        import uvloop  # noqa: PLC0415 - optional, and not needed to import agent99

        base = uvloop.Loop
    except ImportError:
        base = asyncio.SelectorEventLoop
    if sys.version_info >= (3, 12):
        return base()
    return cast("AbstractEventLoop", type(f"Eager{base.__name__}", (base,), {_OURS: True})())


def eager_starter(loop: AbstractEventLoop, ended: Ended[C], failed: Failed[C]) -> Starter[C]:
    """Return a function that takes a handler's first step at once, in a task of its own.

    It has the request as its context. On Python 3.11, on a loop that is not one of
    `new_event_loop`, the first step waits its turn.
    """
    if sys.version_info >= (3, 12):
        make = partial(Task, loop=loop, eager_start=True)
        return partial(_start_task, make, ended, failed)
    if not hasattr(loop, _OURS):
        return partial(_start_task, loop.create_task, ended, failed)
    return _SpareStarter(loop, ended, failed).start


def _start_task(
    make: Callable[[Work], Task[None]],
    ended: Ended[C],
    failed: Failed[C],
    handle: Handle,
    request: C,
    payload: Any,
) -> Task[None] | None:
    task = make(_run(ended, failed, handle, request, payload))
    return None if task.done() else task


async def _run(
    ended: Ended[C], failed: Failed[C], handle: Handle, request: C, payload: Any
) -> None:
    use_context(request)
    try:
        result = await handle(request, payload)
    except BaseException as error:  # noqa: BLE001 - `failed` raises again what is not for it
        failed(request, error)
    else:
        ended(request, result)


class _SpareStarter(Generic[C]):
    """Takes first steps in the name of tasks that stand ready.

    A task that turns out not to be needed is the dearest part of a short request. So the task is
    made before, and when a handler ends in its first step, the next one has the same task.

    Invariant: what is in `_ready` has never run, and nobody else knows of it.
    """

    def __init__(self, loop: AbstractEventLoop, ended: Ended[C], failed: Failed[C]) -> None:
        self._loop = loop
        self._ended = ended
        self._failed = failed
        self._ready: list[SpareTask] = []  # one, and one more for each start within a first step

    def __repr__(self) -> str:
        return f"_SpareStarter(ready={len(self._ready)})"

    def start(self, handle: Handle, request: C, payload: Any) -> Task[None] | None:
        """Take the first step."""
        loop, ready = self._loop, self._ready
        spare = ready.pop() if ready else SpareTask(loop)
        context = copy_context()
        context.run(use_context, request)
        outer = current_tasks.get(loop)
        if outer is not None:
            leave_task(loop, outer)
        error = None
        try:
            enter_task(loop, spare.task)
            try:
                called: Any = handle(request, payload)
                work: Work = called if called.__class__ is CoroutineType else _wait_for(called)
                waits_for = context.run(work.send, None)
            finally:
                leave_task(loop, spare.task)
                if outer is not None:
                    enter_task(loop, outer)
        except StopIteration as end:
            result = end.value
        except BaseException as raised:  # noqa: BLE001 - `failed` raises again what is not for it
            error, result = raised, None
        else:
            return self._go_on(spare, request, (work, context, waits_for), outer)
        if spare.is_like_new():
            ready.append(spare)
        else:
            spare.end()
        if error is None:
            self._ended(request, result)
        else:
            try:
                self._failed(request, error)
            finally:
                del error  # it knows this frame
        return None

    def _go_on(
        self,
        spare: SpareTask,
        request: C,
        begun: tuple[Work, ContextVars, Any],
        outer: Task[Any] | None,
    ) -> Task[None]:
        """Let the task have the rest."""
        if outer is not None:
            leave_task(self._loop, outer)
        try:
            spare.go_on_with(*begun, partial(self._ended, request), partial(self._failed, request))
        finally:
            if outer is not None:
                enter_task(self._loop, outer)
        return spare.task


async def _wait_for(work: Awaitable[Any]) -> Any:
    return await work
