"""What is killed costs what it had in its hands, and nothing else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.errors import Agent99Error
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.agent._agents import Shop

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

Spawn = Callable[[str, str], Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def spawn() -> AsyncIterator[Spawn]:
    """Give a function that starts a process with one `Shop`; it is ended with the test."""
    processes: list[asyncio.subprocess.Process] = []

    async def start(url: str, mesh: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.agent._worker", url, mesh, cwd=ROOT, stdout=-1
        )
        processes.append(process)
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 20)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Load:
    """Requests without a pause, each outcome kept with the time that it took."""

    def __init__(self, mesh: Mesh, timeout_s: float) -> None:
        self.mesh = mesh
        self.timeout_s = timeout_s
        self.answered: list[str] = []
        self.failed: list[tuple[float, Agent99Error]] = []
        self.longest_s = 0.0
        self._done = False
        self._tasks = [asyncio.ensure_future(self._run()) for _ in range(16)]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._done:
            began_s = loop.time()
            try:
                answer = await self.mesh.request("shop", "whoami", timeout_s=self.timeout_s)
                self.answered.append(answer["id"])
            except Agent99Error as error:
                self.failed.append((loop.time(), error))
                await asyncio.sleep(0)
            self.longest_s = max(self.longest_s, loop.time() - began_s)

    async def wait_answers(self, count: int, timeout_s: float = 20) -> None:
        """Wait for so many more answers."""
        target = len(self.answered) + count
        await eventually(lambda: len(self.answered) >= target, timeout_s=timeout_s)

    async def stop(self) -> None:
        """Let every request end."""
        self._done = True
        await asyncio.gather(*self._tasks)


async def test_killing_one_of_two_instances_costs_only_what_it_had(
    nats_server: NatsServer, spawn: Spawn
) -> None:
    """The requests in its hands fail, typed; nothing new reaches it; its lease runs out."""
    async with Mesh(nats_server.url, mesh="fault-kill") as mesh:
        victim = await spawn(nats_server.url, "fault-kill")
        await spawn(nats_server.url, "fault-kill")
        await mesh.registry.wait_until(lambda t: len(t.discover("shop")) == 2, timeout_s=5)
        load = Load(mesh, timeout_s=1.0)
        await load.wait_answers(200)
        killed_s = asyncio.get_running_loop().time()
        victim.kill()
        await load.wait_answers(2_000)
        await load.stop()
        assert len(load.failed) <= 16  # what 16 callers had in its hands
        assert {error.code for _, error in load.failed} <= {"DEADLINE_EXCEEDED"}
        latest_s = max((ended_s for ended_s, _ in load.failed), default=killed_s)
        assert latest_s - load.timeout_s - killed_s < 0.1
        assert load.longest_s < load.timeout_s + 0.1
        await mesh.registry.wait_until(lambda t: len(t.discover("shop")) == 1, timeout_s=10)


async def test_killing_the_server_under_load_ends_every_request_in_time(
    start_nats_server: Callable[..., NatsServer], caplog: pytest.LogCaptureFixture
) -> None:
    """Agents are back and registered within 5 s of its return; no request outlives its deadline."""
    server = start_nats_server()
    async with (
        Mesh(server.url, mesh="fault-server") as mesh,
        Mesh(server.url, mesh="fault-server") as client,
    ):
        await mesh.host(Shop(), Shop())
        await client.registry.wait_until(lambda t: len(t.discover("shop")) == 2, timeout_s=5)
        load = Load(client, timeout_s=0.5)
        await load.wait_answers(200)
        caplog.clear()
        server.kill()
        failed = len(load.failed)
        await eventually(lambda: len(load.failed) > failed + 32)  # each caller fails twice or so
        server.start()
        back_s = asyncio.get_running_loop().time()
        await load.wait_answers(200, timeout_s=5)
        await client.registry.wait_until(lambda t: len(t.discover("shop")) == 2, timeout_s=5)
        survey = await client.survey("shop", "whoami")
        assert len(survey.results) == 2
        assert asyncio.get_running_loop().time() - back_s < 5
        await load.stop()
        assert any("the link to the server is lost" in r.getMessage() for r in caplog.records)
        assert load.longest_s < load.timeout_s + 0.1
        assert {error.code for _, error in load.failed} <= {
            "DEADLINE_EXCEEDED",
            "NO_AGENT",
            "DISCONNECTED",
            "BUFFER_FULL",
        }
