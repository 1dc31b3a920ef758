"""The process with the read model is killed again and again: it misses nothing."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from agent99 import Mesh, Settings
from agent99.clock import SystemClock
from agent99.errors import RequestError
from agent99.ids import SystemIds
from agent99.systems.shop._events import (
    REFUNDED,
    SHIPMENT_CANCELLED,
    SHIPPED,
    TOLD,
    CustomerTold,
    OrderMoved,
    OrderRefunded,
    OrderShipped,
    ShipmentCancelled,
    Told,
    order_topic,
)
from agent99.systems.shop._history_model import HistoryDigest, Rebuild, Rebuilt, digest_of, fold_all
from tests._nats_server import NatsServer
from tests.systems.shop._shop import an_id
from tests.systems.shop._told import WAYS, story_of
from tests.systems.shop.test_killed import living

ORDERS, KILLS = 60, 4


def _topic(told: Told) -> str:
    match told:
        case OrderMoved():
            return order_topic(told.state)
        case OrderRefunded():
            return REFUNDED
        case OrderShipped():
            return SHIPPED
        case ShipmentCancelled():
            return SHIPMENT_CANCELLED
        case CustomerTold():
            return TOLD
        case _:
            return "shipment.prepared"


async def _tell(mesh: Mesh, story: list[Told], luck: random.Random) -> None:
    """Tell of an order, and of some of it again."""
    for told in [*story, *luck.choices(story, k=3)]:
        await mesh.append(_topic(told), told, key=str(told.order_id))


@pytest.mark.slow
async def test_a_read_model_that_is_killed_has_the_hash_of_the_log(
    nats_server: NatsServer, tmp_path: Path, seed: int
) -> None:
    """Killed while it hears and while it is made anew: kept and made anew have one hash (E11)."""
    luck, clock = random.Random(seed), SystemClock()
    name = f"h{SystemIds().token().decode()[:10]}"
    settings = Settings(project=tmp_path, state_folder=tmp_path, url=nats_server.url, mesh=name)
    words = nats_server.url, name, f"sqlite:///{tmp_path}/shop.db"
    stories = {number: story_of(number, luck.choice(WAYS)) for number in range(ORDERS)}
    wanted = digest_of(fold_all(an_id(number), story) for number, story in stories.items())
    async with Mesh(settings=settings) as mesh, asyncio.timeout(120):
        for life in range(KILLS):
            async with living(*words):
                some = list(stories.values())[life::KILLS]
                telling = asyncio.gather(*(_tell(mesh, story, luck) for story in some))
                asking = asyncio.ensure_future(_rebuilt(mesh))
                await clock.sleep(luck.uniform(0.0, 0.2))
            await telling
            asking.cancel()
            await asyncio.wait([asking])
        async with living(*words):
            rebuilt = await _rebuilt(mesh)
            digest = await mesh.request("order_history", "digest", returns=HistoryDigest)
        assert [] == [record async for record in mesh.quarantine.records()]
    assert rebuilt.identical
    assert (wanted, wanted) == (rebuilt.before.hash, digest.hash)
    assert sum(len(story) + 3 for story in stories.values()) == rebuilt.events


async def _rebuilt(mesh: Mesh) -> Rebuilt:
    """Have the model made anew by whoever lives; ask again until somebody does it."""
    while True:
        try:
            return await mesh.request(
                "order_history", "rebuild", Rebuild(20.0), returns=Rebuilt, timeout_s=30.0
            )
        except RequestError:
            await asyncio.sleep(0)
