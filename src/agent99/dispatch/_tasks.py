"""Start a handler's first step at once, inside a real task.

Most handlers finish, or reach their first await, in microseconds; waiting a turn of the loop for
that costs up to a third of the throughput. Python 3.12 has `eager_start`. On 3.11 a loop of our own
hands over the first step instead of queueing it; on any other 3.11 loop a plain task is made.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import AbstractEventLoop, Task
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context as ContextVars
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from agent99.dispatch._context import Context, use_context

C = TypeVar("C", bound=Context)

Handle = Callable[[Context, Any], Awaitable[Any]]
Starter = Callable[[Handle, C, Any], "Task[None] | None"]
"""Starts a handler; returns its task, or None where it has ended already."""
Ended = Callable[[C, Any], None]
"""Takes a request and the result of its handler."""
Failed = Callable[[C, BaseException], None]
"""Takes a request and what its handler raised; raises again what is not for it."""

NESTING_MAX = 16
"""First steps within one another, on one thread; beyond them a first step waits its turn. Requests
from instance to instance in one process would else end in `RecursionError`."""

_Make = Callable[..., Task[Any]]
"""Takes a coroutine and, by name, the context of its task."""


enter_task = asyncio.tasks._enter_task  # noqa: SLF001 - what 3.12 does in eager_start
leave_task = asyncio.tasks._leave_task  # noqa: SLF001 - the reverse


class _Nesting:
    """How many first steps are being taken within one another, on one thread."""

    __slots__ = ("depth",)

    def __init__(self) -> None:
        self.depth = 0


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.nesting = _Nesting()


_of_thread = _OfThread()


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
    """Return a class whose loops have a dictionary, as C classes have none: see `_eager_maker`."""
    return type(f"Eager{base.__name__}", (base,), {"agent99_hands_over": True})


def eager_starter(loop: AbstractEventLoop, ended: Ended[C], failed: Failed[C]) -> Starter[C]:
    """Return a function that takes a handler's first step at once, in a task of its own.

    It has the request as its context. What `ended` or `failed` raises in the first step is raised
    here. The first step waits its turn beyond `NESTING_MAX`, and on Python 3.11 on a loop that is
    not one of `new_event_loop`. To be called on the loop's thread.
    """
    nesting = _of_thread.nesting  # kept: to look it up costs as much as all that is done with it
    clean = copy_context()  # not that of whoever happens to be running: another's request, maybe
    make: _Make
    if sys.version_info >= (3, 12):
        make = partial(Task, loop=loop, eager_start=True)
    elif hasattr(loop, "agent99_hands_over"):
        make = _eager_maker(loop)
    else:
        make = loop.create_task

    def start(handle: Handle, request: C, payload: Any) -> Task[None] | None:
        work = _run(ended, failed, handle, request, payload)
        depth = nesting.depth
        if depth >= NESTING_MAX:
            return loop.create_task(work, context=clean.copy())
        nesting.depth = depth + 1
        try:
            task = make(work, context=clean.copy())
        except BaseException:
            work.close()  # no stack was left for its task; else it has ended
            raise
        finally:
            nesting.depth = depth
        if not task.done():
            return task
        task.result()
        return None

    return start


def _eager_maker(loop: AbstractEventLoop) -> _Make:
    """Return a function that makes a task and takes its first step, which the task would queue."""
    call_soon, own = loop.call_soon, vars(loop)
    making: Coroutine[Any, Any, None] | None = None
    first: tuple[Callable[[], object], ContextVars] | None = None

    def hand_over(
        callback: Callable[..., object], *args: Any, context: ContextVars | None = None
    ) -> Any:
        nonlocal making, first
        # While a task is made the garbage collector may run, and finalizers put off other work.
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, Task) and owner.get_coro() is making and context is not None:
            making, first = None, (callback, context)
            return None
        return call_soon(callback, *args, context=context)

    def make(work: Coroutine[Any, Any, None], *, context: ContextVars) -> Task[None]:
        nonlocal making, first
        making, first = work, None
        own["call_soon"] = hand_over  # for this moment: at any other it costs nothing
        try:
            task = Task(work, loop=loop, context=context)
        finally:
            own.pop("call_soon", None)
            making = None
        if first is None:  # a finalizer made another one meanwhile: this one waits its turn
            return task
        (step, context), first = first, None
        outer = asyncio.current_task(loop)
        if outer is None:
            context.run(step)
            return task
        leave_task(loop, outer)
        try:
            context.run(step)
        finally:
            enter_task(loop, outer)
        return task

    return make


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
