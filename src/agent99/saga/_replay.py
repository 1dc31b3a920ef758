"""How far a function that is run again has come, by what its journal has of it."""

from __future__ import annotations

from agent99.clock import Clock
from agent99.errors import NonDeterminismError
from agent99.saga._history import History
from agent99.saga._plan import Plan
from agent99.saga._records import StepId

STILL_S = 1.0
"""A function that has not moved for so long, while nothing of it runs, does not fit its journal."""
_LOOKS = 20


class Replay:
    """Counts the calls of one run of a function, and holds new ones until the old are all made.

    Steps that ran side by side may be called in another order when the function is run again. So a
    call that the journal does not know waits as long as there are recorded ones that were not
    called yet; one that waits in vain is the call that does not fit.
    """

    def __init__(self, history: History, clock: Clock) -> None:
        self._history = history
        self._clock = clock
        self._uncalled = dict.fromkeys(history.all_known())
        self._used: dict[str, int] = {}
        """Calls of each name so far."""
        self._moves = 0
        self.busy = 0
        """Steps that run now."""

    def __repr__(self) -> str:
        return f"Replay(uncalled={len(self._uncalled)}, busy={self.busy})"

    @property
    def is_whole(self) -> bool:
        """Whether everything that the journal has was called."""
        return not self._uncalled

    def next_id(self, name: str) -> StepId:
        """Return the id of the next call of a name."""
        ordinal = self._used.get(name, 0)
        self._used[name] = ordinal + 1
        return StepId(name, ordinal)

    def called(self, step: StepId) -> None:
        """Note a call."""
        self._moves += 1
        self._uncalled.pop(step, None)

    def moved(self) -> None:
        """Note that a step has ended, so that more calls may come."""
        self._moves += 1

    async def settle(self) -> bool:
        """Wait until every recorded call was made; returns False when no more of them come."""
        still, seen = 0, self._moves
        while self._uncalled and still < _LOOKS:
            await self._clock.sleep(STILL_S / _LOOKS)
            still = still + 1 if self._moves == seen and not self.busy else 0
            seen = self._moves
        return not self._uncalled

    def check_same(self, plan: Plan) -> None:
        """Check that a recorded step is called as it was.

        Raises:
            NonDeterminismError: names the step.
        """
        state = self._history.steps.get(plan.step)
        if state is None:
            raise self.is_of_another_kind(plan.step)
        if state.intent.arguments != plan.checksum:
            raise _misfit(plan.step, "it is called with other arguments")
        if state.intent.is_pivot != plan.terms.is_pivot:
            raise _misfit(plan.step, "only one of the two is a pivot")

    def is_of_another_kind(self, step: StepId) -> NonDeterminismError:
        """Return the error of a call whose name the journal has for a step, a wait or a time."""
        return _misfit(step, "steps, waits and times are three things, and it was another one")

    def does_not_fit(self, called: StepId | None) -> NonDeterminismError:
        """Return the error of a call for which the journal has another."""
        recorded = ", ".join(str(step) for step in self._uncalled)
        if called is None:
            return _misfit(recorded, "the function ended without calling it")
        return _misfit(called, f"the journal has {recorded} there")


def _misfit(step: StepId | str, why: str) -> NonDeterminismError:
    return NonDeterminismError(
        f"step {step}: {why}. Between two steps the code of a saga may decide by their results"
        " alone; where it was changed, ask `saga.version` which sagas to treat in the old way"
    )
