"""Versions take each other's place at any moment: what the log tells of a window it tells once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple

import msgspec
import pytest

from agent99.errors import Failure
from agent99.store import Store, Transaction, open_store
from agent99.systems.analytics import (
    CountOf,
    Hopping,
    Job,
    Pipeline,
    Session,
    Sliding,
    Source,
    Tumbling,
    WindowRow,
    _closed_rows,
    _drop,
    _switch,
)
from agent99.systems.analytics._board import Board
from agent99.systems.analytics._closed_rows import Closing, State, Turn, write_turn
from agent99.systems.analytics._jobs import reader_of_job, register
from agent99.systems.analytics._lease import read_claims, take
from agent99.systems.analytics._questions import Goal
from agent99.systems.analytics._switch import check_reached, switch
from agent99.systems.analytics._tables import MIGRATIONS, SCHEMA
from agent99.systems.analytics._watermark import FOREVER_US
from agent99.systems.analytics._windows import Window

from ._by_definition import Bag, Name, Tick, delta_of, name_of, ordinals_of, windows_of
from ._held import Held, some_wait

US = 1e-6
DELAY_US, LATENESS_US = 2, 12
KEYS = "ab"
TICKS = Source("ticks", Tick, time="at_us", delay_s=DELAY_US * US, shards=2, shard_by="who")
WINDOWS: tuple[Window, ...] = (
    Tumbling(7 * US),
    Hopping(6 * US, 2 * US),
    Sliding(4 * US),
    Session(4 * US),
    CountOf(3),
)


class Log:
    """The records of two shards, in their order: those that are not too late."""

    def __init__(self, luck: random.Random) -> None:
        self._luck = luck
        self._number = 0
        self._latest_us = 0
        self.shards: tuple[list[Tick], list[Tick]] = ([], [])

    def __repr__(self) -> str:
        return f"Log({self._number} records)"

    def add(self) -> None:
        """Store a record somewhere about now."""
        self._number += 1
        self._latest_us += self._luck.choice((0, 0, 1, 3))
        at_us = self._latest_us - self._luck.choice((0, 0, 1, 2, 5, 9))
        shard = self._luck.randrange(2)
        latest_us = max((one.at_us for one in self.shards[shard]), default=at_us)
        if at_us >= latest_us - DELAY_US - LATENESS_US:
            self.shards[shard].append(Tick(at_us, KEYS[shard], self._number))

    @property
    def ticks(self) -> list[Tick]:
        """All of them."""
        return [one for shard in self.shards for one in shard]


class Version:
    """The closer of one version, that reads the log as it likes."""

    def __init__(self, store: Store, log: Log, pipeline: Pipeline, version: int) -> None:
        self.job = Job("ticks", (pipeline,), version=version)
        self._store, self._log, self._pipeline = store, log, pipeline
        self._board = Board(pipeline)
        self._read = [0, 0]
        self._state = State(0, None, None, None, {})
        self.leaves_out: frozenset[int] = frozenset()
        """The numbers of records that its logic does without."""
        self._closing: Closing

    def __repr__(self) -> str:
        return f"Version({self.job.version}, read={self._read})"

    async def begin(self) -> None:
        """Be known, and have the lease."""

        def take_it(transaction: Transaction) -> Closing:
            register(transaction, "mesh", self.job, 0)
            reader = reader_of_job("mesh", "ticks", self.job.version)
            (claim,) = read_claims(transaction, reader)
            epoch = take(transaction, reader, "me", claim)
            assert epoch is not None
            return Closing(self.job, self._pipeline, reader, epoch)

        self._closing = await self._store.transaction(take_it)

    async def turn(self, luck: random.Random) -> None:
        """Merge some of what is new, and close some of what can be."""
        for shard, ticks in enumerate(self._log.shards):
            self.merge(shard, luck.randint(self._read[shard], len(ticks)))
        known = [self._log.shards[shard][: self._read[shard]] for shard in (0, 1)]
        if not all(known):
            return
        goal_us = min(max(one.at_us for one in ticks) for ticks in known) - DELAY_US
        before_us = self._state.watermark_us
        await self.close(goal_us if before_us is None else luck.randint(before_us, goal_us))

    async def finish(self) -> None:
        """Merge everything, and close everything."""
        for shard, ticks in enumerate(self._log.shards):
            self.merge(shard, len(ticks))
        await self.close(FOREVER_US)

    def merge(self, shard: int, upto: int) -> None:
        """Merge what a shard has up to there."""
        ticks = self._log.shards[shard]
        ordinals = ordinals_of(ticks)
        for tick in ticks[self._read[shard] : upto]:
            if tick.number not in self.leaves_out:
                self._board.merge(delta_of(self._pipeline, [tick], ordinals))
        self._read[shard] = upto

    async def close(self, watermark_us: int) -> None:
        """Close windows up to a watermark."""
        await self._store.transaction(self.closes(watermark_us))

    def closes(self, watermark_us: int) -> Callable[[Transaction], None]:
        """Return the transaction that closes windows up to a watermark."""
        before = self._state
        rows = self._board.close(watermark_us, horizon_us=before.horizon_us or -(2**63))
        assert not self._board.unwanted_rows
        self._state = State(
            turn=before.turn + bool(rows),
            watermark_us=watermark_us,
            horizon_us=watermark_us - LATENESS_US,
            forgotten_us=before.horizon_us,
            cursors=dict(enumerate(self._read)),
        )
        return partial(write_turn, closing=self._closing, turn=Turn(self._state, rows, ()))


Told = list[tuple[int, WindowRow]]


def listen(monkeypatch: pytest.MonkeyPatch) -> Told:
    """Return where all rows will stand that are told, each with its version."""
    told: Told = []

    def put(_: Any, job: Job, __: Any, ___: Any, rows: Sequence[WindowRow]) -> None:
        told.extend((job.version, row) for row in rows)

    monkeypatch.setattr(_closed_rows, "put_events", put)
    monkeypatch.setattr(_switch, "put_events", put)
    return told


def standing(told: Told) -> dict[Name, list[int]]:
    """Return what is told of each window at last; nothing was told that had been."""
    last: dict[Name, list[int]] = {}
    for _, row in told:
        name = name_of(row)
        if row.is_retracted:
            del last[name]
        else:
            assert row.rows > len(last.get(name, ())), row
            last[name] = row.values["numbers"]
    return last


def pipeline_of(window: Window) -> Pipeline:
    """Return a pipeline that shows which records its windows have."""
    return Pipeline(
        "ticks",
        TICKS,
        key=("who",),
        window=window,
        aggregates={"numbers": Bag()},
        lateness_s=0.0 if isinstance(window, CountOf) else LATENESS_US * US,
    )


def steady_log() -> Log:
    """Return a log with a record each second microsecond, in either shard by turns."""
    log = Log(random.Random(0))
    for at_us in range(0, 60, 2):
        log.shards[at_us // 2 % 2].append(Tick(at_us, KEYS[at_us // 2 % 2], at_us))
    return log


async def begin(store: Store, log: Log, pipeline: Pipeline, count: int) -> list[Version]:
    """Return so many versions of a job; the first one is the current one."""
    versions = [Version(store, log, pipeline, number + 1) for number in range(count)]
    for one in versions:
        await one.begin()
    return versions


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: type(window).__name__)
async def test_a_window_is_told_once_whoever_is_current(
    url: str, window: Window, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two versions of one logic, switched to and fro: the log tells what one alone would, once."""
    luck, told = random.Random(seed), listen(monkeypatch)
    log = Log(luck)
    async with open_store(url, migrations=MIGRATIONS, schema=SCHEMA) as store:
        versions = await begin(store, log, pipeline_of(window), 3)
        for _ in range(120):
            what = luck.random()
            if what < 0.5:
                log.add()
            elif what < 0.92:
                await luck.choice(versions).turn(luck)
            else:
                job = luck.choice(versions).job
                await store.transaction(partial(switch, mesh="mesh", job=job))
        for one in versions:
            await one.finish()
    expected = windows_of(window, log.ticks, ordinals_of(log.ticks))
    if isinstance(window, CountOf):
        expected = {name: numbers for name, numbers in expected.items() if len(numbers) == 3}
    assert expected == standing(told)


