"""A publish that is repeated too late for the server to know it: stored twice, done once (V6)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from agent99 import Mesh
from agent99.groups import Event, EventGroup, EventOptions, read_events, reset_group
from agent99.journal import StreamConfig
from agent99.store import Migration, Store, Transaction, open_store
from agent99.systems.events import EventBusAgent
from tests._wait import PATIENCE_S, eventually
from tests.systems.events.test_bus import number_of, publish

WINDOW_S = 0.2
TABLES = (Migration(1, "effects", ("CREATE TABLE effect (id TEXT NOT NULL)",)),)
OPTIONS = EventOptions(commit_s=0.05)


class Till:
    """Handles events, each with one effect in a store."""

    def __init__(self, store: Store) -> None:
        self.handled = 0
        self._store = store

    async def handle(self, event: Event) -> None:
        """Have the effect, if it has none yet."""

        def work(transaction: Transaction) -> None:
            if event.is_new(transaction):
                transaction.execute("INSERT INTO effect VALUES (:id)", {"id": event.id})

        await self._store.transaction(work)
        self.handled += 1

    async def effects(self) -> list[str]:
        """Return the ids of the events that have had theirs, in that order."""
        return await self._store.read(lambda t: t.execute("SELECT id FROM effect").scalars())


async def stored(mesh: Mesh) -> list[tuple[str, int]]:
    """Return the ids and numbers of what the log holds."""
    return [(one.id, number_of(one.as_cloud_event())) async for one in read_events(mesh)]


async def shorten_window(mesh: Mesh) -> None:
    """Have the server forget soon which ids it has stored; whoever starts makes it longer again."""
    link = mesh.link
    (log,) = await link.journal.streams(link.durable.streams.log)
    config: StreamConfig = log.config
    short: Any = msgspec.structs.replace(config, duplicate_window_s=WINDOW_S)
    await link.journal.ensure_stream(short)


@pytest.mark.parametrize("way", ["bus", "log"])
async def test_a_publish_that_is_repeated_late(mesh: Mesh, url: str, way: str) -> None:
    """It is stored once more, and takes effect once; so it does after the group was reset."""

    async def put(number: int, event_id: str) -> None:
        if way == "bus":
            await publish(mesh, number, id=event_id)
        else:
            event = {"number": number}
            await mesh.append("order.placed", event, key="7", event_id=event_id)

    await mesh.host(EventBusAgent())
    async with open_store(url, migrations=TABLES) as store:
        till = Till(store)
        async with EventGroup(mesh, "till", [">"], till.handle, store=store, options=OPTIONS):
            await put(0, "a")
            await put(0, "a")
            assert [("a", 0)] == await stored(mesh), "within the window it is one"
            await shorten_window(mesh)
            await put(1, "b")
            async with asyncio.timeout(PATIENCE_S):
                while len(await stored(mesh)) < 3:
                    await put(1, "b")
            await put(2, "c")
            assert [("a", 0), ("b", 1), ("b", 1), ("c", 2)] == await stored(mesh)
            await eventually(lambda: till.handled == 4)
            assert ["a", "b", "c"] == await till.effects()
            await reset_group(mesh, "till", "first")
            await put(3, "d")
            await eventually(lambda: till.handled == 9)
            assert ["a", "b", "c", "d"] == await till.effects()
