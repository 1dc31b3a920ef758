"""Where an operation runs: in the loop, on a thread, or in a process."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from agent99.errors import HandlerError

if TYPE_CHECKING:
    from agent99.agent._blueprint import Method
    from agent99.dispatch import Context, Handler

THREADS_MAX = 32


class Pools:
    """The threads and processes that a mesh's operations share, made when they are first needed.

    Invariant: at most `THREADS_MAX` threads and as many processes as there are processors.
    """

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None
        self._processes: ProcessPoolExecutor | None = None

    def __repr__(self) -> str:
        return (
            f"Pools(threads={self._threads is not None}, processes={self._processes is not None})"
        )

    def threads(self) -> Executor:
        """Return the pool of threads."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="agent99")
        return self._threads

    def processes(self) -> ProcessPoolExecutor:
        """Return the pool of processes; a broken one is replaced."""
        if self._processes is None:
            self._processes = ProcessPoolExecutor(
                os.cpu_count(),
                mp_context=multiprocessing.get_context("spawn"),  # a fork would copy the connection
                initializer=_start_process,
            )
        return self._processes

    def forget(self, broken: ProcessPoolExecutor) -> None:
        """Let the next operation have a fresh pool: a process of this one died."""
        if self._processes is broken:
            self._processes = None
        broken.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the pools without waiting for what runs there."""
        for pool in (self._threads, self._processes):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
        self._threads = self._processes = None


def _start_process() -> None:
    """Leave the end of a pool's process to the agent's own process, and end with it."""
    # Ctrl-C reaches the whole process group; the agent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the parent's end, however it comes: after a kill -9 nobody else would end this."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def handler_of(owner: object, method: Method, pools: Pools) -> Handler:
    """Return the handler that runs a method of `owner` where it says that it runs."""
    bound: Callable[..., Any] = getattr(owner, method.attribute)
    if method.mark.runs_in == "process":
        return _in_process(bound, method, pools)
    if method.mark.runs_in == "thread":
        return _on_thread(bound, method, pools)
    return _in_loop(bound, method)


def _in_loop(bound: Callable[..., Awaitable[Any]], method: Method) -> Handler:
    signature = method.signature
    if signature.whole:

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
        return await asyncio.get_running_loop().run_in_executor(pools.threads(), call)

    return handle


def _in_process(bound: Callable[..., Any], method: Method, pools: Pools) -> Handler:
    async def handle(_context: Context, payload: Any) -> Any:
        positional, keywords = method.signature.arguments(payload)
        call = functools.partial(bound, *positional, **keywords)
        pool = pools.processes()
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, call)
        except BrokenProcessPool as error:
            pools.forget(pool)
            raise HandlerError(
                f"the process that ran {method.signature.of} died before it finished",
                details={"exception": "BrokenProcessPool"},
            ) from error

    return handle
