"""What a saga's function holds: the saga itself, and what its steps and undos are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar, TypeVarTuple
from uuid import UUID, uuid5

import msgspec

from agent99.errors import RequestError, UsageError
from agent99.saga._plan import PATIENCE_S, TIMEOUT_S, Plan, Terms
from agent99.saga._records import StepId

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Step(msgspec.Struct, frozen=True):
    """What a step is told of itself."""

    saga_id: str
    name: str
    key: str
    """The same each time this step of this saga is tried, by whichever instance: hand it on as
    `idempotency_key`, so that it takes effect once."""
    attempt: int
    """Starts at 1, and again at 1 after a take-over."""


class Undo(msgspec.Struct, Generic[T], frozen=True):
    """What an undo is told of itself, and of its step."""

    saga_id: str
    name: str
    """The step's."""
    key: str
    """The undo's own: the same each time it is tried."""
    step_key: str
    """The key under which the step ran, or may have run."""
    result: T | None
    """What the step returned; None: whether it took effect is unknown."""
    error: RequestError
    """Why the saga is undone."""
    is_cancelled: bool
    """Whether somebody wanted that; else it has failed."""
    attempt: int


class Engine(Protocol):
    """What runs a saga, as its handle sees it."""

    async def step(self, plan: Plan) -> Any:
        """Run a step, or return what it returned."""
        ...

    async def wait_until(self, step: StepId, until_us: Callable[[int], int]) -> None:
        """Wait until a moment, which is chosen once."""
        ...

    async def note(self, step: StepId) -> int:
        """Return the time, which is read once."""
        ...

    def next_id(self, name: str) -> StepId:
        """Return the id of the next step of a name."""
        ...


class Saga:
    """One run of a durable function.

    The function may be run again from its beginning, by another process; everything that could
    differ then goes through here. Between two calls it decides by what they returned, and by
    nothing else: no clock, no randomness, no request of its own.
    """

    def __init__(self, engine: Engine, saga_id: str, key: str | None, version: int) -> None:
        self._engine = engine
        self.id = saga_id
        """Names it, for `agent99 saga show`."""
        self.key = key
        """The idempotency key that its caller gave; None: it gave none."""
        self.version = version
        """Of the code that began it: what it does differently since then asks for this number."""

    def __repr__(self) -> str:
        return f"Saga({self.id!r}, version={self.version})"

    async def step(
        self,
        name: str,
        run: Callable[[Step, *Ts], Awaitable[T]],
        *arguments: *Ts,
        undo: Callable[[Undo[T], *Ts], Awaitable[object]] | None = None,
        query: Callable[[Step, *Ts], Awaitable[T | None]] | None = None,
        patience_s: float = PATIENCE_S,
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        """Run a step once, and return what it returned, now and after every crash.

        Args:
            name: What the journal calls it; the same name again is the next step of that name.
            run: An async function that takes the `Step` and the arguments. Its return type is
                declared. It may be run more than once, always under the same `Step.key`.
            arguments: Values that JSON can carry.
            undo: What lets go of its effect; declared before it runs. It takes the `Undo` and the
                same arguments, and must do nothing where there is nothing to undo.
            query: Asks whether it took effect, where it cannot be told otherwise: its result, or
                None if it did not. Without it the step itself is repeated.
            patience_s: Seconds for which it is tried where it does not answer, or says `later`,
                from its first attempt on; at most 30 days.
            timeout_s: Seconds of one attempt.

        Delivery: at least once under one key, from when its intent is stored until its outcome is:
            once, where whoever it asks honours the key.

        Raises:
            Failure: it was refused; it took no effect.
            RequestError: it is given up. What may have taken effect is undone if the saga fails.
            UsageError: the function has no return type, or the arguments cannot be written down.
        """
        terms = Terms(undo=undo, query=query, patience_s=patience_s, timeout_s=timeout_s)
        plan = Plan(self._engine.next_id(name), run, arguments, terms)
        result: T = await self._engine.step(plan)
        return result

    async def pivot(
        self,
        name: str,
        run: Callable[[Step, *Ts], Awaitable[T]],
        *arguments: *Ts,
        query: Callable[[Step, *Ts], Awaitable[T | None]] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> T:
        """Run the step after which there is no way back: from then on the saga only goes forward.

        While its outcome is unknown it is tried, or asked for, again, for ever. Refused, it fails
        like any step, and what was before it can be undone. Afterwards a step that is refused
        leaves the saga stuck, visibly, until somebody mends what is in its way.

        Args:
            name: As for `step`, as the others.

        Raises:
            Failure: it was refused; it took no effect.
            UsageError: as `step`.
        """
        terms = Terms(query=query, timeout_s=timeout_s, is_pivot=True)
        plan = Plan(self._engine.next_id(name), run, arguments, terms)
        result: T = await self._engine.step(plan)
        return result

    async def sleep(self, seconds: float, *, name: str = "sleep") -> None:
        """Wait; the moment is stored, so that the wait goes on over every restart.

        Args:
            seconds: From now, 0 or more; at most 10 years.
        """
        if not 0 <= seconds <= 10 * 366 * 86_400:
            raise UsageError(f"seconds is {seconds}; it must be 0 to 10 years")
        pause_us = round(seconds * 1e6)
        await self._engine.wait_until(self._engine.next_id(name), lambda now_us: now_us + pause_us)

    async def sleep_until(self, when: datetime, *, name: str = "sleep") -> None:
        """Wait until a moment; past ones are over at once.

        Args:
            when: With its time zone.
        """
        if when.tzinfo is None:
            raise UsageError("when has no time zone: say which moment is meant")
        until_us = (when - _EPOCH) // timedelta(microseconds=1)
        await self._engine.wait_until(self._engine.next_id(name), lambda _now_us: until_us)

    async def now(self) -> datetime:
        """Return the time, in UTC: the same when the function is run again."""
        noted_us = await self._engine.note(self._engine.next_id("now"))
        return _EPOCH + timedelta(microseconds=noted_us)

    def uuid(self) -> UUID:
        """Return a new UUID, the same when the function is run again."""
        return uuid5(UUID(self.id), str(self._engine.next_id("uuid")))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
