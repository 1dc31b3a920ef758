"""Start a handler's first step at once, inside a real task.

Most handlers finish, or reach their first await, in microseconds; waiting a turn of the loop for
that costs up to a third of the throughput. Python 3.12 has `eager_start`. On 3.11 a loop of our own
has tasks that stand ready; on any other 3.11 loop a plain task is made.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable
from contextvars import copy_context
from typing import cast

from agent99.dispatch._spare import SpareTask, Work, enter_task, leave_task

Starter = Callable[[Work], "Task[None] | None"]
"""Starts work; returns its task, or None where the work has ended already."""

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


def eager_starter(loop: AbstractEventLoop) -> Starter:
    """Return a function that takes the first step of work at once, in a task of its own.

    On Python 3.11, on a loop that is not one of `new_event_loop`, the first step waits its turn.
    """
    if sys.version_info >= (3, 12):

        def start(work: Work) -> Task[None] | None:
            task = Task(work, loop=loop, eager_start=True)
            return None if task.done() else task

        return start
    if not hasattr(loop, _OURS):
        return loop.create_task
    return _SpareStarter(loop).start


class _SpareStarter:
    """Takes first steps in the name of tasks that stand ready.

    A task that turns out not to be needed is the dearest part of a short request. So the task is
    made before, and when the work ends in its first step, the next work has the same one.

    Invariant: what is in `_ready` has never run, and nobody else knows of it.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: list[SpareTask] = []  # one, and one more for each start within a first step

    def __repr__(self) -> str:
        return f"_SpareStarter(ready={len(self._ready)})"

    def start(self, work: Work) -> Task[None] | None:
        """Take the first step of work; what it raises there stays in its task."""
        loop = self._loop
        spare = self._ready.pop() if self._ready else SpareTask(loop)
        context = copy_context()
        outer = asyncio.current_task(loop)
        if outer is not None:
            leave_task(loop, outer)
        try:
            enter_task(loop, spare.task)
            try:
                waits_for = context.run(work.send, None)
            finally:
                leave_task(loop, spare.task)
            spare.go_on_with(work, context, waits_for)
        except StopIteration:  # it has ended
            if spare.is_like_new():
                self._ready.append(spare)
            else:
                spare.end(_nothing())
            return None
        except BaseException as error:  # noqa: BLE001 - the task has it
            spare.end(_fail(error))
        finally:
            if outer is not None:
                enter_task(loop, outer)
        return spare.task


async def _nothing() -> None:
    """Be what is left of work that has ended."""


async def _fail(error: BaseException) -> None:
    """Be what is left of work that has failed."""
    raise error
