"""A server that is killed costs what was under way; everybody is back soon after it is (F4)."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable
from math import ceil

import msgspec
import pytest

from agent99 import Mesh
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually
from tests.campaigns._load import Load, last, now_s
from tests.campaigns._traffic import (
    Connections,
    Traffic,
    becomes,
    followers,
    subscriptions,
    surplus,
)
from tests.campaigns.conftest import ClerkProcess, Spawn

MESH = "killed-server"
RIGHT_S = 5.0
"""Seconds after which everything must be as it was, from the port's return."""
BACK_S = 3.0
"""A second, and the longest wait between two attempts."""
CODES = {"DEADLINE_EXCEEDED", "NO_AGENT", "DISCONNECTED", "BUFFER_FULL", "OVERLOADED"}
"""What a request may end with while the server is away; what was held back comes all at once."""


class Watched(msgspec.Struct):
    """A server with its monitoring's port."""

    server: NatsServer
    monitor: int


@pytest.fixture
def watched(start_nats_server: Callable[..., NatsServer], seed: int) -> Watched:
    """Give a server of the campaign's own, with monitoring."""
    port = random.Random(seed).randrange(28_000, 32_000)
    return Watched(start_nats_server(args=("-m", str(port))), port)


@pytest.fixture
async def client(watched: Watched) -> AsyncIterator[Mesh]:
    """Give the mesh from which the clerks are asked."""
    async with Mesh(watched.server.url, mesh=MESH) as made:
        yield made


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    """Give connections to be opened; they are closed also where the test fails."""
    made = Connections()
    yield made
    await made.aclose()


class Outages:
    """Kills the server again and again, and measures each return."""

    def __init__(self, watched: Watched, client: Mesh, clerks: list[ClerkProcess]) -> None:
        self.back_s: list[float] = []
        self.registered_s: list[float] = []
        self.followed_s: list[float] = []
        self.whole_s: list[float] = []
        self.ends_s: list[tuple[float, float]] = []
        self.missing = self.deaf = 0
        self._watched = watched
        self._client = client
        self._clerks = {clerk.instance for clerk in clerks}

    def __repr__(self) -> str:
        return f"Outages({len(self.registered_s)})"

    async def kill(self, delay_s: float, connections: Connections, traffic: Traffic) -> None:
        """End the server, start it again after so long, and wait until all is as it was."""
        before = await subscriptions(self._watched.monitor)
        connections.back.clear()
        began_s = await self.restart(delay_s)
        await asyncio.gather(
            self.register(began_s),
            self._follow(began_s, traffic),
            self._connect(began_s, connections),
        )
        await becomes(before, lambda: subscriptions(self._watched.monitor))
        self.whole_s.append(now_s() - began_s)
        self.deaf += await connections.deaf(b"campaign.all")
        self.missing += len(self._clerks - await self._answering(self._client))

    async def restart(self, delay_s: float, *, loses: bool = False) -> float:
        """End the server and start it again; returns when its port was back."""
        server = self._watched.server
        began_s = now_s()
        await asyncio.to_thread(server.kill)
        self.ends_s.append((began_s, now_s()))
        if loses:
            await asyncio.to_thread(shutil.rmtree, server.store)
        await last(delay_s)
        await asyncio.to_thread(server.start)
        return now_s()

    async def register(self, began_s: float) -> None:
        """Wait until a newcomer reads the clerks from the registry, and each answers it."""
        async with Mesh(self._watched.server.url, mesh=MESH) as fresh:
            async with asyncio.timeout(PATIENCE_S):
                while await self._answering(fresh) != self._clerks:
                    await asyncio.sleep(0)
        self.registered_s.append(now_s() - began_s)

    async def _answering(self, mesh: Mesh) -> set[str]:
        payload = {"number": 0, "until_us": 2**60}
        survey = await mesh.survey("clerk", "look_up", payload, timeout_s=0.3)
        return set(survey.results) if not survey.silent else set()

    async def _follow(self, began_s: float, traffic: Traffic) -> None:
        """Wait until the bucket's follower hears of what is written now."""
        mark = b"%d" % len(self.followed_s)
        await traffic.put("mark", mark)
        await eventually(lambda: traffic.followed.get("mark") == mark, timeout_s=20)
        self.followed_s.append(now_s() - began_s)

    async def _connect(self, began_s: float, connections: Connections) -> None:
        wanted = len(connections.wires)
        await eventually(lambda: len(connections.back) == wanted, timeout_s=20)
        self.back_s += [max(0.0, at_s - began_s) for at_s in connections.back.values()]


