"""Fulfilment and notification are killed again and again: nobody is told twice, or not at all."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent99 import Mesh, Settings
from agent99.clock import SystemClock
from agent99.ids import SystemIds
from agent99.systems.shop import read_event
from agent99.systems.shop._aftercare import channels
from agent99.systems.shop._delivery import OrderShipments
from agent99.systems.shop._ground import read_log
from agent99.systems.shop._model import Notify, Ship
from agent99.systems.shop._opening import open_messages
from agent99.systems.shop._provider import PretendProvider
from agent99.systems.shop._settings import settings_on
from tests._nats_server import NatsServer
from tests.systems.shop._shop import an_id, order_of

ROOT = Path(__file__).parents[3]
MESSAGES, SHIPMENTS, KILLS = 60, 20, 6
HOLD_S = 4.0
ORDER = order_of((an_id("tea"), 1, "1.10"))


@asynccontextmanager
async def living(*words: str) -> AsyncIterator[None]:
    """Give a process with both agents; killed in the end, by SIGKILL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.systems.shop._followers",
        *words,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert b"ready\n" == await process.stdout.readline()
        yield
    finally:
        process.kill()
        await process.communicate()


async def _post(mesh: Mesh) -> None:
    for number in range(MESSAGES):
        told = Notify("order_shipped", an_id(number), an_id(f"o{number}"), {"carrier": "Evri"})
        await mesh.post("notification", "request", told)
    for number in range(SHIPMENTS):
        ship = Ship(an_id(f"o{number}"), ORDER.items, ORDER.shipping_address, hold_s=HOLD_S)
        await mesh.post("fulfillment", "request", ship)


async def _is_done(mesh: Mesh) -> bool:
    if any(job.left for job in await mesh.ledger.jobs()):
        return False
    for number in range(SHIPMENTS):
        wanted = {"order_id": an_id(f"o{number}")}
        found = await mesh.request("fulfillment", "query", wanted, returns=OrderShipments)
        if [each.status for each in found.shipments] != ["shipped"]:
            return False
    return True


@pytest.mark.slow
async def test_a_provider_that_is_away_and_processes_that_are_killed(
    nats_server: NatsServer, tmp_path: Path, seed: int
) -> None:
    """0 lost and 0 twice, counted at the provider and in the log (E10); a hold leaves once (E8)."""
    luck, clock, ids = random.Random(seed), SystemClock(), SystemIds()
    database, name = f"sqlite:///{tmp_path}/shop.db", f"k{ids.token().decode()[:10]}"
    settings = Settings(project=tmp_path, state_folder=tmp_path, url=nats_server.url, mesh=name)
    store, messages = await open_messages(settings_on(database), clock, ids)
    pretend = messages.provider
    assert isinstance(pretend, PretendProvider)
    async with Mesh(settings=settings) as mesh, asyncio.timeout(120):
        await pretend.set_mode(None, "down")
        await _post(mesh)
        for life in range(KILLS):
            async with living(nats_server.url, name, database):
                if life == KILLS // 3:
                    await pretend.set_mode("sms", "mute")
                    await pretend.set_mode("email", "up")
                await clock.sleep(luck.uniform(0.0, 0.6))
        async with living(nats_server.url, name, database):
            while not await _is_done(mesh):
                await asyncio.sleep(0)
            topics: Counter[str] = Counter()
            while len(topics) < 3 or topics["notification.sent"] < MESSAGES:  # the relay is last
                events = {
                    e.id: e for e in [read_event(m) async for m in read_log(settings, clock, ids)]
                }
                topics = Counter(event.topic for event in events.values())
        view = await pretend.view()
        await store.aclose()
        assert [] == [record async for record in mesh.quarantine.records()]
    assert MESSAGES == view.sent
    by_text = sum(channels(an_id(number))[0] == "sms" for number in range(MESSAGES))
    assert view.calls > MESSAGES + by_text, "none was killed while the provider had a message"
    assert {
        "notification.sent": MESSAGES,
        "shipment.prepared": SHIPMENTS,
        "shipment.shipped": SHIPMENTS,
    } == topics
    told = {event.order_id for event in events.values() if event.topic == "notification.sent"}
    assert MESSAGES == len(told)
