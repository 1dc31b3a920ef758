"""A function that is run again: what fits its journal, and what new code may do with old sagas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from agent99.errors import Failure, NoAgentError, NonDeterminismError, RemoteError, UsageError
from agent99.saga import Drive, Saga, SagaLog, Step, Undo, saga
from agent99.testing import SagaStage
from tests._wait import PATIENCE_S
from tests.saga._programme import JumpClock


class Death(BaseException):
    """The process dies."""


class Notes:
    """What steps did, and where one of them kills its process."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.undone: list[str] = []
        self.dies_after = ""

    async def do(self, step: Step, what: str) -> str:
        """Note it."""
        self.done.append(what)
        return f"{what} done"

    async def undo(self, undo: Undo[str], what: str) -> None:
        """Note that it is undone, and why."""
        self.undone.append(f"{what}: {undo.error.code}")

    def die(self, where: str) -> None:
        """Die here, once, if this is the place."""
        if where == self.dies_after:
            self.dies_after = ""
            raise Death


@pytest.fixture
def notes() -> Notes:
    """Give notes."""
    return Notes()


async def test_goes_on_where_it_was(notes: Notes) -> None:
    """What is recorded is not run again; times and ids are the same in both runs."""
    seen: list[tuple[datetime, UUID]] = []

    async def trip(saga: Saga) -> str:
        seen.append((await saga.now(), saga.uuid()))
        await saga.step("one", notes.do, "a")
        notes.die("one")
        return await saga.step("two", notes.do, "b")

    stage, notes.dies_after = SagaStage(), "one"
    with pytest.raises(Death):
        await stage.play(trip, str, key="k")
    assert "b done" == await stage.play(trip, str, key="k")
    assert "b done" == await stage.play(trip, str, key="k")
    assert ["a", "b"] == notes.done
    assert seen[0] == seen[1]


async def test_what_a_dead_process_tried_is_unknown(notes: Notes) -> None:
    """Another run, which finds nobody there and gives up, undoes what the first may have done."""
    stage, alive = SagaStage(clock=JumpClock()), False

    async def ask(step: Step) -> None:
        if not alive:
            raise Death
        raise NoAgentError("nobody is there")

    async def trip(saga: Saga) -> None:
        await saga.step("one", ask, undo=let_go)

    async def let_go(undo: Undo[None]) -> None:
        await notes.undo(undo, "one")  # type: ignore[arg-type]  # it is told of no result

    with pytest.raises(Death):
        await stage.play(trip, type(None), key="k")
    alive = True
    with pytest.raises(NoAgentError):
        await stage.play(trip, type(None), key="k")
    assert ["one: NO_AGENT"] == notes.undone


def _first(notes: Notes) -> Any:
    async def trip(saga: Saga) -> str:
        await saga.step("one", notes.do, "a", undo=notes.undo)
        await saga.step("two", notes.do, "b", undo=notes.undo)
        notes.die("two")
        return await saga.step("three", notes.do, "c")

    return trip


async def _interrupted(notes: Notes) -> SagaStage:
    """Return a stage on which the first function has died after its second step."""
    stage, notes.dies_after = SagaStage(), "two"
    with pytest.raises(Death):
        await stage.play(_first(notes), str, key="k")
    return stage


async def test_another_step(notes: Notes) -> None:
    """A function that calls another step than its journal has is stuck, and the step is named."""
    stage = await _interrupted(notes)

    async def other(saga: Saga) -> str:
        await saga.step("one", notes.do, "a", undo=notes.undo)
        return await saga.step("second", notes.do, "b")

    with pytest.raises(RemoteError, match="step second: the journal has two there") as stuck:
        await stage.play(other, str, key="k")
    assert NonDeterminismError.code == stuck.value.code
    assert (["a", "b"], []) == (notes.done, notes.undone)
    assert "stuck" == (await stage.history("k")).state


async def test_a_step_less(notes: Notes) -> None:
    """A function that ends without calling a recorded step is stuck."""
    stage = await _interrupted(notes)

    async def shorter(saga: Saga) -> str:
        return await saga.step("one", notes.do, "a", undo=notes.undo)

    with pytest.raises(RemoteError, match="step two: the function ended without calling it"):
        await stage.play(shorter, str, key="k")


