"""A saga that waits while its owner, or everybody, is killed (E8)."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent99 import Failure, Mesh
from agent99.ids import SystemIds
from agent99.saga import Desk
from agent99.store import open_store
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests.campaigns._load import last
from tests.campaigns._mover import TABLES, store_url

ROOT = Path(__file__).parents[2]
WAIT_S = 6.0
LATE_S = 1.0
"""So late may it go on, once somebody is there."""


class Movers:
    """Processes that move, by instance."""

    def __init__(self, server: NatsServer, folder: Path) -> None:
        self.mesh_name = f"c{SystemIds().token().decode()[:10]}"
        self.running: dict[str, asyncio.subprocess.Process] = {}
        self._server, self._folder = server, folder

    async def start(self) -> None:
        """Start one more."""
        words = ("-m", "tests.campaigns._mover", self._server.url, self.mesh_name)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            *(str(self._folder), "none"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        self.running[line.decode().strip()] = process

    async def kill(self, *instances: str) -> None:
        """End some as a crash would."""
        for instance in instances:
            process = self.running.pop(instance)
            process.kill()
            await process.communicate()


async def _told(folder: Path) -> int:
    """Return how often it was told."""
    async with open_store(store_url(folder), migrations=TABLES) as store:
        sql = "SELECT count(*) FROM effect WHERE kind = 'tell'"
        return int(await store.read(lambda t: t.execute(sql).scalar()) or 0)


@pytest.mark.slow
@pytest.mark.fault("E8", "kill -9 of the owner of a saga that waits, or of everybody")
@pytest.mark.parametrize("who", ["the owner", "everybody"])
async def test_a_wait_goes_on(
    start_nats_server: Callable[..., NatsServer], tmp_path: Path, fault: Fault, who: str
) -> None:
    """The moment is in the journal: whoever is there then goes on, once, within a second."""
    server = start_nats_server()
    movers = Movers(server, tmp_path)
    try:
        for _ in range(2):
            await movers.start()
        async with Mesh(server.url, mesh=movers.mesh_name) as mesh:
            await mesh.wait_for("mover")
            due_s = time.monotonic() + WAIT_S
            with pytest.raises(Failure):
                await mesh.request(
                    "mover",
                    "later",
                    {"number": 1, "seconds": WAIT_S},
                    timeout_s=0.5,
                    idempotency_key="k",
                )
            (view,) = await Desk(mesh).every_saga()
            victims = [view.history.owner] if who == "the owner" else list(movers.running)
            await movers.kill(*victims)
            if who == "everybody":
                await last(1)
                await movers.start()
            while not await _told(tmp_path):
                assert time.monotonic() < due_s + 30
            late_s = time.monotonic() - due_s
            await mesh.request(
                "mover", "later", {"number": 1, "seconds": WAIT_S}, idempotency_key="k"
            )
    finally:
        await movers.kill(*movers.running)
    fault.report(
        Figure(f"later than its moment, {who} killed", late_s, "s", at_most=LATE_S, at_least=-0.1),
        Figure("times that it was told", await _told(tmp_path), at_least=1, at_most=1),
    )
