"""A sink ten times slower than the pipeline: what it lacks waits in the log, and nobody for it."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.ids import SystemIds
from agent99.systems.analytics import Analytics
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import eventually

from ._memory import memory_mib
from ._sales import finish, sale, store
from ._sinking import sink_when
from ._slow_sinker import SLOWER

ROOT = Path(__file__).parents[3]
SHOPS = 200
NAME_CHARACTERS = 900
"""Of a shop: a row is large, so that what waits would be seen in memory."""
WARM_MINUTES = 60
GROWTH_MIB = 12
"""Some events of up to 1 MiB for each sink, and what the pipeline itself takes."""
MINUTES = [
    pytest.param(200, id="short", marks=pytest.mark.slow),
    pytest.param(1_500, id="full", marks=pytest.mark.chaos),
]
Taken = list[tuple[int, int]]
"""By event: its place in the log, and its rows."""


@asynccontextmanager
async def _keeper(*arguments: str) -> AsyncIterator[Process]:
    command = (sys.executable, "-m", "tests.systems.analytics._slow_sinker", *arguments)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=PIPE, stdout=PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert b"ready\n" == await process.stdout.readline()
        yield process
    finally:
        process.kill()
        await process.wait()


class Shops:
    """Sells, and looks at the process that keeps the windows."""

    def __init__(self, mesh: Mesh, folder: Path, pid: int) -> None:
        self.figures = Analytics(mesh, "shops")
        self.memory_mib: list[float] = []
        self._mesh = mesh
        self._folder = folder
        self._pid = pid

    async def sell(self, minutes: range) -> None:
        """Have each shop sell something in each minute, and wait until the quick sink has it."""
        for minute in minutes:
            for shard in (0, 1):
                names = [f"{at:0{NAME_CHARACTERS}}" for at in range(shard, SHOPS, 2)]
                await store(
                    self._mesh, [sale(60 * minute + 30, name) for name in names], shard=shard
                )
            if minute % 10 == 0:
                # A minute closes when the next one has come.
                await self.taken("quick", minute * SHOPS)
                self.memory_mib.append(memory_mib(self._pid))

    async def taken(self, sink: str, rows: int) -> Taken:
        """Return what a sink has taken, once it is so many rows."""
        await eventually(lambda: sum(count for _, count in self.look(sink)) >= rows)
        return self.look(sink)

    def look(self, sink: str) -> Taken:
        """Return what a sink has taken."""
        lines = (self._folder / sink).read_text().splitlines()
        return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


@pytest.mark.may_block("it makes many rows, and reads what the sinks have written down")
@pytest.mark.fault("N3", "a sink ten times slower than the pipeline, then quick again")
@pytest.mark.parametrize("minutes", MINUTES)
async def test_a_slow_sink_waits_alone(
    nats_server: NatsServer, tmp_path: Path, fault: Fault, minutes: int
) -> None:
    """Memory stays flat, its lag is shown, all else goes on, and it catches up, in order."""
    name = f"t{SystemIds().token().decode()[:12]}"
    async with (
        Mesh(nats_server.url, mesh=name) as mesh,
        _keeper(nats_server.url, name, str(tmp_path)) as process,
    ):
        shops = Shops(mesh, tmp_path, process.pid)
        await shops.sell(range(WARM_MINUTES))
        warm_mib = shops.memory_mib[-1]
        await shops.sell(range(WARM_MINUTES, minutes))
        await finish(mesh)
        quick = await shops.taken("quick", minutes * SHOPS)
        slow_then = shops.look("slow")
        await sink_when(shops.figures, lambda one: one.lag == 0, "quick")
        lagging = await sink_when(shops.figures, lambda one: one.lag, "slow")
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        slow = await shops.taken("slow", minutes * SHOPS)
        shops.memory_mib.append(memory_mib(process.pid))
        caught_up = await sink_when(shops.figures, lambda one: one.lag == 0, "slow")
    lacking = len(quick) - len(slow_then)
    lacking_mib = sum(rows for _, rows in quick[len(slow_then) :]) * NAME_CHARACTERS / 2**20
    places = [place for place, _ in slow]
    fault.report(
        Figure(
            "windows closed meanwhile", sum(rows for _, rows in quick), at_least=minutes * SHOPS
        ),
        Figure("events that it lacked then", lacking, at_least=len(quick) * (SLOWER - 1) // SLOWER),
        Figure("of them not shown as its lag", max(0, lacking - (lagging.lag or 0)), at_most=0),
        Figure("they were", lacking_mib, "MiB", at_least=GROWTH_MIB),
        Figure("memory grown by", max(shops.memory_mib) - warm_mib, "MiB", at_most=GROWTH_MIB),
        Figure("events that it lacked at last", len(set(quick) - set(slow)), at_most=0),
        Figure("taken twice", len(places) - len(set(places)), at_most=0),
        Figure("out of order", sum(a > b for a, b in pairwise(places)), at_most=0),
        Figure("in quarantine", caught_up.refused + caught_up.refused_events, at_most=0),
    )
