"""Whoever keeps the audit log may be killed at any moment: nothing is missing, twice, or forked."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.ids import SystemIds
from agent99.systems.events import AuditLog, reader_of
from agent99.systems.events._anchors import Anchors
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S

KEEPER = Path(__file__).with_name("_keeper.py")
EVENTS = 3_000
KEYS = 40
ROUNDS = 8


class Keepers:
    """Processes that share an audit log; one that is killed is followed by another one."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.running: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """Start one, and wait until it is at work."""
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, str(KEEPER), *self._arguments)
        keeper = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
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
@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
async def test_keepers_that_are_killed_lose_nothing(
    nats_server: NatsServer, url: str, seed: int
) -> None:
    """Two at a time, one of them killed again and again under load; the chain is sound (V10)."""
    luck = random.Random(seed)
    mesh_name = f"t{SystemIds().token().decode()[:12]}"
    keepers = Keepers(nats_server.url, mesh_name, url)
    appended: list[str] = []

    async def append(mesh: Mesh) -> None:
        for number in range(EVENTS):
            key = f"k{luck.randrange(KEYS)}"
            appended.append(await mesh.append("order.moved", {"number": number}, key=key))

    async with Mesh(nats_server.url, mesh=mesh_name) as mesh:
        try:
            await asyncio.gather(keepers.start(), keepers.start())
            load = asyncio.ensure_future(append(mesh))
            for round_ in range(ROUNDS):
                while len(appended) < (round_ + 1) * EVENTS // (ROUNDS + 2):
                    await asyncio.sleep(0)
                await keepers.kill(luck.choice(keepers.running))
                await keepers.start()
            await load
            async with AuditLog.opened(url) as log, asyncio.timeout(60):
                while (await log.head()).number < EVENTS:
                    await asyncio.sleep(0)
                pages = [entry async for page in log.pages() for entry in page]
                proof = await log.verify(
                    reader_of(mesh_name), await Anchors(mesh).read(await log.chain())
                )
        finally:
            for keeper in tuple(keepers.running):
                await keepers.kill(keeper)
    assert dict.fromkeys(appended, 1) == Counter(entry.event_id for entry in pages)
    order = {event_id: place for place, event_id in enumerate(appended)}
    for key in range(KEYS):
        places = [order[entry.event_id] for entry in pages if entry.entity == f"k{key}"]
        assert sorted(places) == places
    assert proof.is_sound, proof
    assert (EVENTS, True) == (proof.entries, proof.anchors > 0)
