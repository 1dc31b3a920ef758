"""A group is replayed to the same state, and what that does to one that lives beside it (V3)."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from agent99 import Mesh, Settings
from agent99.clock import SystemClock
from agent99.groups import reset_group
from agent99.ids import SystemIds
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.campaigns._load import last
from tests.campaigns._replay import REPLAYED

ROOT = Path(__file__).parents[2]
KEYS = 5_000
AT_ONCE = 500
TICKS_PER_S = 200
WINDOW = 100
"""Events of one measurement: half a second's."""
WINDOWS = 4
"""Of so many measurements the best counts: a busy machine has its moments."""
WINDOWS_MAX = 20
ROUNDS_MAX = 20
BESIDE_MS_MAX = 100.0
"""On two cores that many share."""
WHY = "a replay reads as fast as it can, on the same two cores and server"
HASH_S = 600.0
COUNTS = [
    pytest.param(60_000, id="short", marks=pytest.mark.slow),
    pytest.param(1_000_000, id="full", marks=pytest.mark.chaos),
]
now_s = SystemClock().monotonic_s


@pytest.fixture
async def mesh(start_nats_server: Callable[..., NatsServer], tmp_path: Path) -> AsyncIterator[Mesh]:
    """Give a mesh on a server of its own, with room for a million events."""
    where: dict[str, Any] = {"project": tmp_path, "state_folder": tmp_path}
    name = f"c{SystemIds().token().decode()[:10]}"
    url = start_nats_server().url
    async with Mesh(
        settings=Settings(**where, url=url, mesh=name, log_bytes_max=2 * 1024**3)
    ) as made:
        yield made


Spawn = Callable[..., Awaitable[Process]]


@pytest.fixture
async def spawn(mesh: Mesh) -> AsyncIterator[Spawn]:
    """Give `spawn(role, what)`: starts a process of `_replay`; returns when it works."""
    made: list[Process] = []

    async def start(*words: str) -> Process:
        module = ("-m", "tests.campaigns._replay", mesh.url, mesh.name)
        process = await asyncio.create_subprocess_exec(
            sys.executable, *module, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        made.append(process)
        assert "works" == await word(process)
        return process

    yield start
    for process in made:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def word(process: Process) -> str:
    """Return the last word of the next line that a process says."""
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), HASH_S)
    return line.decode().split()[-1]


async def fill(mesh: Mesh, events: int) -> None:
    """Append so many events, of as many keys as there are."""
    for first in range(0, events, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, events))
        await asyncio.gather(
            *(
                mesh.append("order.moved", {"number": one // KEYS}, key=f"k{one % KEYS}")
                for one in numbers
            )
        )


class Ticks:
    """A steady load for the group that lives, and how long its events took."""

    def __init__(self, mesh: Mesh, path: Path) -> None:
        self.count = 0
        self._mesh = mesh
        self._path = path
        self._task = asyncio.ensure_future(self._go_on())

    async def end(self) -> None:
        """Append no more."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def windows(self, count: int) -> list[tuple[int, int]]:
        """Return the events of the next measurements: from which on, and up to which."""
        found: list[tuple[int, int]] = []
        for _ in range(count):
            first = self.count
            while self.count < first + WINDOW:
                await last(0.02)
            found.append((first, first + WINDOW))
        return found

    async def p99_ms(self, windows: list[tuple[int, int]]) -> list[float]:
        """Return the p99 of measurements, ascending."""
        await eventually(lambda: self._last_line() >= max(end for _, end in windows) - 1)
        lines = (line.split() for line in self._path.read_text().splitlines())
        took_us = {int(number): int(us) for number, us in lines}
        each = ([took_us[number] for number in range(*window)] for window in windows)
        return sorted(sorted(one)[ceil(0.99 * len(one)) - 1] / 1e3 for one in each)

    def _last_line(self) -> int:
        lines = self._path.read_text().splitlines()
        return max(int(line.split()[0]) for line in lines)

    async def _go_on(self) -> None:
        began_s = now_s()
        while True:
            await self._mesh.append("tick.tock", {"number": self.count}, key=f"k{self.count % 50}")
            self.count += 1
            late_s = began_s + self.count / TICKS_PER_S - now_s()
            await last(max(late_s, 0.0))


@pytest.mark.fault("V3", "a group is replayed beside another one that lives")
@pytest.mark.parametrize("events", COUNTS)
async def test_a_replay_beside_a_living_group(
    mesh: Mesh, spawn: Spawn, tmp_path: Path, fault: Fault, events: int
) -> None:
    """The replay comes to the same hash of every key; the other group goes on meanwhile."""
    await fill(mesh, events)
    began_s = now_s()
    replayed = await spawn("replay", str(events))
    hashes = [await word(replayed)]
    first_s = now_s() - began_s
    path = tmp_path / "live.lines"
    await spawn("live", str(path))
    ticks = Ticks(mesh, path)
    await ticks.windows(1)  # to get warm
    alone: list[tuple[int, int]] = []
    beside: list[tuple[int, int]] = []
    took_s: list[float] = []
    while len(beside) < WINDOWS and len(took_s) < ROUNDS_MAX:
        alone += await ticks.windows(1)
        began_s = now_s()
        await reset_group(mesh, REPLAYED, "first")
        ended = asyncio.ensure_future(word(replayed))
        while not ended.done() and len(beside) < WINDOWS_MAX:
            window = await ticks.windows(1)
            if not ended.done():  # the replay has lasted for all of it
                beside += window
        hashes.append(await ended)
        took_s.append(now_s() - began_s)
    alone += await ticks.windows(max(len(beside) - len(alone), 0))  # of both as many: the best
    await ticks.end()
    alone_ms, beside_ms = await ticks.p99_ms(alone), await ticks.p99_ms(beside)
    name = "the other group's p99"
    fault.report(
        Figure("events", events),
        Figure("read first in", first_s, "s"),
        Figure("replayed in", min(took_s), "s"),
        Figure("other hashes than at first", len(set(hashes)) - 1, at_most=0),
        Figure(f"{name}, the median alone", median(alone_ms), "ms"),
        Figure(f"{name}, the median beside it", median(beside_ms), "ms"),
        Figure(f"{name}, the worst alone", alone_ms[-1], "ms"),
        Figure(f"{name}, the worst beside it", beside_ms[-1], "ms"),
        Figure(f"{name}, alone", alone_ms[0], "ms"),
        Figure(
            f"{name}, beside it", beside_ms[0], "ms", at_most=round(1.2 * alone_ms[0], 2), why=WHY
        ),
        Figure(f"{name}, beside it, and no more", beside_ms[0], "ms", at_most=BESIDE_MS_MAX),
    )
