"""What is killed costs what it had in its hands, and nothing else; `-s` shows the figures."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from agent99 import Mesh, Peer, named
from agent99.errors import Agent99Error
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.agent._agents import Shop

ROOT = Path(__file__).parents[2]
LATE_S = 0.1
"""So much may a request outlive its deadline, and so long may a dead instance be asked."""

pytestmark = pytest.mark.slow

Spawn = Callable[[str, str], Awaitable[tuple[asyncio.subprocess.Process, str]]]


@pytest.fixture
async def spawn() -> AsyncIterator[Spawn]:
    """Give a function that starts a process with one `Shop` and tells its instance."""
    processes: list[asyncio.subprocess.Process] = []

    async def start(url: str, mesh: str) -> tuple[asyncio.subprocess.Process, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.agent._worker", url, mesh, cwd=ROOT, stdout=-1
        )
        processes.append(process)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        return process, line.decode().strip()

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
        await process.wait()


class Outcome(msgspec.Struct, frozen=True):
    """How one request ended."""

    began_s: float
    took_s: float
    answer: object = None
    error: Agent99Error | None = None


async def outcome_of(mesh: Mesh, operation: str, timeout_s: float) -> Outcome:
    """Ask any shop, and tell what came of it."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    try:
        answer = await mesh.request("shop", operation, timeout_s=timeout_s)
    except Agent99Error as error:
        return Outcome(began_s, loop.time() - began_s, error=error)
    return Outcome(began_s, loop.time() - began_s, answer)


class Load:
    """Requests without a pause, each outcome kept."""

    def __init__(self, mesh: Mesh, timeout_s: float) -> None:
        self.mesh = mesh
        self.timeout_s = timeout_s
        self.answered: list[Outcome] = []
        self.failed: list[Outcome] = []
        self._done = False
        self._tasks = [asyncio.ensure_future(self._run()) for _ in range(16)]

    @property
    def longest_s(self) -> float:
        """How long the longest request took, from the call to its end."""
        return max(outcome.took_s for outcome in (*self.answered, *self.failed))

    async def _run(self) -> None:
        while not self._done:
            outcome = await outcome_of(self.mesh, "whoami", self.timeout_s)
            if outcome.error is None:
                self.answered.append(outcome)
            else:
                self.failed.append(outcome)
                await asyncio.sleep(0)

    async def wait_answers(self, count: int, timeout_s: float = 20) -> None:
        """Wait for so many more answers."""
        target = len(self.answered) + count
        await eventually(lambda: len(self.answered) >= target, timeout_s=timeout_s)

    async def stop(self) -> None:
        """Let every request end."""
        self._done = True
        await asyncio.gather(*self._tasks)


async def in_hands(mesh: Mesh) -> dict[str, int]:
    """Return how many operations run in each shop, as it says itself."""
    answers = (await mesh.control(named("shop"), "status")).answers
    return {one.instance: one.result["operations"]["in_flight"] for one in answers}


def show(**figures: float) -> None:
    """Print what was measured."""
    shown = ", ".join(f"{name} {figure:.3g}" for name, figure in figures.items())
    print(f" {shown}")  # noqa: T201 - the figures are for whoever reads the output


async def test_killing_one_of_two_instances_costs_only_what_it_had(
    nats_server: NatsServer, spawn: Spawn
) -> None:
    """What it ran fails, typed, and no more; nothing new reaches it; its lease runs out."""
    async with Mesh(nats_server.url, mesh="fault-kill") as mesh:
        process, victim = await spawn(nats_server.url, "fault-kill")
        _, survivor = await spawn(nats_server.url, "fault-kill")
        await mesh.registry.wait_until(lambda t: len(t.discover("shop")) == 2, timeout_s=5)
        held = [asyncio.ensure_future(outcome_of(mesh, "wait", 5.0)) for _ in range(32)]
        async with asyncio.timeout(4):
            while sum((hands := await in_hands(mesh)).values()) < len(held):
                await asyncio.sleep(0)
        assert set(hands) == {victim, survivor}
        assert min(hands.values()) >= 1
        load = Load(mesh, timeout_s=1.0)
        await load.wait_answers(200)
        killed_s = asyncio.get_running_loop().time()
        process.kill()
        await load.wait_answers(2_000)
        await mesh.control(named("shop"), "open_gate", timeout_s=0.3)  # the victim says nothing
        outcomes = await asyncio.gather(*held)
        await load.stop()
        lost = [outcome for outcome in outcomes if outcome.error is not None]
        assert len(lost) == hands[victim]  # all of what the victim ran, and only that
        assert [o.answer for o in outcomes if o.error is None] == ["open"] * hands[survivor]
        failed = [*lost, *load.failed]
        assert {o.error.code for o in failed if o.error is not None} == {"DEADLINE_EXCEEDED"}
        assert len(load.failed) <= 16  # what 16 callers may have had in its hands
        last_s = max((outcome.began_s for outcome in load.failed), default=killed_s) - killed_s
        assert last_s < LATE_S
        late_s = max(load.longest_s - load.timeout_s, max(o.took_s for o in lost) - 5.0)
        assert late_s < LATE_S
        reached = {o.answer["id"] for o in load.answered if o.began_s > killed_s + LATE_S}
        assert reached == {survivor}
        show(held=len(lost), load_failed=len(load.failed), last_reached_s=last_s, late_s=late_s)
        await mesh.registry.wait_until(lambda t: len(t.discover("shop")) == 1, timeout_s=10)


