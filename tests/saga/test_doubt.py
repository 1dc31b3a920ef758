"""What errors say of a step that may have run before, and what is kept of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent99.errors import (
    BadRequestError,
    ConstraintError,
    DeadlineExceededError,
    Failure,
    NonDeterminismError,
    RemoteError,
    RequestError,
    StoreUnavailableError,
    UsageError,
    request_error,
)
from agent99.saga import PENDING, SAGA_STUCK, Saga, Step, Undo
from agent99.saga._records import ERROR_BYTES_MAX
from agent99.testing import SagaStage
from tests.saga._programme import JumpClock


class Death(BaseException):
    """The process dies."""


class Till:
    """A step whose attempts raise what a test says, and what was undone."""

    def __init__(self, *raises: BaseException) -> None:
        self.raises = list(raises)
        self.seen: list[str] = []

    async def pay(self, step: Step) -> str:
        """Pay."""
        self.seen.append("run")
        if self.raises:
            raise self.raises.pop(0)
        return "paid"

    async def find(self, step: Step) -> str | None:
        """Say that it is paid."""
        self.seen.append("query")
        return "paid"

    async def give_back(self, undo: Undo[Any]) -> None:
        """Give it back."""
        self.seen.append("undo")

    async def trip(self, saga: Saga) -> str:
        """Pay in one step."""
        return await saga.step("pay", self.pay, undo=self.give_back)

    async def bound(self, saga: Saga) -> str:
        """Hold, then pay in the pivot."""
        await saga.step("hold", self.hold, undo=self.give_back)
        return await saga.pivot("pay", self.pay)

    async def asking(self, saga: Saga) -> str:
        """Pay in one step that can be asked for."""
        return await saga.step("pay", self.pay, undo=self.give_back, query=self.find)

    async def hold(self, step: Step) -> str:
        """Hold."""
        return "held"


def doubt() -> BaseException:
    """Return what leaves it open whether the step took effect."""
    return DeadlineExceededError("no answer")


def told(code: str, *, retryable: bool = False) -> Failure:
    """Return what arrives when the operation at the other end broke with an error of agent99's."""
    error = request_error(code, "it broke there", {}, retryable)
    assert isinstance(error, RemoteError)
    return error


BLIND = [
    ConstraintError("unique", "it is there"),
    UsageError("wrong"),
    BadRequestError("wrong"),
    told("CONSTRAINT"),
    told("IDEMPOTENCY_CONFLICT"),
    told("PAYLOAD_TOO_LARGE"),
]


def name_of(error: BaseException) -> str:
    """Return how a test calls an error."""
    return f"{type(error).__name__}-{getattr(error, 'code', '')}"


@pytest.mark.parametrize("error", BLIND, ids=name_of)
async def test_a_refusal_that_knows_no_key_says_nothing_of_attempts_before(
    error: Exception,
) -> None:
    """A step that is refused after a doubt, not by its participant, is undone."""
    till = Till(doubt(), error)
    with pytest.raises(RequestError):
        await SagaStage(clock=JumpClock()).play(till.trip, str, key="k")
    assert ["run", "run", "undo"] == till.seen


@pytest.mark.parametrize("error", BLIND, ids=name_of)
async def test_such_a_refusal_of_a_pivot_takes_nothing_back(error: Exception) -> None:
    """The money may have been taken: the saga is stuck, and what it holds is held."""
    till, stage = Till(doubt(), error), SagaStage(clock=JumpClock())
    with pytest.raises(RequestError):
        await stage.play(till.bound, str, key="k")
    assert ["run", "run"] == till.seen
    assert "stuck" == (await stage.history("k")).state


OPEN = [
    StoreUnavailableError("orders", "it is locked"),
    told("STORE_UNAVAILABLE", retryable=True),
    told("SERVER_UNAVAILABLE", retryable=True),
    told("STREAM_FULL", retryable=True),
    told(PENDING, retryable=True),
    told(SAGA_STUCK),
]


@pytest.mark.parametrize("error", OPEN, ids=name_of)
async def test_what_broke_half_way_leaves_a_doubt(error: Exception) -> None:
    """It may have taken effect before it broke, or goes on: the step is tried again, and undone."""
    till = Till(error, told("CONSTRAINT"))
    with pytest.raises(RequestError):
        await SagaStage(clock=JumpClock()).play(till.trip, str, key="k")
    assert ["run", "run", "undo"] == till.seen


async def test_a_participant_that_says_no_after_a_doubt_is_believed() -> None:
    """It has seen the key: nothing took effect, and there is nothing to undo."""
    till = Till(doubt(), Failure("declined", code="DECLINED"))
    with pytest.raises(Failure, match="declined"):
        await SagaStage(clock=JumpClock()).play(till.trip, str, key="k")
    assert ["run", "run"] == till.seen


async def test_after_a_death_it_is_asked_for_before_it_is_repeated() -> None:
    """A step with a query may honour no key."""
    till, stage = Till(Death()), SagaStage()
    with pytest.raises(Death):
        await stage.play(till.asking, str, key="k")
    assert "paid" == await stage.play(till.asking, str, key="k")
    assert ["run", "query"] == till.seen


async def test_a_saga_that_no_longer_fits_while_it_is_undone_is_stuck() -> None:
    """It says so in its journal; once the code fits again, a retry undoes it."""
    stage, dies, undone = SagaStage(), [Death()], list[str]()

    async def do(step: Step, what: str) -> str:
        return what

    async def undo(one: Undo[str], what: str) -> None:
        if dies:
            raise dies.pop()
        undone.append(what)

    def trip_to(what: str) -> Any:
        async def trip(saga: Saga) -> str:
            await saga.step("one", do, what, undo=undo)
            raise Failure("enough", code="ENOUGH")

        return trip

    with pytest.raises(Death):
        await stage.play(trip_to("Rome"), str, key="k")
    with pytest.raises(RequestError) as stuck:
        await stage.play(trip_to("Oslo"), str, key="k")
    assert NonDeterminismError.code == stuck.value.code
    history = await stage.history("k")
    assert ("stuck", []) == (history.state, undone)
    assert history.stuck is not None


ODD = {
    "huge message": Failure("x" * 2_000_000, code="ODD"),
    "huge details": Failure("odd", code="ODD", details={"all": "y" * 2_000_000}),
    "no JSON": Failure("odd", code="ODD", details={"who": object()}),
    "no text": Failure("odd \ud800", code="ODD"),
    "huge code": Failure("odd", code="ODD" * 1_000_000),
}


@pytest.mark.parametrize("error", ODD.values(), ids=ODD)
async def test_any_failure_can_be_kept(error: Failure) -> None:
    """What no journal would take is cut, or a note takes its place, and the saga has ended."""
    stage = SagaStage()

    async def trip(saga: Saga) -> str:
        raise error

    with pytest.raises(Failure) as raised:
        await stage.play(trip, str, key="k")
    told = raised.value
    assert told.code.startswith("ODD")
    assert "failed" == (await stage.history("k")).state
    assert len(msgspec.json.encode([told.message, told.code, told.details])) <= ERROR_BYTES_MAX


@pytest.mark.parametrize("name", ["a#2", "a:undo"])
async def test_no_name_can_collide_with_the_key_of_another_step(name: str) -> None:
    """The second `a` has the key `a#2`, and the undo of `a` has `a:undo`."""

    async def do(step: Step) -> str:
        return ""

    async def trip(saga: Saga) -> str:
        return await saga.step(name, do)

    with pytest.raises(RequestError, match="none of them # or :"):
        await SagaStage().play(trip, str, key="k")
