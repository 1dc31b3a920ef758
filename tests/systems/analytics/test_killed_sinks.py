"""Processors killed while they write to sinks: no row is lost, and none is there twice."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from agent99 import Mesh
from agent99.groups import read_events
from agent99.ids import SystemIds
from agent99.systems.analytics import Analytics, ClosedWindows, WindowRow, rows_of
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer

from ._sales import finish, sale, store
from ._sinking import latest, make_table, sink_when, table_of

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
SHOPS = 10


async def _start(*arguments: str) -> Process:
    module = "tests.systems.analytics._sinker"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, cwd=ROOT, stdin=PIPE, stdout=PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert b"ready\n" == await process.stdout.readline()
    return process


async def _told(mesh: Mesh) -> list[WindowRow]:
    events = [one async for one in read_events(mesh, "windows.shops.revenue")]
    return [row for one in events for row in rows_of(one.decode(ClosedWindows))]


@pytest.mark.fault("N8", "kill -9 the processor that writes to sinks, 1 % of the rows bad")
async def test_sinks_are_exact_through_kills(
    nats_server: NatsServer, url: str, tmp_path: Path, fault: Fault, seed: int
) -> None:
    """Whoever is killed: table and files have the windows, once, and the bad rows are put aside."""
    luck = random.Random(seed)
    name = f"t{SystemIds().token().decode()[:12]}"
    await make_table(url, "CHECK (pence < 1000)")
    arguments = (nats_server.url, name, url, str(tmp_path / "files"))
    kills = 6
    processes = [await _start(*arguments)]
    try:
        async with Mesh(nats_server.url, mesh=name) as mesh:
            for turn in range(kills):
                for minute in range(20 * turn, 20 * turn + 20):
                    sales = [
                        sale(60 * minute, f"shop-{shop}", 1_000 if luck.random() < 0.01 else 9)
                        for shop in range(SHOPS)
                    ]
                    for shard in (0, 1):
                        await store(mesh, sales[shard::2], shard=shard)
                async with asyncio.timeout(60):
                    while len(await _told(mesh)) < luck.randint(20, 180) + 200 * turn:
                        await asyncio.sleep(0)
                processes.append(await _start(*arguments))
                processes[turn].kill()
                await processes[turn].wait()
            await finish(mesh)
            figures = Analytics(mesh, "shops")
            count = 20 * kills * SHOPS
            async with asyncio.timeout(60):
                while len(latest(await _told(mesh))) < count:
                    await asyncio.sleep(0)
            for sink in ("sql", "parquet"):
                await sink_when(figures, lambda one: one.lag == 0, sink)
            told = latest(await _told(mesh))
            stats = {one.sink: one for one in (await figures.stats()).sinks}
            buried = [one async for one in mesh.link.durable.quarantine.records()]
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
    good = {window: row for window, row in told.items() if row[1] < 1_000}
    table = await table_of(url)
    files = pl.read_parquet(tmp_path / "files" / "shops" / "v1" / "revenue" / "*.parquet")
    times = Counter(files.select("start_us", "shop", "revision").rows())
    fault.report(
        Figure("processors killed", kills, at_least=kills),
        Figure("windows", len(told), at_least=count),
        Figure("bad rows", len(told) - len(good), at_least=1),
        Figure(
            "rows of the table that are not as told", len(table.items() ^ good.items()), at_most=0
        ),
        Figure(
            "bad rows that are not in quarantine", len(told) - len(good) - len(buried), at_most=0
        ),
        Figure("good rows that are", len(buried) - len(told) + len(good), at_most=0),
        Figure(
            "rows of files that are there twice", sum(one > 1 for one in times.values()), at_most=0
        ),
        Figure("windows that files lack", len(told) - len({one[:2] for one in times}), at_most=0),
        Figure(
            "rows not counted once",
            abs(stats["parquet"].delivered - len(told))
            + abs(stats["sql"].delivered + stats["sql"].refused - len(told)),
            at_most=0,
        ),
    )
