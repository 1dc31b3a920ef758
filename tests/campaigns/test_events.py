"""Events while publishers, buses, readers and the server are killed: each once, in order (V1)."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99 import Mesh
from agent99.groups import read_events
from agent99.ids import SystemIds
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests.campaigns._crew import Crew, Effect, out_of_order, twice
from tests.campaigns._events import FAULTS, acknowledged, id_of
from tests.campaigns._load import last

ROLES = ("publisher", "appender", "bus", "bus", "reader", "reader", "subscriber")
PUBLISHERS = ("publisher", "appender")
READERS = ("group", "shipping")
QUIET_S = 20.0
"""So long after the last effect nothing more is waited for."""
SETTLED_S_MAX = 60.0
"""So long what is stored may take until it has its effect, once nothing is killed any more."""
SECONDS = [
    pytest.param(6, id="short", marks=pytest.mark.slow),
    pytest.param(60, id="full", marks=pytest.mark.chaos),
]


class Found(msgspec.Struct):
    """What there is at last."""

    acked: set[str]
    logged: list[str]
    """Ids, in the order of the log."""
    effects: list[Effect]
    settled_s: float
    """From the last kill until everything had its effect."""


class Campaign:
    """A crew and a server, one of them killed again and again."""

    def __init__(self, server: NatsServer, folder: Path, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self._server, self._folder = server, folder
        self._luck = random.Random(seed)
        self._mesh_name = f"c{SystemIds().token().decode()[:10]}"

    async def run(
        self,
        seconds: float,
        victims: tuple[str, ...],
        fault: str = "none",
        quiet_s: float = QUIET_S,
    ) -> Found:
        """Kill for so long, then let everything come to its end; return what there is."""
        crew = Crew(self._server.url, self._mesh_name, self._folder, fault)
        async with crew, Mesh(self._server.url, mesh=self._mesh_name) as mesh:
            await crew.start("bus")
            wanted = {"event_type": "order.*", "subscriber": "shipping", "start": "first"}
            await mesh.request("event_bus", "subscribe", wanted)
            await crew.start(*(role for role in ROLES[::-1] if role != "bus"), "bus")
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                await last(self._luck.uniform(0.1, 0.8))
                await self._kill_one(crew, victims)
            await crew.kill(*crew.pids(*PUBLISHERS))
            return await self._settle(crew, mesh, quiet_s)

    async def _kill_one(self, crew: Crew, victims: tuple[str, ...]) -> None:
        victim = self._luck.choice(victims)
        self.kills[victim] += 1
        if victim != "server":
            await crew.kill(self._luck.choice(crew.pids(victim)))
            await crew.start(victim)
            return
        await asyncio.to_thread(self._server.kill)
        await last(self._luck.choice((0.0, 0.5)))
        await asyncio.to_thread(self._server.start)

    async def _settle(self, crew: Crew, mesh: Mesh, quiet_s: float) -> Found:
        began_s = latest_s = time.monotonic()
        effects: list[Effect] = []
        while True:
            logged = [event.id async for event in read_events(mesh, "order.*")]
            wanted = {(reader, event_id) for reader in READERS for event_id in logged}
            before, effects = effects, await crew.effects()
            if len(effects) > len(before):
                latest_s = time.monotonic()
            is_done = wanted <= {(one.reader, one.id) for one in effects}
            if is_done or time.monotonic() - latest_s > quiet_s:
                break
            await last(0.2)
        settled_s = time.monotonic() - began_s
        acked = {
            id_of(role, key, number)
            for role in PUBLISHERS
            for key, number in acknowledged(self._folder, role)
        }
        return Found(acked, logged, effects, settled_s)


def findings(found: Found) -> dict[str, set[str]]:
    """Return what is wrong, in words, and the events for which it is."""
    logged = [Effect("", event_id, 0, 0, 0) for event_id in found.logged]
    wrong = {
        "acknowledged, and not stored": found.acked - set(found.logged),
        "stored twice": twice(found.logged),
        "stored out of order": out_of_order(logged),
    }
    for reader in READERS:
        effects = [each for each in found.effects if each.reader == reader]
        ids = [each.id for each in effects]
        wrong |= {
            f"stored, and without an effect: {reader}": set(found.logged) - set(ids),
            f"two effects: {reader}": twice(ids),
            f"an effect of nothing: {reader}": set(ids) - set(found.logged),
            f"out of order: {reader}": out_of_order(effects),
        }
    return wrong


@pytest.mark.fault("V1", "kill -9 publishers, buses, readers, a subscriber and the server")
@pytest.mark.parametrize("seconds", SECONDS)
async def test_what_is_acknowledged_is_an_event_once(
    start_nats_server: Callable[..., NatsServer],
    tmp_path: Path,
    fault: Fault,
    seed: int,
    seconds: int,
) -> None:
    """Whoever is killed: an acknowledged event is stored once and has one effect, in order."""
    campaign = Campaign(start_nats_server(), tmp_path, seed)
    found = await campaign.run(seconds, (*ROLES, "server", "server"))
    kills: list[Any] = sorted(campaign.kills.items())
    fault.report(
        *(Figure(f"kills: {role}", count) for role, count in kills),
        Figure("kills", campaign.kills.total(), at_least=2),
        Figure("acknowledged", len(found.acked), at_least=100),
        Figure("stored, and not acknowledged", len(set(found.logged) - found.acked)),
        Figure("all have their effects after", found.settled_s, "s", at_most=SETTLED_S_MAX),
        *(Figure(what, len(events), at_most=0) for what, events in findings(found).items()),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("planted", "expected"), FAULTS.items())
async def test_planted_faults_are_found(
    start_nats_server: Callable[..., NatsServer],
    tmp_path: Path,
    seed: int,
    planted: str,
    expected: str,
) -> None:
    """The campaign can fail: what a reader forgets, or does twice, is found."""
    for turn in range(3):
        folder = tmp_path / str(turn)
        folder.mkdir()
        campaign = Campaign(start_nats_server(), folder, seed + turn)
        found = findings(await campaign.run(4, ("reader",), planted, quiet_s=3))
        if found[expected]:
            return
    pytest.fail(f"nobody noticed: {planted}; found at last: {found}")