@pytest.mark.parametrize("wrong", ["arguments", "pivot", "wait"])
async def test_another_call(notes: Notes, wrong: str) -> None:
    """A step that is called in another way than it was recorded is stuck."""
    stage = await _interrupted(notes)

    async def other(saga: Saga) -> str:
        if wrong == "arguments":
            return await saga.step("one", notes.do, "z", undo=notes.undo)
        if wrong == "pivot":
            return await saga.pivot("one", notes.do, "a")
        await saga.sleep(0, name="one")
        return ""

    with pytest.raises(RemoteError, match="step one: "):
        await stage.play(other, str, key="k")


async def test_old_sagas_under_new_code(notes: Notes) -> None:
    """New code asks for the version of the saga, and treats the old ones in the old way."""
    stage = await _interrupted(notes)

    async def newer(saga: Saga) -> str:
        if saga.version >= 2:
            await saga.step("check", notes.do, "checked")
        await saga.step("one", notes.do, "a", undo=notes.undo)
        await saga.step("two", notes.do, "b", undo=notes.undo)
        return await saga.step("three", notes.do, "c")

    assert "c done" == await stage.play(newer, str, key="k", version=2)
    assert ["a", "b", "c"] == notes.done
    assert "c done" == await stage.play(newer, str, key="other", version=2)
    assert ["a", "b", "c", "checked", "a", "b", "c"] == notes.done


async def test_code_that_is_older(notes: Notes) -> None:
    """A saga that a newer version began is nothing for older code."""
    stage, notes.dies_after = SagaStage(), "two"
    with pytest.raises(Death):
        await stage.play(_first(notes), str, key="k", version=3)
    with pytest.raises(RemoteError, match="begun by version 3 of 'played'.*versions 1 to 2"):
        await stage.play(_first(notes), str, key="k", version=2)


async def test_death_while_undoing(notes: Notes) -> None:
    """Once it has failed nothing new is begun, in whichever run; each undo is told why."""

    async def trip(saga: Saga) -> str:
        await saga.step("one", notes.do, "a", undo=notes.undo)
        await saga.step("two", notes.do, "b", undo=dying)
        raise Failure("enough", code="ENOUGH")

    async def dying(undo: Undo[str], what: str) -> None:
        await notes.undo(undo, what)
        notes.die("undo")

    stage, notes.dies_after = SagaStage(), "undo"
    with pytest.raises(Death):
        await stage.play(trip, str, key="k")
    with pytest.raises(RemoteError, match="enough"):
        await stage.play(trip, str, key="k")
    assert ["b: ENOUGH", "b: ENOUGH", "a: ENOUGH"] == notes.undone
    assert ["a", "b"] == notes.done


async def test_branches_in_another_order(notes: Notes) -> None:
    """Branches of several steps side by side may come back in another order."""

    async def branch(saga: Saga, name: str, turns: int) -> None:
        await saga.step(f"{name} one", notes.do, name)
        for _ in range(turns):
            await asyncio.sleep(0)
        await saga.step(f"{name} two", notes.do, name)

    async def trip(saga: Saga, turns: tuple[int, int]) -> str:
        await asyncio.gather(*(branch(saga, f"b{n}", count) for n, count in enumerate(turns)))
        notes.die("both")
        return await saga.step("last", notes.do, "end")

    stage, notes.dies_after = SagaStage(), "both"
    with pytest.raises(Death):
        await stage.play(lambda saga: trip(saga, (50, 0)), str, key="k")
    assert "end done" == await stage.play(lambda saga: trip(saga, (0, 50)), str, key="k")
    assert 5 == len(notes.done)


