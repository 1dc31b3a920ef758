"""Clerks in processes of their own, on a loop of ours, for the campaigns to break."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.ids import SystemIds
from tests._nats_server import NatsServer

ROOT = Path(__file__).parents[2]
_START_S = 30.0


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop of `agent99 run`: on 3.11 no other starts handlers at once."""
    return {"agent99": new_event_loop}


class ClerkProcess:
    """A process that hosts one clerk."""

    def __init__(self, process: asyncio.subprocess.Process, instance: str, log: Path) -> None:
        self.instance = instance
        self.log = log
        self._process = process

    def __repr__(self) -> str:
        return f"ClerkProcess({self.instance!r}, pid={self._process.pid})"

    def kill(self) -> None:
        """End it as a crash would (SIGKILL)."""
        self._process.kill()

    def freeze(self) -> None:
        """Let it do nothing at all (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    async def end(self) -> None:
        """End it, if it runs, and reap it."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


Spawn = Callable[[Mesh, int], Awaitable[list[ClerkProcess]]]


@pytest.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    """Give `spawn(mesh, count)`: starts clerks; returns when the mesh sees them all."""
    processes: list[ClerkProcess] = []

    async def start(mesh: Mesh) -> ClerkProcess:
        words = ("-m", "tests.campaigns._clerk", mesh.url, mesh.name, str(tmp_path))
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        started = ClerkProcess(process, "", tmp_path / f"{process.pid}.log")
        processes.append(started)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), _START_S)
        started.instance = line.decode().strip()
        return started

    async def start_all(mesh: Mesh, count: int) -> list[ClerkProcess]:
        made = [await start(mesh) for _ in range(count)]  # the first one makes the tables
        await mesh.registry.wait_until(
            lambda table: all(table.get(clerk.instance) for clerk in made), timeout_s=10
        )
        return made

    yield start_all
    for process in processes:
        await process.end()


@pytest.fixture
async def mesh(nats_server: NatsServer) -> AsyncIterator[Mesh]:
    """Give a mesh of the campaign's own on the shared server."""
    async with Mesh(nats_server.url, mesh=f"c{SystemIds().token().decode()[:10]}") as made:
        yield made
