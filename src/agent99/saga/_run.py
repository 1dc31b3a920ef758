"""What the parts of one run of a saga share: its journal, its halt, and what stops it."""

from __future__ import annotations

from typing import NoReturn

from agent99.clock import Clock, Deadlines, TimeLimit
from agent99.ids import Ids
from agent99.saga._halt import Halt, Reason
from agent99.saga._history import History
from agent99.saga._log import LostError, SagaLog
from agent99.saga._outcome import as_request_error
from agent99.saga._pauses import Pauses
from agent99.saga._plan import Plan
from agent99.saga._records import Error, Record, StepId
from agent99.saga._replay import Replay


class Run:
    """One run of one saga at one instance.

    Args:
        deadlines: On the same clock.

    Invariant: nothing is run whose intent is not stored; nothing is told whose end is not.
    """

    def __init__(self, log: SagaLog, clock: Clock, ids: Ids, deadlines: Deadlines) -> None:
        self.log = log
        self.clock = clock
        self.ids = ids
        self._deadlines = deadlines
        self.replay = Replay(log.history, clock)
        self.plans: dict[StepId, Plan] = {}
        """What was called in this run: with it, the undos."""
        self.pauses = Pauses(clock)
        self.halted: Halt | None = None
        """What every call of the function ends in from now on."""
        self._is_leaving = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.log!r})"

    @property
    def history(self) -> History:
        """What the journal says."""
        return self.log.history

    def within(self, seconds: float) -> TimeLimit:
        """Return a block that may take so long."""
        return TimeLimit(self._deadlines, self.clock, seconds)

    def leave(self) -> None:
        """End the run at the next place where another instance can go on."""
        self._is_leaving = True
        self.pauses.wake()

    def look(self) -> None:
        """Look what others have written into the journal."""
        self.pauses.look()

    async def write(self, record: Record) -> None:
        """Write a record of the function's.

        Raises:
            Halt: the saga is another's now.
            PayloadTooLargeError: it can never be stored.
        """
        try:
            await self.log.write(record)
        except LostError:
            self.halt("lost")

    def halt(
        self, reason: Reason, error: Exception | None = None, step: StepId | None = None
    ) -> NoReturn:
        """End the function: every call that it makes from now on ends in the same way.

        Raises:
            Halt
        """
        if self.halted is None:
            kept = None if error is None else Error.of(as_request_error(error))
            self.halted = Halt(reason, kept, step)
        raise self.halted

    def check_halt(self) -> None:
        """End a call of a function that is halted.

        Raises:
            Halt
        """
        if self.halted is not None:
            raise self.halted

    async def check_wanted(self) -> None:
        """End the function if its instance stops, or somebody wants the saga undone.

        Raises:
            Halt
        """
        self.check_halt()
        try:
            await self.check_leaving()
        except LostError:
            self.halt("lost")
        except Halt as halt:
            self.halt(halt.reason)
        if self.history.is_cancelled:
            self.halt("turned")

    async def check_leaving(self) -> None:
        """End the run if its instance stops, and look what others wrote if they say that they did.

        Raises:
            Halt: its instance stops.
            LostError: the saga is another's now.
        """
        if self.pauses.is_to_look and not self._is_leaving:
            self.pauses.is_to_look = False  # before it looks: who asks meanwhile asks for one more
            try:
                await self.log.catch_up(lambda: not self._is_leaving)
            except BaseException:
                self.pauses.is_to_look = True  # it has not looked
                raise
        if self._is_leaving:  # since then, perhaps, and whoever waits now is woken by nobody
            raise Halt("left")
