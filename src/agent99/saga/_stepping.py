"""One step: tried under its key until it is known what became of it, or patience is at its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import msgspec

from agent99.errors import HandlerError, PayloadTooLargeError
from agent99.saga._handle import Step
from agent99.saga._outcome import as_request_error, what_says
from agent99.saga._records import Doubt, Effect, Error, Failed, Result

if TYPE_CHECKING:
    from agent99.saga._history import StepState
    from agent99.saga._plan import Call, Plan
    from agent99.saga._run import Run

PAUSE_S_MIN = 0.05
PAUSE_S_MAX = 5.0
"""Between two attempts, at most; the pause doubles, with full jitter."""

_log = logging.getLogger("agent99.saga")


async def attempt(drive: Run, plan: Plan, state: StepState, *, was_begun: bool) -> Any:
    """Return what a step returns whose intent is stored.

    Args:
        was_begun: Whether another run may have tried it: what that one did is unknown.

    Raises:
        RequestError: it is given up, and that is stored.
        Halt: the saga ends here, or goes on elsewhere; its outcome is left open.
    """
    return await _Attempts(drive, plan, state, was_begun=was_begun).run()


class _Attempts:
    """The attempts at one step."""

    def __init__(self, drive: Run, plan: Plan, state: StepState, *, was_begun: bool) -> None:
        self._drive = drive
        self._plan = plan
        self._state = state
        self._was_begun = was_begun
        self._until_us = state.intent.at_us + plan.terms.patience_s * 1e6

    async def run(self) -> Any:
        pause_s, attempt_number = PAUSE_S_MIN, 0
        if self._plan.terms.query is not None and self._was_begun:
            # Who offers a query may honour no key: nothing is repeated that can be asked for.
            known = await self._ask(attempt_number)
            if known is not None:
                return await self._succeeded(known)
        while True:
            attempt_number += 1
            try:
                value = await self._try(self._plan.run, attempt_number)
            except Exception as error:  # noqa: BLE001 - what it means is looked up
                await self._failed(error)
                failed = error
            else:
                return await self._succeeded(value)
            if self._plan.terms.query is not None and self._state.doubt is not None:
                known = await self._ask(attempt_number)
                if known is not None:
                    return await self._succeeded(known)
            await self._check_patience(failed)
            await self._drive.check_wanted()
            await self._drive.pauses.wait(pause_s * (0.5 + self._drive.ids.fraction() / 2))
            await self._drive.check_wanted()
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _try(self, run: Call, attempt_number: int) -> Any:
        plan, saga_id = self._plan, self._drive.log.saga_id
        step = Step(saga_id, plan.step.name, f"{saga_id}:{plan.step}", attempt_number)
        with self._drive.within(plan.terms.timeout_s):
            return await run(step, *plan.arguments)

    async def _ask(self, attempt_number: int) -> Any:
        """Ask whether it took effect; None: it did not so far, or nobody says."""
        assert self._plan.terms.query is not None, "only who has a query asks"
        try:
            return await self._try(self._plan.terms.query, attempt_number)
        except Exception as error:  # noqa: BLE001 - it is asked again, or the step repeated
            _log.info("step %s of saga %s: its query failed: %r", *self._named(), error)
            return None

    async def _failed(self, error: Exception) -> None:
        """Note what a failed attempt says; returns where there may be another one.

        Raises:
            RequestError: there is none.
            Halt: it can only be gone on with once something is mended.
        """
        drive, state, history = self._drive, self._state, self._drive.history
        says = what_says(error, may_have_run=self._may_have_run)
        if says in ("refused", "broken"):
            if history.has_pivoted or (self._plan.terms.is_pivot and says == "broken"):
                drive.halt("stuck", error, self._plan.step)
            await self._give_up(error, "none" if says == "refused" else "unknown")
        if says == "unknown" and state.doubt is None:
            kept = Error.of(as_request_error(error))
            await drive.write(Doubt(step=self._plan.step, error=kept, at_us=drive.clock.wall_us()))

    @property
    def _may_have_run(self) -> bool:
        """Whether an attempt before this one may have taken effect."""
        return self._was_begun or self._state.doubt is not None

    async def _check_patience(self, error: Exception) -> None:
        """Give up, if it was tried for long enough, and there is a way back.

        Raises:
            RequestError: it is given up.
        """
        if self._plan.terms.is_pivot or self._drive.history.has_pivoted:
            return
        if self._drive.clock.wall_us() >= self._until_us:
            await self._give_up(error, "unknown" if self._may_have_run else "none")
        _log.info("step %s of saga %s is tried again: %r", *self._named(), error)

    async def _give_up(self, error: Exception, effect: Effect) -> None:
        told = as_request_error(error)
        if what_says(error) == "broken":
            _log.warning("step %s of saga %s broke", *self._named(), exc_info=error)
        failed = Failed(
            step=self._plan.step,
            error=Error.of(told),
            effect=effect,
            at_us=self._drive.clock.wall_us(),
        )
        await self._drive.write(failed)
        raise failed.error.raised() from error

    async def _succeeded(self, value: Any) -> Any:
        """Store what it returned, and return it.

        Raises:
            RequestError: nobody could read that after a crash; what it did is undone.
        """
        plan = self._plan
        try:
            outcome, body = plan.codec.encode(value)
            result = Result(
                step=plan.step,
                value=msgspec.Raw(body),
                is_value=outcome == "value",
                at_us=self._drive.clock.wall_us(),
            )
            await self._drive.write(result)
        except (HandlerError, PayloadTooLargeError) as error:
            if self._drive.history.has_pivoted or plan.terms.is_pivot:
                self._drive.halt("stuck", error, plan.step)
            await self._give_up(error, "unknown")
        return value

    def _named(self) -> tuple[str, str]:
        return str(self._plan.step), self._drive.log.saga_id