@pytest.mark.parametrize("window", WINDOWS[2::2], ids=lambda window: type(window).__name__)
async def test_a_version_that_is_always_behind_gets_where_the_old_one_was(
    url: str, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the new one is to have closed is what the old one had when it was first asked for."""
    told, log = listen(monkeypatch), steady_log()
    async with open_store(url, migrations=MIGRATIONS, schema=SCHEMA) as store:
        old, new = await begin(store, log, pipeline_of(window), 2)
        goal: Goal | None = None
        for count in (5, 8):
            for one, behind in ((old, 0), (new, 3)):
                one.merge(0, count - behind)
                one.merge(1, count - behind)
                await one.close((count - behind) * 4)
            asked = partial(check_reached, mesh="mesh", job=new.job)
            with pytest.raises(Failure, match="version 2 of job 'ticks' is behind") as no:
                await store.read(partial(asked, goal=None))
            goal = goal or msgspec.convert(no.value.details["goal"], Goal, str_keys=True)
        await store.read(partial(asked, goal=goal))
        await store.transaction(partial(switch, mesh="mesh", job=new.job))
        assert {1} == {version for version, _ in told}
        for one in (old, new):
            await one.finish()
    assert {1, 2} == {version for version, _ in told}
    expected = windows_of(window, log.ticks, ordinals_of(log.ticks))
    assert expected == standing(told)


async def test_what_corrects_a_window_after_a_switch_is_told(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the new logic does without records, so that it has fewer than were told."""
    told, log = listen(monkeypatch), Log(random.Random(0))
    log.shards[0].extend(Tick(at_us, "a", at_us) for at_us in (0, 1, 2, 3, 8, 9, 10, 20))
    log.shards[1].append(Tick(30, "b", 30))
    async with open_store(url, migrations=MIGRATIONS, schema=SCHEMA) as store:
        old, new = await begin(store, log, pipeline_of(Tumbling(7 * US)), 2)
        new.leaves_out = frozenset((1, 2, 9))
        for one, read, watermark_us in ((old, 8, 15), (new, 7, 8)):
            one.merge(0, read)
            one.merge(1, 1)
            await one.close(watermark_us)
        await store.transaction(partial(switch, mesh="mesh", job=new.job))
        new.merge(0, 8)
        await new.close(15)  # the second window, which the old one has told with a record more
        assert [(1, [0, 1, 2, 3]), (1, [8, 9, 10])] == numbers(told)
        log.shards[0].extend(Tick(at_us, "a", number) for at_us, number in ((6, 40), (13, 41)))
        new.merge(0, 10)
        await new.close(16)
    assert [(2, [0, 3, 40]), (2, [8, 10, 41])] == numbers(told)[2:]


async def test_what_a_version_told_before_it_was_left_is_not_told_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone back to, it tells what it alone has closed meanwhile; not what it alone had before."""
    told, log = listen(monkeypatch), Log(random.Random(0))
    log.shards[0].extend(Tick(at_us, "a", at_us) for at_us in (0, 8, 16, 24))
    log.shards[1].append(Tick(30, "b", 30))
    async with open_store(url, migrations=MIGRATIONS, schema=SCHEMA) as store:
        old, new = await begin(store, log, pipeline_of(Tumbling(7 * US)), 2)
        new.leaves_out = frozenset((8, 16))
        for one in (old, new):
            one.merge(0, 4)
            one.merge(1, 1)
        await old.close(14)
        await new.close(14)
        for one in (new, old):
            await store.transaction(partial(switch, mesh="mesh", job=one.job))
            await old.close(21)
    assert [(1, [0]), (1, [8]), (1, [16])] == numbers(told)


def numbers(told: Told) -> list[tuple[int, list[int]]]:
    """Return which records were told, and by which version."""
    return [(version, row.values["numbers"]) for version, row in told]


class Race(NamedTuple):
    """Two versions that have merged the same, and a database opened by all who are in a race."""

    stores: list[Store]
    old: Version
    new: Version


@asynccontextmanager
async def race(url: str) -> AsyncGenerator[Race]:
    """Begin two versions; the new one has closed what it has merged."""
    log = steady_log()
    async with AsyncExitStack() as stack:
        opened = [open_store(url, migrations=MIGRATIONS, schema=SCHEMA) for _ in range(3)]
        stores = [await stack.enter_async_context(one) for one in opened]
        old, new = await begin(stores[0], log, pipeline_of(Sliding(4 * US)), 2)
        for one in (old, new):
            one.merge(0, 5)
            one.merge(1, 5)
        await new.close(16)
        yield Race(stores, old, new)


@pytest.mark.parametrize("is_closed_first", [True, False])
async def test_who_closes_while_versions_are_switched_tells_before_it_or_not_at_all(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, *, is_closed_first: bool
) -> None:
    """A closer and a switch wait for one another, whoever is first; one of them tells the rows."""
    told = listen(monkeypatch)
    async with race(postgres_url) as (stores, old, new):
        works = old.closes(16), partial(switch, mesh="mesh", job=new.job)
        first, second = works if is_closed_first else reversed(works)
        held = Held(stores[0], first)
        await held.done()
        waiting = asyncio.ensure_future(stores[1].transaction(second))
        await some_wait(stores[2], 1)
        await held.end()
        await waiting
    assert {1 if is_closed_first else 2} == {version for version, _ in told}
    assert 8 == len(standing(told))


async def test_a_version_that_is_being_switched_to_is_not_dropped(postgres_url: str) -> None:
    """Who drops a version waits for a switch, and sees then that it is asked for."""
    async with race(postgres_url) as (stores, _, new):
        held = Held(stores[0], partial(switch, mesh="mesh", job=new.job))
        await held.done()
        forget = partial(_drop._forget, mesh="mesh", job="ticks", version=2)
        dropping = asyncio.ensure_future(stores[1].transaction(forget))
        await some_wait(stores[2], 1)
        await held.end()
        with pytest.raises(Failure, match="is the one that is asked for"):
            await dropping
