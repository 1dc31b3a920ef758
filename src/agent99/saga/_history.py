"""What a journal says: records in, decisions out. Pure.

Whoever resumes a saga folds its records into a `History`, runs its function again, and asks the
history about each step that the function calls: known already, to be run once more, or new.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from agent99.errors import JournalError
from agent99.saga._records import (
    Cancel,
    Doubt,
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
    UndoFailed,
    Undone,
)

State = Literal["running", "undoing", "stuck", "done", "failed", "cancelled"]
"""Where a saga stands; the last three are final."""


class StepState(msgspec.Struct):
    """What is known of one step."""

    intent: Intent
    outcome: Result | Failed | None = None
    """None: it was begun, and what became of it is unknown."""
    doubt: Error | None = None
    """Why nobody knew for a while; kept when it is known."""
    undone_us: int = 0
    undo_attempts: int = 0
    """Of its undo, in vain, as far as they were written down."""
    undo_error: Error | None = None

    @property
    def step(self) -> StepId:
        """Which one."""
        return self.intent.step

    @property
    def may_have_taken_effect(self) -> bool:
        """Whether there is, or may be, something to undo."""
        if isinstance(self.outcome, Failed):
            return self.outcome.effect == "unknown"
        return True


class History:
    """One saga, as its journal tells it.

    Invariant: `steps` stands in the order of the intents; `sequence` is that of the last record.
    """

    def __init__(self) -> None:
        self.started: Started | None = None
        self.owner = ""
        self.steps: dict[StepId, StepState] = {}
        self.timers: dict[StepId, Timer] = {}
        self.notes: dict[StepId, Noted] = {}
        self.failing: Failing | None = None
        self.stuck: Stuck | None = None
        self.finished: Finished | None = None
        self.is_cancel_wanted = False
        self.sequence = 0
        """Of its last record, in the stream: what the next append is compared with."""
        self.count = 0
        """Records so far."""
        self.last_us = 0

    def __repr__(self) -> str:
        return f"History({self.state}, steps={len(self.steps)}, records={self.count})"

    @property
    def state(self) -> State:
        """Where it stands."""
        if self.finished is not None:
            return self.finished.outcome
        if self.stuck is not None:
            return "stuck"
        return "running" if self.failing is None else "undoing"

    @property
    def has_pivoted(self) -> bool:
        """Whether there is no way back: a pivot took effect."""
        return any(
            each.intent.is_pivot and isinstance(each.outcome, Result)
            for each in self.steps.values()
        )

    @property
    def may_turn_back(self) -> bool:
        """Whether it can still be undone: no pivot took effect, or may have."""
        return not any(
            each.intent.is_pivot and each.may_have_taken_effect for each in self.steps.values()
        )

    @property
    def is_cancelled(self) -> bool:
        """Whether it is to be undone because somebody wants it, and that has not begun yet."""
        return self.is_cancel_wanted and self.failing is None and self.may_turn_back

    def undos(self) -> list[StepState]:
        """Return the steps that are left to undo, the last first."""
        return [
            each
            for each in reversed(self.steps.values())
            if each.intent.has_undo and not each.undone_us and each.may_have_taken_effect
        ]

    def knows(self, step: StepId) -> bool:
        """Tell whether the journal has anything of a step, a timer or a note of that name."""
        return step in self.steps or step in self.timers or step in self.notes

    def all_known(self) -> Iterable[StepId]:
        """Return every step, timer and note."""
        return (*self.steps, *self.timers, *self.notes)

    # --- folding ----------------------------------------------------------------------------------

    def apply(self, record: Record, sequence: int) -> None:
        """Add the next record.

        Raises:
            JournalError: it cannot stand here: the journal is not one that this code writes.
        """
        if not self.takes(record):
            raise JournalError(
                f"a saga's journal has a record {type(record).__name__} (sequence {sequence})"
                f" where none can stand: it is {self.state}"
            )
        self.add(record, sequence)

    def add(self, record: Record, sequence: int) -> None:
        """Add the next record, which can stand here: `takes` said so."""
        self._fold(record)
        self.sequence, self.last_us = sequence, record.at_us
        self.count += 1

    def takes(self, record: Record) -> bool:
        """Tell whether a record can stand here."""
        if isinstance(record, Started):
            return self.count == 0
        if self.finished is not None:
            return isinstance(record, (Cancel, Retry))
        if self.started is None:
            return True  # of one that ended long ago the beginning is deleted first
        if isinstance(record, (Intent, Timer, Noted)):
            return self.failing is None and not self.knows(record.step)
        if isinstance(record, (Result, Failed, Doubt, Undone, UndoFailed)):
            return self._takes_of_step(record)
        return not isinstance(record, Failing) or self.failing is None

    def _takes_of_step(self, record: Result | Failed | Doubt | Undone | UndoFailed) -> bool:
        state = self.steps.get(record.step)
        if state is None:
            return False
        if isinstance(record, (Undone, UndoFailed)):
            return self.failing is not None and not state.undone_us
        return state.outcome is None

    def _fold(self, record: Record) -> None:  # noqa: C901 - one branch for each kind of record
        match record:  # the many first
            case Intent():
                self.steps[record.step] = StepState(record)
            case Result() | Failed() | Doubt() | Undone() | UndoFailed():
                self._fold_step(record)
            case Started():
                self.started, self.owner = record, record.owner
            case Taken():
                self.owner = record.owner
            case Timer():
                self.timers[record.step] = record
            case Noted():
                self.notes[record.step] = record
            case Failing():
                self.failing = record
            case Stuck():
                self.stuck = record
            case Retry():
                self.stuck = None
            case Cancel():
                self.is_cancel_wanted, self.stuck = True, None
            case Finished():
                self.finished, self.stuck = record, None

    def _fold_step(self, record: Result | Failed | Doubt | Undone | UndoFailed) -> None:
        state = self.steps.get(record.step)
        if state is None:
            return  # its beginning is deleted
        match record:
            case Result() | Failed():
                state.outcome = record
            case Doubt():
                state.doubt = record.error
            case Undone():
                state.undone_us = record.at_us
            case UndoFailed():
                state.undo_attempts, state.undo_error = record.attempts, record.error
