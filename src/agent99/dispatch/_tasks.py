"""Start a handler's first step at once, inside a real task.

Most handlers finish, or reach their first await, in microseconds; waiting a turn of the loop for that
costs up to a third of the throughput. Python 3.12 has `eager_start`. On 3.11 a loop of our own hands
over the task's first step instead of queueing it; on any other 3.11 loop a plain task is made.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable, Coroutine
from contextvars import Context as ContextVars
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")
_Step = tuple[Callable[..., object], ContextVars | None]


class _HandsOverFirstStep(Protocol):
    """What the loop classes below have in addition."""

    agent99_first_steps: list[_Step] | None


def new_event_loop() -> AbstractEventLoop:
    """Return an event loop that starts handlers at once: uvloop's where it is installed, else asyncio's."""
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
            return base.call_soon(self, callback, *args, context=context)
        steps.append((callback, context))
        return None

    namespace = {"agent99_first_steps": None, "call_soon": call_soon}
    return type(f"Eager{base.__name__}", (base,), namespace)


if sys.version_info >= (3, 12):

    def start_eagerly(loop: AbstractEventLoop, work: Coroutine[Any, Any, T]) -> Task[T]:
        """Return a task for `work` whose first step has been taken; it may be done already."""
        return Task(work, loop=loop, eager_start=True)

else:

    def start_eagerly(loop: AbstractEventLoop, work: Coroutine[Any, Any, T]) -> Task[T]:
        """Return a task for `work` whose first step has been taken; it may be done already."""
        if not hasattr(loop, "agent99_first_steps"):
            return loop.create_task(work)
        handing = cast("_HandsOverFirstStep", loop)
        steps: list[_Step] = []
        handing.agent99_first_steps = steps
        try:
            task = Task(work, loop=loop)
        finally:
            handing.agent99_first_steps = None
        step, context = steps[0]
        outer = asyncio.current_task(loop)
        if outer is not None:
            asyncio.tasks._leave_task(loop, outer)  # noqa: SLF001 - what 3.12 does in eager_start
        try:
            cast("ContextVars", context).run(step)
        finally:
            if outer is not None:
                asyncio.tasks._enter_task(loop, outer)  # noqa: SLF001
        return task
