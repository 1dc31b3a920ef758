"""Processes for what would hold the interpreter's lock; a call that nobody awaits is killed."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from agent99.agent._threads import Threads

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess


class DiedError(Exception):
    """The process ended before it answered."""

    def __init__(self, exit_code: int | None) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


class _Worker:
    """A process that runs one call at a time, started by the first.

    Invariant: once it is not `usable` it never is again, and its process is about to end.
    """

    def __init__(self) -> None:
        self._running: tuple[BaseProcess, Connection] | None = None
        self.usable = True

    def __repr__(self) -> str:
        return f"_Worker(pid={self._running and self._running[0].pid}, usable={self.usable})"

    def is_alive(self) -> bool:
        return self._running is not None and self._running[0].is_alive()

    def run(self, call: Callable[[], Any]) -> Any:
        """Have the process make the call; on a thread that may wait for it."""
        import pickle  # noqa: PLC0415 - dear, seldom needed
        from multiprocessing.reduction import ForkingPickler  # noqa: PLC0415 - as above

        data = ForkingPickler.dumps(call)
        process, link = self._running or self._start()
        try:
            link.send_bytes(data)
            answer = link.recv_bytes()
        except (OSError, EOFError):
            self.kill()
            process.join()
            link.close()
            raise DiedError(process.exitcode) from None
        is_result, value = pickle.loads(answer)  # noqa: S301 - from our own process
        if not is_result:
            raise value
        return value

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        self.usable = False
        if self._running is not None:  # else `_start` finds that it is not usable
            self._running[0].kill()

    def end(self) -> None:
        """Let the process, which has nothing to do, clean up and end."""
        self.usable = False
        if self._running is not None:
            process, link = self._running
            link.close()
            process.terminate()

    def _start(self) -> tuple[BaseProcess, Connection]:
        import multiprocessing  # noqa: PLC0415 - dear, seldom needed

        context = multiprocessing.get_context("spawn")  # a fork would copy the connection
        link, far_end = context.Pipe()
        process = context.Process(target=_serve_calls, args=(far_end,), name="agent99")
        process.start()
        far_end.close()
        self._running = process, link
        if not self.usable:
            process.kill()
        return self._running


class Processes:
    """Processes that stay for the next call; one whose caller has gone is killed and replaced.

    Invariant: at most `processes_max` of them run a call or wait for one.
    """

    def __init__(self, processes_max: int) -> None:
        # Its own exit waits for every process. What registers later runs earlier: ours ends them.
        import_module("multiprocessing.util")
        self._places = asyncio.Semaphore(processes_max)
        self._threads = Threads()  # each waits for a process, and ends with it
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._owner = os.getpid()
        atexit.register(self.close)

    def __repr__(self) -> str:
        return f"Processes(busy={len(self._busy)}, idle={len(self._idle)})"

    async def run(self, call: Callable[[], Any]) -> Any:
        """Make a call in a process and return its result. To be cancelled kills the process.

        Raises:
            DiedError: the process ended before the call did.
            whatever the call raises.
        """
        async with self._places:
            worker = self._take()
            self._busy.add(worker)
            try:
                return await self._threads.run(functools.partial(worker.run, call))
            except asyncio.CancelledError:
                worker.kill()
                raise
            finally:
                self._busy.discard(worker)
                if worker.usable:
                    self._idle.append(worker)

    def close(self) -> None:
        """End the processes, also those that run a call; wait for none of them."""
        if os.getpid() != self._owner:
            return  # a fork, with its exit functions: the processes are its parent's
        atexit.unregister(self.close)
        for worker in self._busy:
            worker.kill()
        for worker in self._idle:
            worker.end()
        self._idle.clear()
        self._threads.close()

    def _take(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive():  # else somebody killed it meanwhile
                return worker
        return _Worker()


def _serve_calls(link: Connection) -> None:
    """Be a process of a pool: make the calls that come, until there are no more."""
    # Ctrl-C reaches the whole process group; the agent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            link.send_bytes(_answer(link.recv_bytes()))


def _answer(data: bytes) -> bytes | memoryview:
    import pickle  # noqa: PLC0415 - as above
    from multiprocessing.reduction import ForkingPickler  # noqa: PLC0415 - as above

    try:
        result = pickle.loads(data)()  # noqa: S301 - from the agent
        return ForkingPickler.dumps((True, result))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
        import traceback  # noqa: PLC0415 - only what breaks needs it

        error.add_note("".join(traceback.format_exception(error)))
        try:
            answer = ForkingPickler.dumps((False, error))
            pickle.loads(answer)  # noqa: S301 - some can be packed, and not unpacked
        except Exception:  # noqa: BLE001 - a user's error may refuse to travel in any way
            told = RuntimeError(f"{type(error).__name__}: {error}")
            return ForkingPickler.dumps((False, told))
        return answer


def _end_with_parent() -> None:
    """Wait for the parent's end, however it comes: after a kill -9 nobody else would end this."""
    import multiprocessing  # noqa: PLC0415 - as above

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
