"""Processors at work on the tills, which a campaign starts, stops and kills; and what is wrong."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path
from typing import Any, Self

import msgspec

from agent99 import Mesh
from agent99.groups import read_events
from agent99.store import Store, StoreOptions, Transaction, open_store
from agent99.systems.analytics import AnalyticsProcessor
from agent99.systems.analytics._columns import ColumnBatch, encode_batch, shard_key
from agent99.systems.analytics._results import ClosedWindows, rows_of
from agent99.systems.analytics._tables import MIGRATIONS, SCHEMA
from agent99.systems.analytics._watermark import FOREVER_US

from ._by_definition import Name, name_of
from ._tills import PIPELINES, TILLS, Tills, expected_of, till_job

ROOT = Path(__file__).parents[3]
START_S = 60.0
SETTLE_S = 90.0
LOOK_S = 0.05
PACE_S = 0.02
_ROWS = (
    "SELECT pipeline, start_us, end_us, key, number, figures, records FROM analytics_row"
    " WHERE is_retracted = 0 ORDER BY pipeline, end_us, start_us, key, number"
)
_COUNTS = (
    "SELECT pipeline, sum(records), sum(on_time), sum(late), sum(dropped), sum(skipped),"
    " sum(refused) FROM analytics_count GROUP BY pipeline"
)
_CLOSED = "SELECT min(watermark_us) FROM analytics_closer HAVING count(watermark_us) = :count"
_POSITION = "SELECT max(position) FROM agent99_position"


class Found(msgspec.Struct):
    """What there is at last."""

    rows: list[tuple[Any, ...]]
    """Of the database, as they stand there."""
    counts: dict[str, tuple[int, ...]]
    told: dict[str, Counter[tuple[Name, int]]]
    """By pipeline: how often each revision of each window is in the events."""
    latest: dict[str, dict[Name, Any]]
    """By pipeline: the last row that the events tell of each window."""
    late: Counter[str]
    """By pipeline: the records in its side stream."""


class TillCampaign:
    """Sales that are stored while processors come and go; use it with `async with`."""

    def __init__(self, url: str, mesh: Mesh, database: str, seed: int, fault: str = "none") -> None:
        self.tills = Tills(seed)
        self.luck = random.Random(seed)
        self.running: list[Process] = []
        self.kills = 0
        self.longest_pause_s = 0.0
        self.pace_s = PACE_S
        """Between two batches of sales."""
        self._words = (url, mesh.name, database, fault)
        self._mesh = mesh
        self._options = StoreOptions(rows_max=1_000_000, lock_s_max=30.0)
        self._store: Store = open_store(
            database, migrations=MIGRATIONS, schema=SCHEMA, options=self._options
        )
        self._selling: asyncio.Task[None] | None = None
        self._is_open = True

    async def __aenter__(self) -> Self:
        """Make the tables."""
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything."""
        if self._selling is not None:
            self._selling.cancel()
            await asyncio.gather(self._selling, return_exceptions=True)
        for process in tuple(self.running):
            await self._end(process)
        await self._store.aclose()

    # --- processes --------------------------------------------------------------------------------

    async def start(self, count: int = 1, how: str = "") -> None:
        """Start processors, and wait until they are at work.

        Args:
            how: Instead of the campaign's fault.
        """
        await asyncio.gather(*(self._start(how) for _ in range(count)))

    async def _start(self, how: str) -> None:
        *where, fault = self._words
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.systems.analytics._keeper", *where, how or fault),
            cwd=ROOT,
            stdin=PIPE,
            stdout=PIPE,
        )
        self.running.append(process)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_S)
        assert line == b"ready\n", "a processor ended by itself"

    async def kill(self) -> None:
        """End one of them as a crash would."""
        process = self.luck.choice(self.running)
        self.kills += 1
        process.kill()
        await self._end(process)

    async def leave(self) -> None:
        """Have one of them leave."""
        process = self.running[0]
        process.terminate()
        await asyncio.wait_for(process.wait(), START_S)
        await self._end(process)

    async def _end(self, process: Process) -> None:
        self.running.remove(process)
        if process.returncode is None:
            process.kill()
        await process.communicate()

    # --- sales ------------------------------------------------------------------------------------

    def sell(self) -> None:
        """Store sales from now on."""
        self._selling = asyncio.ensure_future(self._sell())

    async def _sell(self) -> None:
        while self._is_open:
            for shard, columns in self.tills.next_batches():
                await self._put(shard, columns)
            await asyncio.sleep(self.pace_s)

    async def _put(self, shard: int, columns: Any, *, is_final: bool = False) -> None:
        rows = len(columns[TILLS.time])
        batch = ColumnBatch(
            source=TILLS.name, shard=shard, rows=rows, columns=columns, is_final=is_final
        )
        data = encode_batch(TILLS, batch)
        await self._mesh.append(TILLS.topic, data, key=shard_key(TILLS, shard))

    async def sold(self, count: int) -> None:
        """Wait until so many more sales were stored."""
        wanted = self.tills.count + count
        while self.tills.count < wanted:
            await asyncio.sleep(LOOK_S)

    async def close(self) -> None:
        """Store what is held back, and end the stream."""
        assert self._selling is not None
        self._is_open = False
        await self._selling
        for shard, columns in self.tills.last_batches():
            await self._put(shard, columns)
        nothing: dict[str, list[Any]] = {name: [] for name in TILLS.fields}
        for shard in range(TILLS.shards):
            await self._put(shard, nothing, is_final=True)

    # --- what there is ----------------------------------------------------------------------------

    async def position(self) -> int:
        """Return up to where the log has been folded, in any of its partitions."""
        return await self._store.read(lambda one: one.execute(_POSITION).scalar() or 0)

    async def watch_pauses(self) -> None:
        """Note for how long no position has moved, at most, until cancelled."""
        latest, since_s = await self.position(), time.monotonic()
        while True:
            await asyncio.sleep(LOOK_S)
            position, now_s = await self.position(), time.monotonic()
            self.longest_pause_s = max(self.longest_pause_s, now_s - since_s)
            if position != latest:
                latest, since_s = position, now_s

    async def settled_s(self) -> float:
        """Wait until all windows are closed, and told; returns how long that took."""
        began_s = time.monotonic()
        while not await self._store.read(_is_closed):
            assert time.monotonic() - began_s < SETTLE_S, await self._store.read(_state)
            await asyncio.sleep(LOOK_S)
        while await self._store.read(_waiting):
            assert time.monotonic() - began_s < SETTLE_S, "events wait in the outbox"
            await asyncio.sleep(LOOK_S)
        return time.monotonic() - began_s

    async def rows_without_faults(self, database: str) -> list[tuple[Any, ...]]:
        """Return the rows that one processor makes of the same records, with nothing in its way."""
        other = open_store(database, migrations=MIGRATIONS, schema=SCHEMA, options=self._options)
        agent = AnalyticsProcessor(till_job(version=2), database)
        await self._mesh.host(agent)
        async with other, asyncio.timeout(SETTLE_S):
            while not await other.read(_is_closed):
                await asyncio.sleep(LOOK_S)
            rows, _ = await other.read(_read)
        await self._mesh.stop(agent)
        return rows

    async def found(self) -> Found:
        """Return what there is."""
        rows, counts = await self._store.read(_read)
        told: dict[str, Counter[tuple[Name, int]]] = {}
        latest: dict[str, dict[Name, Any]] = {}
        late: Counter[str] = Counter()
        for pipeline in (one.name for one in PIPELINES):
            counter = told.setdefault(pipeline, Counter())
            last = latest.setdefault(pipeline, {})
            async for event in read_events(self._mesh, f"windows.tills.{pipeline}"):
                for row in rows_of(event.decode(ClosedWindows)):
                    counter[name_of(row), row.revision] += 1
                    last[name_of(row)] = row
            async for event in read_events(self._mesh, f"late.tills.{pipeline}"):
                late[pipeline] += msgspec.json.decode(event.data)["rows"]
        return Found(rows, counts, told, latest, late)


