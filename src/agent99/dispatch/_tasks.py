"""Start a handler's first step at once, inside a real task.

Most handlers finish, or reach their first await, in microseconds; waiting a turn of the loop for
that costs up to a third of the throughput. Python 3.12 has `eager_start`. On 3.11 a loop of our own
hands over the first step instead of queueing it; on any other 3.11 loop a plain task is made.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context as ContextVars
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from agent99.dispatch._context import Context, use_context

C = TypeVar("C", bound=Context)

Handle = Callable[[Context, Any], Awaitable[Any]]
Starter = Callable[[Handle, C, Any], "Task[None] | None"]
"""Starts a handler; returns its task, or None where it has ended already."""
Ended = Callable[[C, Any], None]
"""Takes a request and the result of its handler."""
Failed = Callable[[C, BaseException], None]
"""Takes a request and what its handler raised; raises again what is not for it."""

_Make = Callable[[Coroutine[Any, Any, None]], "Task[None]"]
_Step = tuple[Callable[..., object], ContextVars]


class _HandsOverFirstStep(Protocol):
    """What the loop classes below have in addition."""

    agent99_first_steps: list[_Step] | None


def new_event_loop() -> AbstractEventLoop:
    """Return a loop that starts handlers at once: uvloop's where installed, else asyncio's."""
    base: type[asyncio.AbstractEventLoop]
    try:
        import uvloop  # noqa: PLC0415 - optional, and not needed to import agent99

        base = uvloop.Loop
    except ImportError:
        base = asyncio.SelectorEventLoop
    if sys.version_info >= (3, 12):
        return base()
    return _handing_over(base)()


def _handing_over(base: type[AbstractEventLoop]) -> type[AbstractEventLoop]:
    call_soon_of_base = base.call_soon

    def call_soon(
        self: Any,
        callback: Callable[..., object],
        *args: Any,
        context: ContextVars | None = None,
    ) -> Any:
        steps = self.agent99_first_steps
        if steps is None or context is None:  # a task's step always brings its context
            return call_soon_of_base(self, callback, *args, context=context)
        steps.append((callback, context))
        return None

    namespace = {"agent99_first_steps": None, "call_soon": call_soon}
    return type(f"Eager{base.__name__}", (base,), namespace)


def eager_starter(loop: AbstractEventLoop, ended: Ended[C], failed: Failed[C]) -> Starter[C]:
    """Return a function that takes a handler's first step at once, in a task of its own.

    It has the request as its context. On Python 3.11, on a loop that is not one of
    `new_event_loop`, the first step waits its turn.
    """
    make: _Make
    if sys.version_info >= (3, 12):
        make = partial(Task, loop=loop, eager_start=True)
    elif hasattr(loop, "agent99_first_steps"):
        make = partial(_make_eagerly, loop, cast("_HandsOverFirstStep", loop))
    else:
        make = loop.create_task

    def start(handle: Handle, request: C, payload: Any) -> Task[None] | None:
        task = make(_run(ended, failed, handle, request, payload))
        return None if task.done() else task

    return start


def _make_eagerly(
    loop: AbstractEventLoop, handing: _HandsOverFirstStep, work: Coroutine[Any, Any, None]
) -> Task[None]:
    steps: list[_Step] = []
    handing.agent99_first_steps = steps
    try:
        task = Task(work, loop=loop)
    finally:
        handing.agent99_first_steps = None
    step, context = steps[-1]  # before it, what the garbage collector ended just then
    for other, its_context in steps[:-1]:
        loop.call_soon(other, context=its_context)
    outer = asyncio.current_task(loop)
    if outer is None:
        context.run(step)
        return task
    asyncio.tasks._leave_task(loop, outer)  # noqa: SLF001 - what 3.12 does in eager_start
    try:
        context.run(step)
    finally:
        asyncio.tasks._enter_task(loop, outer)  # noqa: SLF001 - the reverse
    return task


async def _run(
    ended: Ended[C], failed: Failed[C], handle: Handle, request: C, payload: Any
) -> None:
    use_context(request)
    try:
        result = await handle(request, payload)
    except BaseException as error:  # noqa: BLE001 - the user's handler: `failed` tells its caller
        failed(request, error)
    else:
        ended(request, result)
