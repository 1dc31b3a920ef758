"""One saga as an operator sees it: where it stands, what its steps did, what befell it. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from agent99.saga._history import History, State, StepState
from agent99.saga._outcome import what_says
from agent99.saga._records import (
    Cancel,
    Error,
    Failed,
    Failing,
    Finished,
    Intent,
    Noted,
    Record,
    Result,
    Retry,
    Started,
    StepId,
    Stuck,
    Taken,
    Timer,
)

Standing: TypeAlias = State | Literal["waiting", "unreadable"]
"""`waiting`: it runs, and waits for a moment; `unreadable`: nobody knows, see `unreadable`."""
StepStanding = Literal[
    "running", "in doubt", "stuck", "done", "refused", "given up", "undo fails", "undone"
]
"""`refused`: it took no effect, for good; `given up`: patience was at its end, or it broke."""
WaitStanding = Literal["waiting", "over", "broken off", "noted"]
"""`over`: the moment has come; `noted`: a time that was read."""
Kind = Literal["step", "pivot", "wait", "time"]
Happening = Literal["begun", "taken over", "stuck", "cancel asked", "retry asked", "undoing"]


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """What a saga's function called: a step, a wait, or the time."""

    name: str
    kind: Kind
    state: StepStanding | WaitStanding
    begun_us: int
    """When its intent was stored, microseconds since the epoch; of a time: what it was."""
    ended_us: int | None = None
    """When its outcome was stored; None: it is not."""
    until_us: int | None = None
    """Of a wait."""
    result: msgspec.Raw | None = None
    """What it returned, as JSON."""
    error: Error | None = None
    """Of the step; where its undo fails, of that."""
    has_undo: bool = False
    undone_us: int | None = None
    undo_attempts: int = 0
    """Of its undo, in vain, as far as they were written down."""


class SagaEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What befell a saga, besides its steps."""

    what: Happening | Literal["done", "failed", "cancelled"]
    at_us: int
    owner: str = ""
    """The instance that has it from there on; empty: the same as before."""
    step: str = ""
    """At which it is stuck."""
    error: Error | None = None
    """Why it is stuck, or undone."""


class SagaView(msgspec.Struct, frozen=True):
    """One saga, as an operator sees it."""

    agent: str
    saga_id: str
    history: History
    records: tuple[Record, ...]
    unreadable: str = ""
    """Why its journal is known only so far: a record that cannot be read. Empty: all is known."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing moves any more: it has ended, or is stuck."""
        return self.history.finished is not None or self.history.stuck is not None

    def standing(self, now_us: int) -> Standing:
        """Return where it stands.

        Args:
            now_us: Microseconds since the epoch.
        """
        if self.unreadable:
            return "unreadable"
        return "waiting" if self.waits(now_us) else self.history.state

    def waits(self, now_us: int) -> dict[str, int]:
        """Return the waits that hold it up, by name, with the moments at which they are over."""
        history = self.history
        if history.state != "running" or _unfinished(history):
            return {}
        timers = history.timers.values()
        return {str(each.step): each.until_us for each in timers if each.until_us > now_us}

    def at(self, now_us: int) -> tuple[str, ...]:
        """Return the steps, or waits, that it is at; none: between two, or ended."""
        history = self.history
        if history.state == "undoing":
            return tuple(str(each.step) for each in history.undos()[:1])
        if history.stuck is not None and history.stuck.step is not None:
            return (str(history.stuck.step),)
        if history.finished is not None:
            return ()
        unfinished = tuple(str(each.step) for each in _unfinished(history))
        return unfinished or tuple(self.waits(now_us))

    @property
    def error(self) -> Error | None:
        """The last error: why it is stuck, what its undo says, why it is undone, or in doubt."""
        history = self.history
        if history.stuck is not None:
            return history.stuck.error
        if history.finished is not None:
            return history.finished.error
        if history.failing is not None:
            undo = next((each.undo_error for each in history.undos()), None)
            return undo or history.failing.error
        return next((each.doubt for each in _unfinished(history) if each.doubt), None)

    @property
    def answer(self) -> msgspec.Raw | None:
        """What the saga returned, as JSON; None: nothing so far."""
        finished = self.history.finished
        if finished is None or finished.outcome != "done":
            return None
        return _plain(finished.answer, is_value=finished.is_value)

    def steps(self, now_us: int) -> list[StepView]:
        """Return what its function called, in order."""
        found: list[StepView] = []
        for record in self.records:
            match record:
                case Intent():
                    found.append(self._step(self.history.steps[record.step]))
                case Timer():
                    found.append(self._wait(record, now_us))
                case Noted():
                    noted = StepView(
                        name=str(record.step), kind="time", state="noted", begun_us=record.at_us
                    )
                    found.append(noted)
                case _:
                    pass
        return found

    def events(self) -> list[SagaEvent]:
        """Return what befell it besides its steps, in order."""
        found = map(_event, self.records)
        return [event for event in found if event is not None]

    # --- inside -----------------------------------------------------------------------------------

    def _step(self, state: StepState) -> StepView:
        standing, outcome = self._step_standing(state), state.outcome
        error = outcome.error if isinstance(outcome, Failed) else state.doubt
        if standing == "undo fails":
            error = state.undo_error
        elif standing == "stuck":
            error = self.error
        elif isinstance(outcome, Result):
            error = None  # a doubt that is over
        result = None
        if isinstance(outcome, Result):
            result = _plain(outcome.value, is_value=outcome.is_value)
        return StepView(
            name=str(state.step),
            kind="pivot" if state.intent.is_pivot else "step",
            state=standing,
            begun_us=state.intent.at_us,
            ended_us=None if outcome is None else outcome.at_us,
            result=result,
            error=error,
            has_undo=state.intent.has_undo,
            undone_us=state.undone_us or None,
            undo_attempts=state.undo_attempts,
        )

    def _step_standing(self, state: StepState) -> StepStanding:
        if state.undone_us:
            return "undone"
        if state.undo_error is not None:
            return "undo fails"
        if isinstance(state.outcome, Result):
            return "done"
        if isinstance(state.outcome, Failed):
            is_none = state.outcome.effect == "none"
            says = what_says(state.outcome.error.raised())
            return "refused" if is_none and says == "refused" else "given up"
        return self._open_standing(state.step, has_doubt=state.doubt is not None)

    def _open_standing(self, step: StepId, *, has_doubt: bool) -> StepStanding:
        """Tell of a step whose outcome nobody has stored."""
        stuck = self.history.stuck
        if stuck is not None and stuck.step == step:
            return "stuck"
        return "in doubt" if has_doubt or self.history.state != "running" else "running"

    def _wait(self, timer: Timer, now_us: int) -> StepView:
        state: WaitStanding = "over"
        if timer.until_us > now_us:
            state = "waiting" if self.history.state in ("running", "stuck") else "broken off"
        return StepView(
            name=str(timer.step),
            kind="wait",
            state=state,
            begun_us=timer.at_us,
            until_us=timer.until_us,
        )


def _unfinished(history: History) -> list[StepState]:
    return [each for each in history.steps.values() if each.outcome is None]


def _event(record: Record) -> SagaEvent | None:
    at_us = record.at_us
    match record:
        case Started() | Taken():
            what: Happening = "begun" if isinstance(record, Started) else "taken over"
            return SagaEvent(what=what, at_us=at_us, owner=record.owner)
        case Cancel() | Retry():
            asked: Happening = "cancel asked" if isinstance(record, Cancel) else "retry asked"
            return SagaEvent(what=asked, at_us=at_us)
        case Stuck():
            step = str(record.step) if record.step is not None else ""
            return SagaEvent(what="stuck", at_us=at_us, step=step, error=record.error)
        case Failing():
            return SagaEvent(what="undoing", at_us=at_us, error=record.error)
        case Finished():
            return SagaEvent(what=record.outcome, at_us=at_us, error=record.error)
        case _:
            return None


def _plain(kept: msgspec.Raw, *, is_value: bool) -> msgspec.Raw:
    """Return what was returned, where it stands in an object because it is none."""
    if not is_value:
        return kept
    return msgspec.json.decode(kept, type=_Value).result


class _Value(msgspec.Struct):
    result: msgspec.Raw
