"""Threads that run transactions, and the way to them and back.

The way there is a queue; the way back is one wake-up of the event loop for all answers that are
ready, since a thread hop for each would cost more than the transaction itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any, Protocol

from agent99.errors import ClosedError, StoreOverloadedError, TransactionConflictError
from agent99.store._failures import SerializationError
from agent99.store._scope import Scope
from agent99.store._transaction import Transaction

_RETRY_S_MIN = 0.005
_RETRY_S_MAX = 0.5

Work = Callable[[Transaction], Any]


class Job:
    """One function that waits for its transaction, and the future of its answer."""

    __slots__ = ("attempts", "future", "work")

    def __init__(self, work: Work | None, future: asyncio.Future[Any]) -> None:
        self.work = work
        """None: the thread that takes it ends."""
        self.future = future
        self.attempts = 0

    def __repr__(self) -> str:
        return f"Job({self.work!r}, attempts={self.attempts})"


class Outcome:
    """How a job ended: with a value, or with an error."""

    __slots__ = ("error", "has_appended", "job", "value")

    def __init__(
        self, job: Job, value: Any, error: BaseException | None, *, has_appended: bool = False
    ) -> None:
        self.job = job
        self.value = value
        self.error = error
        self.has_appended = has_appended
        """Whether its commit put rows into the outbox."""

    def __repr__(self) -> str:
        return f"Outcome({self.job!r}, error={self.error!r})"


class Runner(Protocol):
    """Runs jobs on one thread, with a connection of its own."""

    @property
    def commits(self) -> int:
        """Commits made so far."""
        ...

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run every job; never raises."""
        ...

    def close(self) -> None:
        """Close the connection; never raises."""
        ...


class Answers:
    """Carries outcomes from threads to the event loop.

    Invariant: while outcomes are ready, a wake-up is on its way.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Outcome], None]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._ready: deque[Outcome] = deque()
        self._is_coming = False

    def __repr__(self) -> str:
        return f"Answers(ready={len(self._ready)})"

    def post(self, outcomes: Sequence[Outcome]) -> None:
        """Hand outcomes over; from any thread."""
        self._ready.extend(outcomes)
        if self._is_coming:
            return
        self._is_coming = True
        try:
            self._loop.call_soon_threadsafe(self._arrive)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be answered

    def _arrive(self) -> None:
        # First the flag: what is posted after the last look at the queue brings its own wake-up.
        self._is_coming = False
        while self._ready:
            self._deliver(self._ready.popleft())


class Desk:
    """Takes functions in, lets threads run them in order, answers their callers.

    Invariant: `waiting` counts the jobs that are not answered yet, and is at most `waiting_max`.
    """

    def __init__(self, what: str, scope: Scope, on_appended: Callable[[], None]) -> None:
        self.what = what
        self.is_closed = False
        self.waiting = 0
        self.answered = 0
        """Jobs that ended, with a result or an error."""
        self.failures = 0
        """Those of them that ended with an error."""
        self.retries = 0
        self._scope = scope
        self._options = scope.options
        self._on_appended = on_appended
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._answers = Answers(self._loop, self._deliver)
        self._runners: list[Runner] = []
        self._idle = asyncio.Event()
        self._ended: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"Desk({self.what}, waiting={self.waiting})"

    @property
    def commits(self) -> int:
        """Commits made so far."""
        return sum(runner.commits for runner in self._runners)

    def start(self, runners: Sequence[Runner], *, batch_max: int) -> None:
        """Start a thread for each runner; one takes up to `batch_max` jobs at a time."""
        self._runners.extend(runners)
        for index, runner in enumerate(runners):
            thread = threading.Thread(
                target=_serve,
                args=(self._jobs, runner, self._answers, batch_max),
                name=f"agent99-store-{self.what}-{index}",
                daemon=True,  # a programme that forgets to close its store still ends
            )
            thread.start()

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """Queue a function; returns the future of its result.

        Raises:
            StoreOverloadedError: it does not run.
            ClosedError
        """
        if self.is_closed:
            raise ClosedError("store")
        if self.waiting >= self._options.waiting_max:
            raise StoreOverloadedError(self.what, self.waiting, self._options.waiting_max)
        future: asyncio.Future[Any] = self._loop.create_future()
        self.waiting += 1
        self._jobs.put(Job(work, future))
        return future

    async def aclose(self) -> None:
        """Take in nothing more, wait for what is queued, end the threads. Idempotent."""
        self.is_closed = True
        try:
            if self.waiting:
                await self._idle.wait()  # set by the last answer: nothing comes any more
        finally:
            self.stop()
        # Not `gather`: a caller that gives up must not take the end away from the others.
        await asyncio.wait(self._ended)

    def stop(self) -> None:
        """End the threads when they have run what is queued; does not wait. Idempotent."""
        self.is_closed = True
        while len(self._ended) < len(self._runners):
            ended: asyncio.Future[None] = self._loop.create_future()
            self._ended.append(ended)
            self._jobs.put(Job(None, ended))

    def _deliver(self, outcome: Outcome) -> None:
        """Answer the caller, or let the job run again; on the event loop."""
        job, error = outcome.job, outcome.error
        if isinstance(error, SerializationError):
            job.attempts += 1
            if job.attempts < self._options.attempts_max and not job.future.cancelled():
                self._run_again_later(job)
                return
            error = TransactionConflictError(job.attempts, str(error))
        if job.work is not None:
            self._count(error)
        if outcome.has_appended:
            self._on_appended()
        if job.future.cancelled():
            return
        if error is None:
            job.future.set_result(outcome.value)
        else:
            job.future.set_exception(error)

    def _count(self, error: BaseException | None) -> None:
        self.waiting -= 1
        self.answered += 1
        self.failures += error is not None
        if self.waiting == 0 and self.is_closed:
            self._idle.set()

    def _run_again_later(self, job: Job) -> None:
        self.retries += 1
        delay_s = min(_RETRY_S_MAX, _RETRY_S_MIN * 2**job.attempts) * self._scope.ids.fraction()
        self._scope.clock.call_later(delay_s, lambda: self._run_again(job))

    def _run_again(self, job: Job) -> None:
        if self._ended:  # the threads were told to end meanwhile
            reason = SerializationError("the store was closed before it could run again")
            job.attempts = self._options.attempts_max
            self._deliver(Outcome(job, None, reason))
        else:
            self._jobs.put(job)


def _serve(jobs: SimpleQueue[Job], runner: Runner, answers: Answers, batch_max: int) -> None:
    """Run jobs until one says to end. The body of a thread; it holds no reference to the store."""
    end: Job | None = None
    while end is None:
        batch: list[Job] = []
        job = jobs.get()
        while True:
            if job.work is None:
                end = job
                break
            batch.append(job)
            if len(batch) >= batch_max or jobs.empty():
                break
            job = jobs.get()
        if batch:
            answers.post(runner.run(batch))
            del batch  # else the last results live as long as the thread is idle
        del job
    runner.close()
    answers.post([Outcome(end, None, None)])
