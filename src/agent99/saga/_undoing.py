"""Undo what a saga's steps did, the last first: each for ever, and visibly, until it is done."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agent99.saga._handle import Undo
from agent99.saga._outcome import as_request_error
from agent99.saga._records import Error, Result, UndoFailed, Undone

if TYPE_CHECKING:
    from agent99.saga._history import StepState
    from agent99.saga._plan import Plan
    from agent99.saga._run import Run

PAUSE_S_MIN = 0.1
PAUSE_S_MAX = 60.0
"""Between two attempts at an undo, at most; the pause doubles, with jitter."""

_log = logging.getLogger("agent99.saga")


async def undo_all(drive: Run) -> None:
    """Undo the steps that are left, one after the other.

    Raises:
        Halt: its instance stops.
        LostError: the saga is another's now.
    """
    for state in drive.history.undos():
        await drive.check_leaving()
        await _undo(drive, drive.plans[state.step], state)


async def _undo(drive: Run, plan: Plan, state: StepState) -> None:
    clock, number, pause_s = drive.clock, state.undo_attempts, PAUSE_S_MIN
    while True:
        number += 1
        try:
            await _try(drive, plan, state, number)
        except Exception as error:  # noqa: BLE001 - whatever it is, the undo is owed
            _log.warning(
                "undo of step %s of saga %s fails (%s): %r",
                *(state.step, drive.log.saga_id, number, error),
            )
            if number & (number - 1) == 0:  # 1, 2, 4, 8 …: visible, and bounded
                kept = Error.of(as_request_error(error))
                await drive.log.write(
                    UndoFailed(step=state.step, error=kept, attempts=number, at_us=clock.wall_us())
                )
        else:
            await drive.log.write(Undone(step=state.step, at_us=clock.wall_us()))
            return
        await drive.check_leaving()
        await drive.pauses.wait(pause_s * (0.5 + drive.ids.fraction() / 2))
        await drive.check_leaving()
        pause_s = min(2 * pause_s, PAUSE_S_MAX)


async def _try(drive: Run, plan: Plan, state: StepState, number: int) -> None:
    assert plan.terms.undo is not None, "only what has an undo is undone"
    saga_id, outcome = drive.log.saga_id, state.outcome
    result: Any = plan.read(outcome) if isinstance(outcome, Result) else None
    step_key, failing = f"{saga_id}:{state.step}", drive.history.failing
    assert failing is not None, "it is undone because it failed"
    undo: Undo[Any] = Undo(
        saga_id=saga_id,
        name=state.step.name,
        key=f"{step_key}:undo",
        step_key=step_key,
        result=result,
        error=failing.error.raised(),
        is_cancelled=failing.is_cancelled,
        attempt=number,
    )
    with drive.within(plan.terms.timeout_s):
        await plan.terms.undo(undo, *plan.arguments)
