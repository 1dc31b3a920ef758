"""Whoever keeps a projection may be killed at any moment, in the middle of a rebuild too."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.ids import SystemIds
from agent99.projections import Projector
from agent99.store import open_store
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S
from tests.projections._keeper import OPTIONS
from tests.projections._revenue import QUICK, Revenue
from tests.projections._watch import Watch
from tests.projections.test_rebuild import load

KEEPER = Path(__file__).with_name("_keeper.py")
EVENTS = 8_000
ROUNDS = 5


class Keepers:
    """Processes that share a projection."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.running: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """Start one, and wait until it is at work."""
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "tests.projections._keeper", *self._arguments)
        root = KEEPER.parents[2]
        keeper = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=root)
        self.running.append(keeper)
        assert keeper.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert b"ready\n" == await keeper.stdout.readline()

    async def kill(self, keeper: asyncio.subprocess.Process) -> None:
        """End one as a crash would."""
        self.running.remove(keeper)
        keeper.kill()
        await keeper.wait()


@pytest.mark.slow
async def test_keepers_that_are_killed_in_a_rebuild(
    nats_server: NatsServer, url: str, seed: int
) -> None:
    """Under load, one of three is killed in each of several rebuilds: nothing missing, or twice."""
    luck = random.Random(seed)
    mesh_name = f"t{SystemIds().token().decode()[:12]}"
    keepers = Keepers(nats_server.url, mesh_name, url)
    async with (
        open_store(url, options=OPTIONS) as store,
        Mesh(nats_server.url, mesh=mesh_name) as mesh,
        Projector(mesh, Revenue(), store, options=QUICK) as revenue,
    ):
        try:
            await asyncio.gather(keepers.start(), keepers.start())
            async with Watch(mesh, revenue) as watch:
                loading = asyncio.ensure_future(load(watch, EVENTS, luck))
                for round_ in range(ROUNDS):
                    while watch.begun < (round_ + 1) * EVENTS // (ROUNDS + 2):
                        await asyncio.sleep(0)
                    rebuilding = asyncio.ensure_future(revenue.rebuild())
                    for _ in range(luck.randrange(200)):
                        await asyncio.sleep(0)
                    await keepers.kill(luck.choice(keepers.running))
                    await keepers.start()
                    async with asyncio.timeout(60):
                        await rebuilding
                await loading
                await watch.check()
            before = await revenue.read(lambda tables: tables.digest())
            async with asyncio.timeout(60):
                await revenue.rebuild()
            assert before == await revenue.read(lambda tables: tables.digest())
        finally:
            for keeper in tuple(keepers.running):
                await keepers.kill(keeper)
    assert [] == watch.faults
    assert set(range(1, ROUNDS + 2)) == watch.generations