@pytest.mark.fault("F4", "kill -9 nats-server under load, and start it again after some seconds")
@pytest.mark.parametrize(
    ("delays_s", "count"),
    [
        pytest.param((0, 1, 5), 50, id="short", marks=pytest.mark.slow),
        pytest.param((0, 5, 60, 0, 5, 0), 200, id="full", marks=pytest.mark.chaos),
    ],
)
async def test_a_killed_server(
    watched: Watched,
    client: Mesh,
    spawn: Spawn,
    connections: Connections,
    fault: Fault,
    seed: int,
    delays_s: tuple[float, ...],
    count: int,
) -> None:
    """What is confirmed is there, whoever was connected is again, whoever listened hears."""
    clerks = await spawn(client, 3)
    await connections.open(watched.server.url, count)
    outages = Outages(watched, client, clerks)
    traffic = Traffic(connections.wires[0])
    async with traffic, Load(client, seed, ("look_up", "book")) as load:
        await load.wait_answers(300)
        assert await surplus(followers(4) + 1, watched.monitor, timeout_s=20) == 0  # and the bucket
        for delay_s in delays_s:
            await outages.kill(delay_s, connections, traffic)
            await load.wait_answers(300)
        await load.stop()
        await traffic.rest()
    stored = await traffic.stored()
    more = await surplus(followers(4), watched.monitor, timeout_s=20)
    back_s = sorted(outages.back_s)
    under_way, others = traffic.lost(outages.ends_s)
    assert {outcome.code for outcome in load.failed()} <= CODES
    fault.report(
        *load.figures(),
        Figure("connections back, p99", back_s[ceil(0.99 * len(back_s)) - 1], "s", at_most=BACK_S),
        Figure(
            "all agents found and answering after", max(outages.registered_s), "s", at_most=RIGHT_S
        ),
        Figure("the bucket followed again after", max(outages.followed_s), "s", at_most=RIGHT_S),
        Figure("every subscription back after", max(outages.whole_s), "s", at_most=RIGHT_S),
        Figure("agents that answer no more", outages.missing, at_most=0),
        Figure("connections that hear nothing", outages.deaf, at_most=0),
        Figure("confirmed appends", len(traffic.acked)),
        Figure("confirmed appends that were lost", len(traffic.acked - set(stored)), at_most=0),
        Figure("appends stored twice", len(stored) - len(set(stored)), at_most=0),
        Figure("events lost of those under way", under_way),
        Figure("events lost of the others", others, at_most=0),
        Figure("consumers too many", more, at_most=0),
    )


@pytest.mark.slow
@pytest.mark.fault("F4", "kill -9 nats-server, and start it again without what it had stored")
async def test_a_server_that_has_lost_its_store(
    watched: Watched,
    client: Mesh,
    spawn: Spawn,
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
    seed: int,
) -> None:
    """The agents that are there write themselves into the registry again; the log says why."""
    clerks = await spawn(client, 3)
    outages = Outages(watched, client, clerks)
    async with Load(client, seed, ("look_up", "book")) as load:
        await load.wait_answers(300)
        await outages.register(await outages.restart(1, loses=True))
        await load.wait_answers(300)
        await load.stop()
    assert "the link to the server is lost; trying again until it is back" in caplog.messages
    fault.report(
        *load.figures(),
        Figure(
            "all agents found and answering after", outages.registered_s[0], "s", at_most=RIGHT_S
        ),
    )
