"""Where an operation runs: in the loop, on a thread, or in a process."""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from agent99.agent._processes import DiedError, Processes
from agent99.agent._threads import Threads
from agent99.dispatch import never_waits
from agent99.errors import Failure, HandlerError

if TYPE_CHECKING:
    from agent99.agent._binding import Host
    from agent99.agent._blueprint import Method
    from agent99.dispatch import Context, Handler


class Pools:
    """The threads and processes that a mesh's operations share, made when they are first needed.

    Invariant: as many processes as there are processors, at most; of threads see `Threads`.
    """

    def __init__(self) -> None:
        self._threads: Threads | None = None
        self._processes: Processes | None = None

    def __repr__(self) -> str:
        return f"Pools({self._threads!r}, {self._processes!r})"

    def threads(self) -> Threads:
        """Return the threads."""
        if self._threads is None:
            self._threads = Threads()
        return self._threads

    def processes(self) -> Processes:
        """Return the processes."""
        if self._processes is None:
            self._processes = Processes(os.cpu_count() or 1)
        return self._processes

    def close(self) -> None:
        """End the processes, and the threads that have nothing to do; wait for none of them."""
        for pool in (self._threads, self._processes):
            if pool is not None:
                pool.close()
        self._threads = self._processes = None


def handler_of(host: Host, method: Method, pools: Pools) -> Handler:
    """Return the handler that runs a method of a host's agent where it says that it runs."""
    mark = method.mark
    if mark.binding is not None:
        return mark.binding.bind(host, mark.name, method.attribute, method.signature)
    bound: Callable[..., Any] = getattr(host.agent, method.attribute)
    if method.mark.runs_in == "process":
        return _in_process(bound, method, pools)
    if method.mark.runs_in == "thread":
        return _on_thread(bound, method, pools)
    return _in_loop(bound, method)


def ends_at_once(host: Host, method: Method) -> bool:
    """Tell whether a method runs in the loop and never waits: its handler needs no task."""
    if method.mark.binding is not None or method.mark.runs_in != "loop":
        return False
    return never_waits(getattr(host.agent, method.attribute))


def _in_loop(bound: Callable[..., Awaitable[Any]], method: Method) -> Handler:
    signature = method.signature
    if signature.whole and not signature.keyword_fields:

        def take_whole(_context: Context, payload: Any) -> Awaitable[Any]:
            return bound(payload)

        return take_whole

    def take_fields(_context: Context, payload: Any) -> Awaitable[Any]:
        positional, keywords = signature.arguments(payload)
        return bound(*positional, **keywords)

    return take_fields


def _on_thread(bound: Callable[..., Any], method: Method, pools: Pools) -> Handler:
    async def handle(_context: Context, payload: Any) -> Any:
        positional, keywords = method.signature.arguments(payload)
        call = functools.partial(copy_context().run, bound, *positional, **keywords)
        return await pools.threads().run(call)

    return handle


def _in_process(bound: Callable[..., Any], method: Method, pools: Pools) -> Handler:
    async def handle(_context: Context, payload: Any) -> Any:
        positional, keywords = method.signature.arguments(payload)
        call = functools.partial(bound, *positional, **keywords)
        try:
            return await pools.processes().run(call)
        except DiedError as error:
            raise Failure(
                f"the process that ran {method.signature.of} died before it finished",
                code=HandlerError.code,
                details={"exit_code": error.exit_code},
            ) from error

    return handle
