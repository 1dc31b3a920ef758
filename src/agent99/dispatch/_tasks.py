"""Start a handler's first step at once, inside a real task.

Most handlers finish, or reach their first await, in microseconds; waiting a turn of the loop for
that costs up to a third of the throughput. Python 3.12 has `eager_start`. On 3.11 a loop of our own
hands over the task's first step instead of queueing it; on any other 3.11 loop a plain task is
made.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable, Coroutine
from contextvars import Context as ContextVars
from typing import Any, Protocol, cast

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
    def call_soon(
        self: Any,
        callback: Callable[..., object],
        *args: Any,
        context: ContextVars | None = None,
    ) -> Any:
        steps = self.agent99_first_steps
        if steps is None:
            return call_soon_of_base(self, callback, *args, context=context)
        steps.append((callback, context))
        return None

    call_soon_of_base = base.call_soon

    namespace = {"agent99_first_steps": None, "call_soon": call_soon}
    return type(f"Eager{base.__name__}", (base,), namespace)


Starter = Callable[[Coroutine[Any, Any, None]], "Task[None]"]


def eager_starter(loop: AbstractEventLoop) -> Starter:
    """Return a function that makes a task and takes its first step; the task may be done already.

    On Python 3.11, on a loop that is not one of `new_event_loop`, the first step waits its turn.
    """
    if sys.version_info >= (3, 12):

        def start(work: Coroutine[Any, Any, None]) -> Task[None]:
            return Task(work, loop=loop, eager_start=True)

        return start
    if not hasattr(loop, "agent99_first_steps"):
        return loop.create_task
    return _starter_of(loop, cast("_HandsOverFirstStep", loop))


def _starter_of(loop: AbstractEventLoop, handing: _HandsOverFirstStep) -> Starter:
    current_task = asyncio.current_task

    def start(work: Coroutine[Any, Any, None]) -> Task[None]:
        steps: list[_Step] = []
        handing.agent99_first_steps = steps
        try:
            task = Task(work, loop=loop)
        finally:
            handing.agent99_first_steps = None
        step, context = steps[0]
        outer = current_task(loop)
        if outer is None:
            context.run(step)
            return task
        asyncio.tasks._leave_task(loop, outer)  # noqa: SLF001 - what 3.12 does in eager_start
        try:
            context.run(step)
        finally:
            asyncio.tasks._enter_task(loop, outer)  # noqa: SLF001 - the reverse
        return task

    return start
