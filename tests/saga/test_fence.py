"""Two instances that both hold a saga for theirs are kept apart by its journal, whoever is slow."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent99.clock import Deadlines
from agent99.errors import Agent99Error, DeadlineExceededError
from agent99.ids import SeededIds
from agent99.journal import MemoryJournal, Stored, StreamConfig
from agent99.saga._drive import Drive
from agent99.saga._log import LostError, SagaLog
from agent99.saga._records import (
    Failed,
    Intent,
    Noted,
    Record,
    Result,
    Started,
    Taken,
    Timer,
    Undone,
    decode_record,
)
from tests.saga._programme import (
    PLACE,
    STREAM,
    Act,
    Deaths,
    Ending,
    JumpClock,
    Programme,
    World,
    check,
    programmes,
    started,
)

ONCE = (Intent, Result, Failed, Undone, Timer, Noted)
TURNS_TO_SETTLE = 12
RUNS_MAX = 4
"""Times that each of the two holds the saga for its own."""


class Turns:
    """Says who goes on: at each point where another one could come before, everybody waits."""

    def __init__(self, choices: list[int]) -> None:
        self._choices = iter(choices)
        self._waiting: list[asyncio.Future[None]] = []
        self._is_open = False

    async def wait(self) -> None:
        """Wait to be chosen."""
        if self._is_open:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    def choose(self, count: int) -> int:
        """Return what is chosen next; the oldest, once all choices are made."""
        return next(self._choices, 0) % count

    async def play(self, *owners: asyncio.Task[None]) -> None:
        """Let one after the other go on, until the owners have ended; then everybody may."""
        while not all(owner.done() for owner in owners):
            for _ in range(TURNS_TO_SETTLE):
                await asyncio.sleep(0)
            if self._waiting:
                self._waiting.pop(self.choose(len(self._waiting))).set_result(None)
        self._is_open = True
        await asyncio.gather(*owners)


class Way:
    """One owner's way to the journal: slow, and some receipts get lost on it."""

    def __init__(self, owner: str, journal: MemoryJournal, turns: Turns) -> None:
        self.written: list[tuple[int, str]] = []
        """What was stored: its sequence, and by whom."""
        self._owner = owner
        self._journal = journal
        self._turns = turns

    async def append(self, subject: str, payload: bytes, **how: Any) -> Stored:
        """Store a record."""
        await self._turns.wait()
        stored = await self._journal.append(subject, payload, **how)
        if not stored.duplicate:
            assert stored.sequence == how["expected_sequence"] + 1
            self.written.append((stored.sequence, self._owner))
        await self._turns.wait()
        if self._turns.choose(8) == 7:
            raise DeadlineExceededError("the receipt is lost")
        return stored

    async def read(self, *args: Any, **how: Any) -> AsyncIterator[Any]:
        """Yield what is stored."""
        await self._turns.wait()
        async for each in self._journal.read(*args, **how):
            yield each


class Owner:
    """An instance that holds the saga for its own, up to so many times."""

    def __init__(self, name: str, journal: MemoryJournal, turns: Turns, clock: JumpClock) -> None:
        self.name = name
        self.way = Way(name, journal, turns)
        self._clock = clock
        self._ids = (SeededIds(hash_of(name) + number) for number in range(1_000))

    async def run(self, programme: Programme, runs_max: int) -> SagaLog | None:
        """Run the saga; returns its journal once it has ended."""
        for _ in range(runs_max):
            ids, clock = next(self._ids), self._clock
            journal: Any = self.way
            log = SagaLog(journal, PLACE, self.name, clock=clock, ids=ids)
            try:
                await self._begin_or_take(log)
            except (LostError, Agent99Error):
                continue
            reason = await Drive(log, programme, clock, ids, Deadlines(clock)).run()
            assert reason in (None, "lost")
            if reason is None:
                return log
        return None

    async def _begin_or_take(self, log: SagaLog) -> None:
        history = await log.read()
        if history.started is None:
            if await log.begin(started(self._clock.wall_us(), self.name)):
                return
            history = await log.read()
        if history.owner != self.name and history.finished is None:
            await log.take()


def hash_of(name: str) -> int:
    """Return a number that is another one for another name, and the same in each run."""
    return int.from_bytes(name.encode())


async def _contend(
    acts: tuple[Act, ...], choices: list[int], *, fails: bool
) -> tuple[Ending, list[str]]:
    """Let two owners run one saga as the choices say, then a third one; return who wrote what."""
    clock, turns, world = JumpClock(), Turns(choices), World(Deaths())
    journal = MemoryJournal(clock=clock)
    await journal.ensure_stream(StreamConfig(name=STREAM, subjects=("saga.>",)))
    owners = [Owner(name, journal, turns, clock) for name in ("one", "two", "three")]

    async def run(owner: Owner) -> None:
        programme = Programme(acts, fails=fails, world=world, turn=turns.wait)
        await owner.run(programme, RUNS_MAX)

    await turns.play(*(asyncio.ensure_future(run(owner)) for owner in owners[:2]))
    programme = Programme(acts, fails=fails, world=world)
    log = await owners[2].run(programme, 100)
    assert log is not None
    await log.read()
    stored = [decode_record(each.payload) async for each in journal.read(STREAM)]
    by = dict(pair for owner in owners for pair in owner.way.written)
    return Ending(log.history, world, stored, 0), [by[number + 1] for number in range(len(stored))]


def _owned(records: list[Record], writers: list[str]) -> Iterator[tuple[str, str]]:
    """Yield of each record who wrote it, and whose the saga was by all that stood before it."""
    owner = ""
    for record, writer in zip(records, writers, strict=True):
        if isinstance(record, (Started, Taken)):
            owner = record.owner
        yield writer, owner


@settings(max_examples=60)
@given(programmes(), st.lists(st.integers(0, 63), max_size=250))
@example(((Act("a"), Act("b", beside=True)), True), [1, 0] * 100)
async def test_two_owners(drawn: tuple[tuple[Act, ...], bool], choices: list[int]) -> None:
    """Who has not seen the other's record writes none after it, and the saga ends as by one."""
    acts, fails = drawn
    ending, writers = await _contend(acts, choices, fails=fails)
    assert all(writer == owner for writer, owner in _owned(ending.records, writers))
    kinds = Counter((type(each), each.step) for each in ending.records if isinstance(each, ONCE))
    assert {1} == set(kinds.values())
    ended = Counter(each.step for each in ending.records if isinstance(each, (Result, Failed)))
    assert ending.history.steps.keys() == ended.keys()
    assert {1} == set(ended.values())
    check(ending, acts, fails=fails)
