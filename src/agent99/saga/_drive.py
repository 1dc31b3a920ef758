"""Runs one saga, from wherever its journal stands to its end, or until it is taken away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import msgspec

from agent99.clock import Clock, Deadlines
from agent99.errors import Failure, NonDeterminismError, PayloadTooLargeError, RequestCancelledError
from agent99.ids import Ids
from agent99.saga._halt import Halt, Reason
from agent99.saga._handle import Saga
from agent99.saga._log import LostError, SagaLog
from agent99.saga._outcome import as_request_error
from agent99.saga._plan import Plan
from agent99.saga._records import (
    Error,
    Failing,
    Finished,
    Noted,
    Result,
    StepId,
    Stuck,
    Timer,
)
from agent99.saga._replay import Replay
from agent99.saga._run import Run
from agent99.saga._stepping import attempt
from agent99.saga._undoing import undo_all

SLEEP_S_MAX = 3_600.0
"""A wait is looked at again at least so often: wall clocks are set."""
CANCELLED = RequestCancelledError("the saga was cancelled")

_log = logging.getLogger("agent99.saga")


class Code(Protocol):
    """A saga's function."""

    @property
    def operation(self) -> str:
        """What it is called."""
        ...

    @property
    def version(self) -> int:
        """Of the code."""
        ...

    @property
    def since(self) -> int:
        """The oldest version whose sagas it can go on with."""
        ...

    async def call(self, request: bytes, saga: Saga) -> tuple[bytes, bool]:
        """Run it, and return its answer, and whether that is a value and no object."""
        ...


