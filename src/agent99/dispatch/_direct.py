"""Run handlers that never wait, without a task for each.

A coroutine function without an `await` cannot be suspended: it ends in its first step, and nothing
that happens meanwhile can cancel it. A task of its own would cost more than most such handlers do.
"""

from __future__ import annotations

import asyncio
import dis
from asyncio import AbstractEventLoop
from collections.abc import Coroutine
from contextvars import copy_context
from inspect import CO_COROUTINE
from types import FunctionType, MethodType
from typing import Any, cast

from agent99.dispatch._context import use_context
from agent99.dispatch._tasks import C, Ended, Failed, Handle, Starter, enter_task, leave_task


def never_waits(function: object) -> bool:
    """Tell whether a coroutine function has no `await`, `async with` or `async for` in it."""
    if isinstance(function, MethodType):
        function = function.__func__
    if not (isinstance(function, FunctionType) and function.__code__.co_flags & CO_COROUTINE):
        return False
    return all(step.opname != "YIELD_VALUE" for step in dis.get_instructions(function))


def direct_runner(loop: AbstractEventLoop, ended: Ended[C], failed: Failed[C]) -> Starter[C]:
    """Return a function that runs a handler that never waits from its start to its end.

    It has the request as its context, and context variables of its own. The current task is then
    one that has ended: libraries see that they run on asyncio, and nothing can be done to it.
    """
    no_task, clean = loop.create_task(_nothing()), copy_context()

    def run(handle: Handle, request: C, payload: Any) -> None:
        use_context(request)
        try:
            work = cast("Coroutine[Any, Any, Any]", handle(request, payload))
            try:
                work.send(None)
            except StopIteration as end:
                result = end.value
            else:
                work.close()
                raise RuntimeError("a handler waits that was said not to")
        except BaseException as error:  # noqa: BLE001 - the user's handler: its caller is told
            failed(request, error)
        else:
            ended(request, result)

    def start(handle: Handle, request: C, payload: Any) -> None:
        outer = asyncio.current_task(loop)
        if outer is not None:
            leave_task(loop, outer)
        enter_task(loop, no_task)
        try:
            clean.copy().run(run, handle, request, payload)
        finally:
            leave_task(loop, no_task)
            if outer is not None:
                enter_task(loop, outer)

    return start


async def _nothing() -> None:
    pass
