"""Asking again: what is asked again, how long, and what is final."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from agent99.errors import (
    Agent99Error,
    BadRequestError,
    DeadlineExceededError,
    DisconnectedError,
    Failure,
    HandlerError,
    NoAgentError,
    OverloadedError,
    PausedError,
    RequestCancelledError,
    RequestError,
    TransportError,
)
from agent99.ids import SeededIds
from agent99.systems.shop._asking import Asker, Patience, may_ask_again
from agent99.testing import ManualClock

PATIENCE = Patience(attempt_s_max=2.0, pause_s=0.1, pause_s_max=0.4)


class Service:
    """Answers the n-th call as the n-th entry says; takes a second for each."""

    def __init__(self, clock: ManualClock, *answers: str | Agent99Error) -> None:
        self._clock = clock
        self._answers = list(answers)
        self.timeouts_s: list[float] = []
        self.times_s: list[float] = []

    async def call(self, timeout_s: float) -> str:
        """Answer, a second later."""
        self.times_s.append(self._clock.monotonic_s())
        self.timeouts_s.append(timeout_s)
        await self._clock.sleep(min(1.0, timeout_s))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Agent99Error):
            raise answer
        return answer


async def _ask(clock: ManualClock, service: Service, budget_s: float) -> str:
    asking = asyncio.ensure_future(
        Asker(clock, SeededIds(1), PATIENCE).ask(service.call, budget_s=budget_s)
    )
    while not asking.done():
        await clock.advance(0.01)
    return asking.result()


async def test_an_answer_is_final() -> None:
    """It is asked once."""
    clock = ManualClock()
    service = Service(clock, "yes")
    assert "yes" == await _ask(clock, service, 5.0)
    assert [2.0] == service.timeouts_s


async def test_it_is_asked_until_somebody_answers() -> None:
    """With pauses that grow, and stay below their bounds."""
    clock = ManualClock()
    errors = [OverloadedError("full"), NoAgentError("nobody"), PausedError("paused")]
    service = Service(clock, *errors, "yes")
    assert "yes" == await _ask(clock, service, 60.0)
    pauses = [b - a - 1.0 for a, b in zip(service.times_s, service.times_s[1:], strict=False)]
    assert all(
        0 <= pause <= bound + 0.02 for pause, bound in zip(pauses, (0.1, 0.2, 0.4), strict=True)
    )


async def test_the_budget_is_kept() -> None:
    """The last try takes what is left, and its error is what is raised; never later."""
    clock = ManualClock()
    service = Service(clock, DeadlineExceededError("silence"))
    with pytest.raises(DeadlineExceededError, match="silence"):
        await _ask(clock, service, 4.5)
    assert clock.monotonic_s() <= 4.6
    assert service.timeouts_s[-1] < 2.0


async def test_without_time_nothing_is_asked() -> None:
    """A customer whose time is up costs the others nothing."""
    clock = ManualClock()
    service = Service(clock, "yes")
    with pytest.raises(DeadlineExceededError):
        await _ask(clock, service, 0.0)
    assert [] == service.times_s


@pytest.mark.parametrize(
    ("make", "again"),
    [
        (lambda: OverloadedError("x"), True),
        (lambda: NoAgentError("x"), True),
        (lambda: DeadlineExceededError("x"), True),
        (lambda: RequestCancelledError("x"), True),
        (lambda: DisconnectedError("x"), True),
        (lambda: Failure("x", code="STORE_OVERLOADED", retryable=True), True),
        (lambda: Failure("x", code="PAYMENT_DECLINED"), False),
        (lambda: HandlerError("x"), False),
        (lambda: BadRequestError("x"), False),
    ],
)
def test_what_may_be_asked_again(
    make: Callable[[], RequestError | TransportError], again: bool
) -> None:
    """What did not run, and what is not known; a word that was spoken is final."""
    assert again is may_ask_again(make())


async def test_what_is_final_is_asked_once() -> None:
    """A refusal is not asked again."""
    clock = ManualClock()
    service = Service(clock, Failure("no", code="PAYMENT_DECLINED"))
    with pytest.raises(Failure):
        await _ask(clock, service, 60.0)
    assert 1 == len(service.times_s)
    assert "attempt_s_max=2.0" in repr(Asker(clock, SeededIds(1), PATIENCE))