class Drive(Run):
    """Runs a saga's function, and undoes what it did."""

    def __init__(
        self, log: SagaLog, code: Code, clock: Clock, ids: Ids, deadlines: Deadlines
    ) -> None:
        super().__init__(log, clock, ids, deadlines)
        self._code = code
        self._is_unwinding = False
        self._is_over = False
        """The function has ended: what it left running begins nothing new."""
        self._waiting = 0
        """Branches that wait until a moment."""

    async def run(self) -> Reason | None:
        """Run the saga; returns None when it has ended, or why it goes on without this run.

        Raises:
            asyncio.CancelledError: the run was broken off; another one goes on from its journal.
        """
        try:
            while self.history.finished is None:
                if self.history.stuck is not None:
                    return "stuck"
                reason = await (self._play() if self.history.failing is None else self._unwind())
                if reason is not None:
                    return reason
        except LostError:
            return "lost"
        except Halt as halt:
            return halt.reason
        return None

    # --- the function -----------------------------------------------------------------------------

    async def _play(self) -> Reason | None:
        """Run the function until it ends, or cannot go on; write down what that means."""
        history = self.history
        try:
            answer, error = await self._call()
        except Halt as halt:
            return await self._halted(halt)
        if not await self.replay.settle():
            return await self._be_stuck(self.replay.does_not_fit(None))
        if error is not None:
            if not history.may_turn_back:
                return await self._be_stuck(error)
            failing = Failing(error=Error.of(as_request_error(error)), at_us=self.clock.wall_us())
            await self.log.write(failing)
            return None
        assert answer is not None, "it ended in one of the two"
        body, is_value = answer
        finished = Finished(
            outcome="done",
            answer=msgspec.Raw(body),
            is_value=is_value,
            at_us=self.clock.wall_us(),
        )
        try:
            await self.log.write(finished)
        except PayloadTooLargeError as too_large:
            return await self._be_stuck(too_large)
        return None

    async def _call(self) -> tuple[tuple[bytes, bool] | None, Exception | None]:
        """Run the function; returns its answer, or its error.

        Raises:
            Halt: one of its calls ended it.
        """
        started = self.history.started
        assert started is not None, "a saga without a beginning is never run"
        if not self._code.since <= started.version <= self._code.version:
            raise Halt("stuck", Error.of(as_request_error(self._wrong_version(started.version))))
        self._is_over = False
        answer: tuple[bytes, bool] | None = None
        error: Exception | None = None
        saga = Saga(self, self.log.saga_id, started.key or None, started.version)
        try:
            answer = await self._code.call(bytes(started.request), saga)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.halted is None or (task is not None and task.cancelling()):
                raise  # whoever runs this run ends it
        except Exception as raised:  # noqa: BLE001 - a user's code may raise anything
            error = raised
            _note_break(self.log.saga_id, raised)
        except BaseException as raised:  # a group of errors may hold the halt, which is noted
            if self.halted is None or isinstance(raised, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            self._is_over = True
            self.pauses.wake()  # nothing would else end a branch that waits beside what has ended
        while self.replay.busy or self._waiting:  # what ran beside the call that ended it
            await self.pauses.wait_moved()
        if self.halted is not None:
            raise self.halted
        return answer, error

    def _wrong_version(self, begun: int) -> Failure:
        code = self._code
        return Failure(
            f"it was begun by version {begun} of {code.operation!r}, and the code here goes on with"
            f" versions {code.since} to {code.version}",
            code=NonDeterminismError.code,
        )

    async def _halted(self, halt: Halt) -> Reason | None:
        if halt.reason == "turned":
            error = Error.of(CANCELLED)
            await self.log.write(
                Failing(error=error, is_cancelled=True, at_us=self.clock.wall_us())
            )
            return None
        if halt.reason == "stuck":
            assert halt.error is not None, "who is stuck says why"
            await self.log.write(
                Stuck(error=halt.error, step=halt.step, at_us=self.clock.wall_us())
            )
        return halt.reason

    async def _be_stuck(self, error: Exception) -> Reason:
        kept = Error.of(as_request_error(error))
        await self.log.write(Stuck(error=kept, at_us=self.clock.wall_us()))
        return "stuck"

    async def _unwind(self) -> Reason | None:
        """Undo what took effect; where this run has not called the steps yet, it calls them."""
        history, failing = self.history, self.history.failing
        assert failing is not None, "it is undone because it failed"
        left = history.undos()
        if any(each.step not in self.plans for each in left):
            try:
                await self._call_again()
            except Halt as halt:
                return await self._halted(halt)
        missing = next((each.step for each in left if each.step not in self.plans), None)
        if missing is not None:
            return await self._be_stuck(self.replay.does_not_fit(missing))
        await undo_all(self)
        ended = "cancelled" if failing.is_cancelled else "failed"
        await self.log.write(
            Finished(outcome=ended, error=failing.error, at_us=self.clock.wall_us())  # type: ignore[arg-type]  # a conditional of two literals is a str to mypy
        )
        return None

    async def _call_again(self) -> None:
        """Run the function as far as its journal goes: that tells how its steps are undone."""
        self._is_unwinding, self.halted = True, None
        self.replay = Replay(self.history, self.clock)
        try:
            await self._call()
        except Halt as halt:
            if halt.reason != "turned":
                raise
        finally:
            self.halted = None
        await self.replay.settle()

    # --- what the function calls ------------------------------------------------------------------

    async def step(self, plan: Plan) -> Any:
        """Run a step, or return what it returned."""
        self.check_halt()
        step, history = plan.step, self.history
        self.plans[step] = plan
        self.replay.called(step)
        if not history.knows(step):
            await self._may_begin(step)
            return await self._run(plan)
        self._check_fit(lambda: self.replay.check_same(plan))
        state = history.steps[step]
        if state.outcome is None:
            if self._is_unwinding:
                await self._turn_back()
            return await self._run(plan)
        if isinstance(state.outcome, Result):
            return plan.read(state.outcome)
        raise state.outcome.error.raised()

    async def wait_until(self, step: StepId, until_us: Callable[[int], int]) -> None:
        """Wait until a moment, which is chosen once."""
        self.check_halt()
        self.replay.called(step)
        if not self.history.knows(step):
            await self._may_begin(step)
            now_us = self.clock.wall_us()
            await self.write(Timer(step=step, until_us=until_us(now_us), at_us=now_us))
        timer = self.history.timers.get(step)
        if timer is None:
            self.halt("stuck", self.replay.is_of_another_kind(step), step)
        self._waiting += 1
        try:
            await self._wait(timer)
        finally:
            self._waiting -= 1
            self.pauses.moved()

    async def _wait(self, timer: Timer) -> None:
        while not self._is_unwinding:
            if self._is_over:
                raise Halt("turned")
            left_s = (timer.until_us - self.clock.wall_us()) / 1e6
            if left_s <= 0:
                return
            await self.check_wanted()
            if not self._is_over:  # since then, perhaps, and whoever waits now is woken by nobody
                await self.pauses.wait(min(left_s, SLEEP_S_MAX))

    async def note(self, step: StepId) -> int:
        """Return the time, which is read once."""
        self.check_halt()
        self.replay.called(step)
        if not self.history.knows(step):
            await self._may_begin(step)
            await self.write(Noted(step=step, at_us=self.clock.wall_us()))
        noted = self.history.notes.get(step)
        if noted is None:
            self.halt("stuck", self.replay.is_of_another_kind(step), step)
        return noted.at_us

    def next_id(self, name: str) -> StepId:
        """Return the id of the next step of a name."""
        return self.replay.next_id(name)

    # --- inside -----------------------------------------------------------------------------------

    async def _run(self, plan: Plan) -> Any:
        """Run a step whose outcome is open, once its intent is stored."""
        self.replay.busy += 1
        try:
            was_begun = self.history.knows(plan.step)
            if not was_begun:
                await self.write(plan.intent(self.clock.wall_us()))
            state = self.history.steps[plan.step]
            return await attempt(self, plan, state, was_begun=was_begun)
        finally:
            self.replay.busy -= 1
            self.replay.moved()
            self.pauses.moved()

    async def _may_begin(self, step: StepId) -> None:
        """Wait until a call that the journal does not know may be something new.

        Raises:
            Halt: it may not.
        """
        if self._is_unwinding:
            await self._turn_back()
        if not self.replay.is_whole and not await self.replay.settle():
            self._does_not_fit(step)
        if self._is_over:
            raise Halt("turned")
        await self.check_wanted()

    async def _turn_back(self) -> NoReturn:
        """End a function that is run again for its undos alone, once they are all known."""
        await self.replay.settle()
        self.halt("turned")

    def _check_fit(self, check: Callable[[], None]) -> None:
        try:
            check()
        except NonDeterminismError as error:
            self.halt("stuck", error)

    def _does_not_fit(self, step: StepId) -> NoReturn:
        self.halt("stuck", self.replay.does_not_fit(step), step)


def _note_break(saga_id: str, error: Exception) -> None:
    if not isinstance(error, Failure):
        _log.warning("saga %s fails: %r", saga_id, error, exc_info=error)