def findings(campaign: TillCampaign, found: Found) -> dict[str, int]:
    """Return what is wrong, in words, and how often it is."""
    wrong: Counter[str] = Counter(
        {
            "windows that are not what they must be": 0,
            "windows that are missing": 0,
            "windows that there are not": 0,
            "counts that are not what they must be": 0,
            "records missing in the side stream": 0,
            "rows that events tell twice": 0,
            "revisions that no event tells": 0,
            "windows whose last event is not their row": 0,
        }
    )
    for pipeline in PIPELINES:
        name = pipeline.name
        expected = expected_of(pipeline, campaign.tills)
        stood = {
            Name(tuple(msgspec.json.decode(key)), start_us, end_us, number): (
                figures["sales"],
                figures["pence"],
            )
            for of, start_us, end_us, key, number, text, _ in found.rows
            if of == name and (figures := msgspec.json.decode(text)) is not None
        }
        there = stood.keys() & expected.windows.keys()
        wrong["windows that are not what they must be"] += sum(
            stood[one] != expected.windows[one] for one in there
        )
        wrong["windows that are missing"] += len(expected.windows.keys() - there)
        wrong["windows that there are not"] += len(stood.keys() - there)
        counts = (campaign.tills.count, *expected.counts, 0, 0)
        wrong["counts that are not what they must be"] += found.counts.get(name) != counts
        missing = expected.counts[2] - found.late[name]
        wrong["records missing in the side stream"] += abs(missing)
        told = found.told[name]
        wrong["rows that events tell twice"] += sum(times - 1 for times in told.values())
        last = {window: row.revision for window, row in found.latest[name].items()}
        wrong["revisions that no event tells"] += sum(last.values()) - len(told)
        shown = {
            window: (row.values["sales"], row.values["pence"])
            for window, row in found.latest[name].items()
            if not row.is_retracted
        }
        wrong["windows whose last event is not their row"] += sum(
            stood.get(window) != shown.get(window) for window in stood.keys() | shown.keys()
        )
    return dict(wrong)


def _is_closed(transaction: Transaction) -> bool:
    """Tell whether every pipeline has closed its last window."""
    return transaction.execute(_CLOSED, {"count": len(PIPELINES)}).scalar() == FOREVER_US


def _waiting(transaction: Transaction) -> int:
    waiting = "SELECT count(*) FROM agent99_outbox WHERE stored_us IS NULL"
    return int(transaction.execute(waiting).scalar() or 0)


def _state(transaction: Transaction) -> list[Any]:
    return list(transaction.tuples("SELECT * FROM analytics_closer"))


def _read(transaction: Transaction) -> tuple[list[tuple[Any, ...]], dict[str, tuple[int, ...]]]:
    counts = {
        pipeline: tuple(map(int, numbers)) for pipeline, *numbers in transaction.tuples(_COUNTS)
    }
    return [tuple(row) for row in transaction.tuples(_ROWS)], counts