@pytest.mark.parametrize("how", ["fails", "returns", "is stuck"])
async def test_a_branch_that_waits_ends_with_the_function(notes: Notes, how: str) -> None:
    """What the function has left waiting when it ends is ended too, and does nothing more."""
    branches: list[asyncio.Future[None]] = []
    before = asyncio.all_tasks()

    async def branch(saga: Saga) -> None:
        await saga.sleep(3_600.0)
        await saga.step("late", notes.do, "late")

    async def trip(saga: Saga) -> None:
        branches.append(asyncio.ensure_future(branch(saga)))
        await saga.step("one", notes.do, "a", undo=notes.undo)
        if how == "is stuck":
            await asyncio.gather(branches[0], saga.pivot("two", refuse), saga.step("three", stop))
        if how == "fails":
            await asyncio.gather(branches[0], saga.step("two", refuse))

    async def refuse(step: Step) -> None:
        if how == "fails":
            raise Failure("no", code="NO")

    async def stop(step: Step) -> None:
        await asyncio.sleep(0)
        raise Failure("no", code="NO")

    stage = SagaStage()
    async with asyncio.timeout(PATIENCE_S):
        if how == "returns":
            await stage.play(trip, type(None), key="k")
        else:
            with pytest.raises(Failure, match="no"):
                await stage.play(trip, type(None), key="k")
    states = {"fails": "failed", "returns": "done", "is stuck": "stuck"}
    assert states[how] == (await stage.history("k")).state
    await asyncio.wait(branches, timeout=1)
    assert [True] == [each.done() for each in branches]
    assert before == asyncio.all_tasks()
    assert ["a"] == notes.done
    branches[0].exception()


async def test_a_branch_that_looks_when_the_function_ends_is_ended(notes: Notes) -> None:
    """It is told so although it did not wait just then, and is not waited for."""
    stage, ends, waiting = SagaStage(), asyncio.Event(), list[asyncio.Future[None]]()
    read_on = SagaLog.catch_up

    async def catch_up(log: SagaLog, is_wanted: Callable[[], bool] = lambda: True) -> None:
        ends.set()
        for _ in range(20):  # the function ends meanwhile
            await asyncio.sleep(0)
        await read_on(log, is_wanted)

    async def trip(saga: Saga) -> None:
        waiting.append(asyncio.ensure_future(saga.sleep(3_000.0)))
        await saga.step("one", notes.do, "a")
        drive = saga._engine
        assert isinstance(drive, Drive)
        drive.look()
        await ends.wait()
        raise Failure("no", code="NO")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SagaLog, "catch_up", catch_up)
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Failure, match="no"):
                await stage.play(trip, type(None), key="k")
    (ended,) = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(ended, BaseException)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda s, n: s.step("", n.do, "a"), "1 to 64 printable"),
        (lambda s, n: s.step("x", n.do, "a", patience_s=0), "patience_s is 0"),
        (lambda s, n: s.step("x", n.do, "a", timeout_s=-1), "timeout_s is -1"),
        (lambda s, n: s.step("x", n.do, object()), "arguments of step x cannot be written"),
        (lambda s, n: s.step("x", lambda step: n.do(step, "a")), "declares no return type"),
        (lambda s, n: s.sleep(-1), "seconds is -1"),
        (lambda s, n: s.sleep_until(datetime(2030, 1, 1)), "no time zone"),  # noqa: DTZ001 - that is it
    ],
)
async def test_wrong_calls(notes: Notes, call: Any, why: str) -> None:
    """A call that makes no sense says so, by its step, and undoes what was done."""

    async def trip(saga: Saga) -> None:
        await saga.step("first", notes.do, "a", undo=notes.undo)
        await call(saga, notes)

    with pytest.raises(Failure, match=why) as failed:
        await SagaStage().play(trip, type(None), key="k")
    assert UsageError.code == failed.value.code
    assert ["a: USAGE"] == notes.undone


def test_wrong_sagas() -> None:
    """What cannot be a saga is refused where it is written."""

    async def fits(self: Any, saga: Saga) -> None:
        """Do nothing."""

    def blocking(self: Any, saga: Saga) -> None:
        """Do nothing."""

    async def without(self: Any) -> None:
        """Do nothing."""

    assert saga(fits) is fits
    with pytest.raises(UsageError, match="blocking must be an async method"):
        saga(blocking)
    with pytest.raises(UsageError, match="without is a saga and takes no parameter `saga: Saga`"):
        saga(without)
    with pytest.raises(UsageError, match="since is 3 and version 2"):
        saga(version=2, since=3)(fits)
