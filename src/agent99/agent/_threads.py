"""Threads for what would block the event loop: as many as there are calls, up to a bound."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Literal

from agent99.errors import ClosedError, Failure, HandlerError

THREADS_MAX = 1_000
"""Threads of one mesh's `def` operations. A thread may wait for another's answer, so that few would
starve one another: the bound is far above what an instance's `concurrency_max` lets in."""
ABANDONED_MAX = 500
"""Of them, those that go on although nobody waits for them; beyond it no call is taken on."""
IDLE_S = 10.0
"""A thread ends that had nothing to do for so long."""


class _Work:
    """One piece of work for a thread, and its outcome."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self.stage: Literal["waiting", "running", "abandoned", "over"] = "waiting"
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._run = run
        self._result: Any = None
        self._error: BaseException | None = None

    def __repr__(self) -> str:
        return f"_Work({self.stage})"

    def run(self) -> None:
        try:
            self._result = self._run()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the outcome
            self._error = error

    def tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits there any longer
            self.done.get_loop().call_soon_threadsafe(self._wake)

    def outcome(self) -> Any:
        error, self._error = self._error, None  # else each would keep the other alive
        if error is not None:
            raise error
        return self._result

    def _wake(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


class Threads:
    """Threads that are started when none is idle, and end when they are idle for `idle_s`.

    They are daemons: one that never returns does not keep the process from ending.

    Invariant: at most `threads_max` threads, the abandoned ones among them; work waits only while
    there are so many; an idle thread's inbox is empty.
    """

    def __init__(
        self,
        threads_max: int = THREADS_MAX,
        *,
        abandoned_max: int = ABANDONED_MAX,
        idle_s: float = IDLE_S,
    ) -> None:
        self.count = 0
        """Threads that live."""
        self.abandoned = 0
        """Those whose caller does not wait any longer."""
        self._threads_max = threads_max
        self._abandoned_max = abandoned_max
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._idle: list[SimpleQueue[_Work | None]] = []  # the last is used first: the others end
        self._waiting: deque[_Work] = deque()
        self._closed = False

    def __repr__(self) -> str:
        return f"Threads({self.count}, abandoned={self.abandoned}, waiting={len(self._waiting)})"

    async def run(self, work: Callable[[], Any]) -> Any:
        """Run `work` on a thread and return its result.

        To be cancelled leaves the thread behind; work that has not begun never begins.

        Raises:
            Failure: too many threads were left behind, or the system gives no more of them.
            ClosedError
            whatever `work` raises.
        """
        item = _Work(work)
        self._submit(item)
        try:
            await item.done
        except asyncio.CancelledError:
            self._give_up(item)
            raise
        return item.outcome()

    def close(self) -> None:
        """End the threads as soon as they have nothing to do; what waits is cancelled."""
        with self._lock:
            self._closed = True
            self.count -= len(self._idle)
            for inbox in self._idle:
                inbox.put(None)
            self._idle.clear()
            waiting = list(self._waiting)
        for item in waiting:
            item.done.cancel()

    def _submit(self, item: _Work) -> None:
        with self._lock:
            if self._closed:
                raise ClosedError("mesh")
            if self.abandoned >= self._abandoned_max:
                raise _refusal(
                    f"{self.abandoned:,} calls go on on threads although nobody waits for them any"
                    " longer; no other is begun until one of them returns"
                )
            if self._idle:
                self._idle.pop().put(item)
                return
            if self.count >= self._threads_max:
                self._waiting.append(item)
                return
            self.count += 1
        inbox: SimpleQueue[_Work | None] = SimpleQueue()
        inbox.put(item)
        try:
            threading.Thread(target=self._serve, args=(inbox,), name="agent99", daemon=True).start()
        except RuntimeError as error:
            with self._lock:
                self.count -= 1
            raise _refusal(f"beside {self.count:,} threads no other starts: {error}") from error

    def _give_up(self, item: _Work) -> None:
        with self._lock:
            if item.stage == "running":
                item.stage = "abandoned"
                self.abandoned += 1
            elif item.stage == "waiting":
                item.stage = "over"
                if item in self._waiting:  # else it is in an inbox already
                    self._waiting.remove(item)

    # --- on the thread ----------------------------------------------------------------------------

    def _serve(self, inbox: SimpleQueue[_Work | None]) -> None:
        while (item := self._next(inbox)) is not None:
            if self._begin(item):
                item.run()
            self._finish(item, inbox)
            item.tell()  # after the thread is idle: else the next call would start another
            del item  # an idle thread keeps no result alive

    def _next(self, inbox: SimpleQueue[_Work | None]) -> _Work | None:
        try:
            return inbox.get(timeout=self._idle_s)
        except Empty:
            with self._lock:
                if inbox in self._idle:
                    self._idle.remove(inbox)
                    self.count -= 1
                    return None
            return inbox.get()  # it came just now

    def _begin(self, item: _Work) -> bool:
        with self._lock:
            if item.stage == "over":
                return False
            item.stage = "running"
            return True

    def _finish(self, item: _Work, inbox: SimpleQueue[_Work | None]) -> None:
        with self._lock:
            if item.stage == "abandoned":
                self.abandoned -= 1
            item.stage = "over"
            if self._closed:
                self.count -= 1
                inbox.put(None)
            elif self._waiting:
                inbox.put(self._waiting.popleft())
            else:
                self._idle.append(inbox)


def _refusal(reason: str) -> Failure:
    """Return what the caller gets as a `HandlerError` in these very words."""
    return Failure(reason, code=HandlerError.code, retryable=True)
