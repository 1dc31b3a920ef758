"""Everybody comes back at once, and nobody makes it worse (F14)."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from math import ceil
from pathlib import Path

import msgspec
import pytest

from agent99 import Mesh
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests.campaigns._crowd import Seen
from tests.campaigns._load import last, now_s
from tests.campaigns._traffic import becomes, followers, surplus

ROOT = Path(__file__).parents[2]
ROUNDS = 3
MOST_BACK_S = 10.0
ALL_BACK_S = 30.0
CONSUMERS_S = 90.0
"""The server gives up the consumers of lost connections after a while."""
APART_S = 0.049
"""50 ms, as exactly as the loop's timers are: to a millisecond."""


class CrowdProcess:
    """One process of the crowd."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    def __repr__(self) -> str:
        return f"CrowdProcess({self._process.pid})"

    async def said(self, timeout_s: float = 60) -> str:
        """Wait for its next line."""
        assert self._process.stdout is not None
        return (await asyncio.wait_for(self._process.stdout.readline(), timeout_s)).decode()

    async def reset(self) -> None:
        """Let it forget what it saw."""
        await self._ask("reset")

    async def tell(self) -> Seen:
        """Return what it saw."""
        return msgspec.json.decode(await self._ask("tell"), type=Seen)

    async def _ask(self, word: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        return await self.said()

    async def end(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class Size(msgspec.Struct, frozen=True):
    """How large a crowd is."""

    processes: int
    agents: int
    """Of each process; each on a mesh of its own."""
    plain: int
    """Connections of each process in addition."""

    @property
    def connections(self) -> int:
        """In all."""
        return self.processes * (self.agents + self.plain)


Gather = Callable[[str, str, Size], Awaitable[list[CrowdProcess]]]


@pytest.fixture
async def gather() -> AsyncIterator[Gather]:
    """Give `gather(url, mesh, size)`: returns when all are connected and hosted."""
    crowd: list[CrowdProcess] = []

    async def start(url: str, mesh: str, size: Size) -> list[CrowdProcess]:
        words = ("-m", "tests.campaigns._crowd", url, mesh, str(size.agents), str(size.plain))
        for _ in range(size.processes):
            made = await asyncio.create_subprocess_exec(
                sys.executable, *words, cwd=ROOT, stdin=PIPE, stdout=PIPE, limit=2**24
            )
            crowd.append(CrowdProcess(made))
        assert await asyncio.gather(*(one.said(300) for one in crowd)) == ["ready\n"] * len(crowd)
        return crowd

    yield start
    for one in crowd:
        await one.end()


class Storm:
    """Restarts the server under the whole crowd, and sees it come back."""

    def __init__(self, server: NatsServer, monitor: int, crowd: list[CrowdProcess]) -> None:
        self.most_s: list[float] = []
        self.all_s: list[float] = []
        self.gaps_s: list[float] = []
        self.written = 0
        self.surplus: list[int] = []
        self._server = server
        self._monitor = monitor
        self._crowd = crowd

    def __repr__(self) -> str:
        return f"Storm({self._server!r}, rounds={len(self.all_s)})"

    async def strike(self, size: Size, away_s: float) -> None:
        """Kill the server, start it again, and wait until everybody is back."""
        count = size.connections
        for one in self._crowd:
            await one.reset()
        await asyncio.to_thread(self._server.kill)
        await last(away_s)
        await asyncio.to_thread(self._server.start)
        began_s = now_s()
        await becomes(count, self._count_back, timeout_s=2 * ALL_BACK_S)
        seen = await self._tell()
        back_s = sorted(max(0.0, at_s - began_s) for one in seen for at_s in one.back_s)
        self.most_s.append(back_s[ceil(0.99 * count) - 1])
        self.all_s.append(back_s[-1])
        self.gaps_s += [gap_s for one in seen for gap_s in one.gaps_s]
        agents = size.processes * size.agents
        wanted = followers(agents + 1)
        self.surplus.append(await surplus(wanted, self._monitor, timeout_s=CONSUMERS_S))
        seen = await self._tell()
        self.written += sum(one.written for one in seen)
        self.blind = sum(known != agents for one in seen for known in one.known)

    async def _tell(self) -> list[Seen]:
        return [await one.tell() for one in self._crowd]

    async def _count_back(self) -> int:
        return sum(len(one.back_s) for one in await self._tell())


@pytest.mark.fault("F14", "kill -9 nats-server under a crowd of connections, some with an agent")
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(Size(4, agents=10, plain=15), id="short", marks=pytest.mark.slow),
        # A thousand agents need a machine each, or some: every one holds the whole table.
        pytest.param(Size(10, agents=20, plain=80), id="full", marks=pytest.mark.chaos),
    ],
)
async def test_a_reconnect_storm(
    start_nats_server: Callable[..., NatsServer],
    gather: Gather,
    fault: Fault,
    seed: int,
    size: Size,
) -> None:
    """All are back soon, none of them hammers, and the registry is written by nobody."""
    luck = random.Random(seed)
    monitor = luck.randrange(28_000, 32_000)
    server = start_nats_server(args=("-m", str(monitor)))
    crowd = await gather(server.url, "storm", size)
    agents = size.processes * size.agents
    async with Mesh(server.url, mesh="storm") as mesh:
        await mesh.registry.wait_until(lambda t: len(t.discover("one")) == agents, timeout_s=60)
        storm = Storm(server, monitor, crowd)
        for _ in range(ROUNDS):
            await storm.strike(size, away_s=luck.random())
    written = 100 * storm.written / agents / ROUNDS
    apart_s = min(storm.gaps_s)
    fault.report(
        Figure("connections", size.connections),
        Figure("of them with an agent", agents),
        Figure("99 % back, of the slowest round", max(storm.most_s), "s", at_most=MOST_BACK_S),
        Figure("100 % back", max(storm.all_s), "s", at_most=ALL_BACK_S),
        Figure("apart, two attempts of a connection", apart_s, "s", at_least=APART_S),
        Figure("written again, of all descriptions", written, "%", at_most=1),
        Figure("consumers too many", max(storm.surplus), at_most=0),
        Figure("consumers too few", -min(storm.surplus), at_most=0),
        Figure("agents that do not see all others", storm.blind, at_most=0),
    )
