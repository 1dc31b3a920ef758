"""Sagas made up by a test, a world that they change, and a process that dies at any point.

The model is the naive one: the steps run in their order, each once; if one fails, those before it
are undone in reverse.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from hypothesis import strategies as st

from agent99.clock import Deadlines
from agent99.errors import DeadlineExceededError, Failure
from agent99.ids import SeededIds
from agent99.journal import MemoryJournal, Stored, StreamConfig
from agent99.saga import Saga, Step, Undo
from agent99.saga._drive import Drive
from agent99.saga._history import History
from agent99.saga._log import Place, SagaLog
from agent99.saga._records import Finished, Record, Started, decode_record
from agent99.testing import ManualClock

STREAM = "SAGAS"
PLACE = Place(STREAM, "saga.x", "5fe90eb4-c162-50cb-9c1d-78d5a673b209")
How = Literal["does", "refuses", "is silent, and did", "is silent, and did not", "breaks"]


class Crash(BaseException):
    """The process dies here."""


class JumpClock(ManualClock):
    """A clock whose waits are over at once, and have taken their time."""

    async def sleep(self, delay_s: float) -> None:
        """Let so much time pass, for everybody."""
        self._now_s += max(delay_s, 0)
        await asyncio.sleep(0)


class Deaths:
    """Counts the points at which a process may die, and dies at the wanted ones."""

    def __init__(self, *at: int) -> None:
        self.points = 0
        self.is_dead = False
        self.count = 0
        """How often it has died."""
        self._at = set(at)

    def point(self) -> None:
        """Die here, if this is one of the wanted; what is dead stays so until it is begun anew."""
        self.points += not self.is_dead
        if self.is_dead or self.points in self._at:
            self.count += not self.is_dead
            self.is_dead = True
            self._at.discard(self.points)
            raise Crash


class MortalJournal(MemoryJournal):
    """A journal whose writer may die before, or right after, anything is stored."""

    def __init__(self, clock: ManualClock, deaths: Deaths) -> None:
        super().__init__(clock=clock)
        self._deaths = deaths

    async def append(self, subject: str, payload: bytes, **how: Any) -> Stored:
        """Store a message, unless its writer dies first; or let it die then."""
        self._deaths.point()
        stored = await super().append(subject, payload, **how)
        self._deaths.point()
        return stored


@dataclass(frozen=True)
class Act:
    """One step of a programme."""

    name: str
    how: How = "does"
    has_undo: bool = True
    undo_fails: int = 0
    is_pivot: bool = False
    beside: bool = False
    """It runs beside the one before it."""


@dataclass
class World:
    """What the steps change: it honours keys, as every participant must."""

    deaths: Deaths
    effects: dict[str, str] = field(default_factory=dict)
    """What is in effect, by step."""
    done: Counter[str] = field(default_factory=Counter)
    undone: list[str] = field(default_factory=list)
    """In the order in which they were undone, each once."""
    calls: Counter[str] = field(default_factory=Counter)

    def act(self, act: Act, step: Step) -> str:
        """Run a step."""
        self.deaths.point()
        self.calls[act.name] += 1
        if act.how == "refuses":
            raise Failure("no", code="NO", details={"step": act.name})
        first = self.calls[act.name] == 1
        if not (act.how == "is silent, and did not" and first):
            self._take_effect(act.name, step.key)
        self.deaths.point()
        if act.how.startswith("is silent") and first:
            raise DeadlineExceededError("no answer")
        if act.how == "breaks":
            raise ZeroDivisionError("a bug")
        return f"result of {act.name}"

    def undo(self, act: Act, undo: Undo[str]) -> None:
        """Let go of what a step did; where there is nothing, of nothing."""
        self.deaths.point()
        self.calls[f"undo {act.name}"] += 1
        if self.calls[f"undo {act.name}"] <= act.undo_fails:
            raise ConnectionError("not now")
        assert undo.result in (None, f"result of {act.name}")
        if act.name not in self.undone:
            self.undone.append(act.name)
        self.effects.pop(act.name, None)
        self.deaths.point()

    def _take_effect(self, name: str, key: str) -> None:
        if self.effects.get(name) != key and name not in self.undone:
            self.effects[name] = key
            self.done[name] += 1


class Programme:
    """A saga's code, from a list of acts."""

    operation, version, since = "programme", 1, 1

    def __init__(
        self,
        acts: tuple[Act, ...],
        *,
        fails: bool,
        world: World,
        turn: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._acts = acts
        self._fails = fails
        self._world = world
        self._turn = turn
        """What a step and an undo wait for before they do anything."""

    async def call(self, request: bytes, saga: Saga) -> tuple[bytes, bool]:
        """Run it."""
        del request
        said: list[str] = [str(saga.uuid()), (await saga.now()).isoformat()]
        for group in grouped(self._acts):
            said += await asyncio.gather(*(self._one(act, saga) for act in group))
            await saga.sleep(0.01)
        if self._fails:
            raise Failure("enough", code="ENOUGH")
        return json.dumps({"said": said}).encode(), False

    async def _one(self, act: Act, saga: Saga) -> str:
        async def run(step: Step) -> str:
            await self._wait_turn()
            return self._world.act(act, step)

        async def undo(told: Undo[str]) -> None:
            await self._wait_turn()
            self._world.undo(act, told)

        if act.is_pivot:
            return await saga.pivot(act.name, run)
        return await saga.step(act.name, run, undo=undo if act.has_undo else None)

    async def _wait_turn(self) -> None:
        if self._turn is not None:
            await self._turn()


def grouped(acts: tuple[Act, ...]) -> list[list[Act]]:
    """Return the acts, those together that run side by side."""
    groups: list[list[Act]] = []
    for act in acts:
        if act.beside and groups:
            groups[-1].append(act)
        else:
            groups.append([act])
    return groups


@dataclass
class Ending:
    """How a saga ended, and what was seen of it."""

    history: History
    world: World
    records: list[Record]
    runs: int


def expected(acts: tuple[Act, ...], *, fails: bool) -> tuple[str, set[str], set[str]]:
    """Return the end, what is in effect, and what was undone, as the naive model has them."""
    begun: list[Act] = []
    failed = False
    for group in grouped(acts):
        begun += group
        if any(act.how in ("refuses", "breaks") for act in group):
            failed = True
            break
    if not (failed or fails):
        return "done", {act.name for act in begun}, set()
    took_effect = [act for act in begun if act.how != "refuses"]
    undone = {act.name for act in took_effect if act.has_undo}
    return "failed", {act.name for act in took_effect} - undone, undone


def check(ending: Ending, acts: tuple[Act, ...], *, fails: bool) -> None:
    """Compare how a saga ended with the model."""
    state, effects, undone = expected(acts, fails=fails)
    history, world = ending.history, ending.world
    assert (state, effects, undone) == (history.state, set(world.effects), set(world.undone))
    assert all(count == 1 for count in world.done.values()), world.done
    order = [step.name for step in history.steps if step.name in undone]
    assert order[::-1] == world.undone
    assert isinstance(ending.records[-1], Finished)


async def play(acts: tuple[Act, ...], *, fails: bool, deaths: Deaths) -> Ending:
    """Run a saga to its end, in as many processes as die of it."""
    clock = JumpClock()
    journal, world = MortalJournal(clock, deaths), World(deaths)
    await journal.ensure_stream(StreamConfig(name=STREAM, subjects=("saga.>",)))
    runs, reason = 0, None
    while True:
        runs += 1
        ids = SeededIds(runs)
        log = SagaLog(journal, PLACE, f"instance {runs}", clock=clock, ids=ids)
        try:
            await _begin_or_take(log, clock, f"instance {runs}")
            programme = Programme(acts, fails=fails, world=world)
            drive = Drive(log, programme, clock, ids, Deadlines(clock))
            reason = await drive.run()
        except Crash:
            pass
        if deaths.is_dead:
            await _end_all_else()
            deaths.is_dead = False
            continue
        assert reason in (None, "stuck"), reason
        stored = [decode_record(each.payload) async for each in journal.read(STREAM)]
        return Ending(log.history, world, stored, runs)


async def _begin_or_take(log: SagaLog, clock: ManualClock, instance: str) -> None:
    history = await log.read()
    if history.started is None:
        await log.begin(started(clock.wall_us(), instance))
    elif history.finished is None:
        await log.take()


async def _end_all_else() -> None:
    """A process takes all that it runs along, and not only what died first."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def started(at_us: int, owner: str) -> Started:
    """Return the first record of a saga."""
    return Started(
        operation="programme",
        version=1,
        owner=owner,
        fingerprint="",
        request=msgspec.Raw(b"{}"),
        event_id="e",
        at_us=at_us,
    )


_HOWS: list[How] = ["does", "does", "does", "refuses", "is silent, and did", "breaks"]


@st.composite
def programmes(draw: st.DrawFn) -> tuple[tuple[Act, ...], bool]:
    """Draw a programme: its acts, and whether it fails at its end."""
    count = draw(st.integers(1, 4))
    acts = tuple(
        Act(
            name=f"s{number}",
            how=draw(st.sampled_from([*_HOWS, "is silent, and did not"])),
            has_undo=draw(st.booleans()),
            undo_fails=draw(st.sampled_from([0, 0, 3])),
            beside=number > 0 and draw(st.booleans()),
        )
        for number in range(count)
    )
    return acts, draw(st.booleans())