async def test_a_frozen_instance_is_left_out_until_it_thaws(
    nats_server: NatsServer, spawn: Spawn
) -> None:
    """Within 3 s of the first request that it swallows nothing more goes there (F2)."""
    async with Mesh(nats_server.url, mesh="fault-freeze") as mesh:
        process, frozen = await spawn(nats_server.url, "fault-freeze")
        _, other = await spawn(nats_server.url, "fault-freeze")
        await mesh.registry.wait_until(lambda t: len(t.discover("shop")) == 2, timeout_s=5)
        load = Load(mesh, timeout_s=1.0)
        await load.wait_answers(200)
        loop = asyncio.get_running_loop()
        process.send_signal(signal.SIGSTOP)
        frozen_s = loop.time()
        assert mesh._link is not None
        health = mesh._link.health
        await eventually(lambda: frozen in health.ejected)
        noticed_s = loop.time() - frozen_s
        await load.wait_answers(2_000)
        reached = {o.answer["id"] for o in load.answered if o.began_s > frozen_s + noticed_s}
        assert reached == {other}
        process.send_signal(signal.SIGCONT)
        thawed_s = loop.time()
        await eventually(lambda: not health.ejected, timeout_s=10)
        back_s = loop.time() - thawed_s
        await load.wait_answers(200)
        await load.stop()
        last_s = max(outcome.began_s for outcome in load.failed) - frozen_s
        assert noticed_s < 3
        assert last_s < noticed_s + LATE_S
        assert load.longest_s < load.timeout_s + LATE_S
        assert {o.answer["id"] for o in load.answered if o.began_s > thawed_s + back_s} == {
            frozen,
            other,
        }
        show(noticed_s=noticed_s, failed=len(load.failed), last_failed_s=last_s, back_s=back_s)


@pytest.mark.parametrize("loses", [False, True], ids=["keeps its store", "loses its store"])
async def test_killing_the_server_under_load_ends_every_request_in_time(
    start_nats_server: Callable[..., NatsServer], caplog: pytest.LogCaptureFixture, loses: bool
) -> None:
    """Agents are back and registered within 5 s of its return; no request outlives its deadline."""
    server = start_nats_server()
    async with (
        Mesh(server.url, mesh="fault-server") as mesh,
        Mesh(server.url, mesh="fault-server") as client,
    ):
        shops = [Shop(), Shop()]
        await mesh.host(*shops)
        await client.registry.wait_until(lambda t: len(t.discover("shop")) == 2, timeout_s=5)
        load = Load(client, timeout_s=0.5)
        await load.wait_answers(200)
        caplog.clear()
        server.kill()
        failed = len(load.failed)
        await eventually(lambda: len(load.failed) > failed + 32)  # each caller fails twice or so
        refreshed = mesh.registry.statistics().refreshes
        if loses:
            shutil.rmtree(server.store)
        server.start()
        back_s = asyncio.get_running_loop().time()
        await load.wait_answers(200, timeout_s=5)
        answered_s = asyncio.get_running_loop().time() - back_s
        # A lease that the server has confirmed, and a table that was read from it just now: the
        # tables of those who were there stay as they are while the server is away.
        await eventually(lambda: mesh.registry.statistics().refreshes > refreshed)
        found = await registered(server.url)
        registered_s = asyncio.get_running_loop().time() - back_s
        assert found == {shop.instance for shop in shops}
        survey = await client.survey("shop", "whoami")
        assert {answer["id"] for answer in survey.results} == found
        assert asyncio.get_running_loop().time() - back_s < 5
        await load.stop()
        assert any("the link to the server is lost" in r.getMessage() for r in caplog.records)
        assert load.longest_s < load.timeout_s + LATE_S
        assert {o.error.code for o in load.failed if o.error is not None} <= {
            "DEADLINE_EXCEEDED",
            "NO_AGENT",
            "DISCONNECTED",
            "BUFFER_FULL",
        }
        late_s = load.longest_s - load.timeout_s
        show(answered_s=answered_s, registered_s=registered_s, late_s=late_s)


async def registered(url: str) -> set[str]:
    """Return the shops that a newcomer reads from the server's registry, and that answer it."""
    async with Mesh(url, mesh="fault-server") as fresh:
        await fresh.registry.wait_until(lambda t: len(t.discover("shop")) == 2, timeout_s=5)
        peers: list[Peer] = await fresh.discover("shop")
        answers = [await peer.request("whoami") for peer in peers]
        return {answer["id"] for answer in answers}
