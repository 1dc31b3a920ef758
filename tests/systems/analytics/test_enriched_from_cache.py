"""Records get what the mesh's cache knows, and wait for it where it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99 import Mesh
from agent99.errors import Agent99Error, RequestError
from agent99.ids import SystemIds
from agent99.systems.analytics import (
    DataIngestionAgent,
    Enrichment,
    FromCache,
    Ingested,
    IngestionOptions,
    IngestionStats,
    Producer,
    ProducerOptions,
    Source,
)
from agent99.systems.cache import CacheNodeAgent
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually
from tests.groups.conftest import OpenMesh
from tests.systems.analytics._goods import GOODS, Bought, bought, by_number, category
from tests.systems.analytics._lines import batches_of
from tests.systems.analytics._sales import START_US
from tests.systems.cache._crew import Crew

MEMORY_BYTES = 16 * 1024**2
NEAR_S = 600.0
CODES = ("tea", "cup", "pot")
SENT = 200
"""Records that are stored from one event to the next, at least."""


class Product(msgspec.Struct, frozen=True):
    """What the cache has of a code."""

    category: str
    points: int
    price: float = 0.0


@asynccontextmanager
async def node(open_mesh: OpenMesh) -> AsyncIterator[None]:
    """Have a node of the cache, in what is as a process of its own."""
    mesh = await open_mesh()
    await mesh.host(CacheNodeAgent(memory_bytes=MEMORY_BYTES))
    try:
        yield
    finally:
        await mesh.aclose()


async def host(mesh: Mesh, *enrichments: Enrichment) -> None:
    """Host an ingestion of goods."""
    options = IngestionOptions(linger_s=0.0)
    sources = dict.fromkeys(one.source for one in enrichments)
    await mesh.host(DataIngestionAgent(sources, options=options, enrichments=enrichments))


async def ingest(mesh: Mesh, data: Any) -> Ingested:
    """Send a record, or an array of them."""
    how: dict[str, Any] = {"returns": Ingested, "timeout_s": PATIENCE_S}
    return await mesh.request("data_ingestion", "ingest", {"data": data}, **how)


async def stats_of(mesh: Mesh) -> IngestionStats:
    """Return what the one instance did."""
    return await mesh.request("data_ingestion", "stats", {}, returns=IngestionStats)


async def test_records_get_what_the_cache_has(mesh: Mesh, open_mesh: OpenMesh) -> None:
    """Of a Struct its fields; of one column the value alone; what is not there is missed."""
    async with node(open_mesh):
        products = await mesh.cache("products", Product)
        await products.set_many({"tea": Product("drink", 3), "cup": Product("china", 5)})
        both = category(FromCache("products"), "category", "points")
        await host(mesh, both)
        rows = [bought(n, code) for n, code in enumerate(["tea", "cup", "pot", "", "x" * 1_025])]
        await ingest(mesh, [*rows, bought(9, None)])
        batches = await batches_of(mesh, GOODS)
        assert ["drink", "china", None, None, None, None] == list(by_number(batches).values())
        assert [3, 5, 0, 0, 0, 0] == list(by_number(batches, "points").values())
        stats = await stats_of(mesh)
        assert (1, 4, 8, 0) == (stats.lookups, stats.enriched, stats.missed, stats.misfit)


class Scan(msgspec.Struct, frozen=True):
    """A record whose key is a number."""

    at_us: int
    number: int
    item: int
    category: str = "unknown"


async def test_a_key_may_be_a_number_and_a_value_a_text(mesh: Mesh, open_mesh: OpenMesh) -> None:
    """In the cache the key is its digits; of what is no text the record has the default."""
    scans = Source("scans", Scan, time="at_us")
    async with node(open_mesh):
        names = await mesh.cache("names")
        for item, name in {"-1": "bag", "7": b"tea", "8": 5, "9": {"category": "pot"}}.items():
            await names.set(item, name)
        await host(mesh, Enrichment(scans, "item", ("category",), FromCache("names", near_s=None)))
        items = (-1, 7, 8, 9, 10)
        await ingest(mesh, [{"at_us": START_US, "number": n, "item": n} for n in items])
        found = by_number(await batches_of(mesh, scans))
    assert {-1: "bag", 7: "tea", 8: "unknown", 9: "pot", 10: "unknown"} == found


async def test_what_was_read_is_near_until_it_is_changed(mesh: Mesh, open_mesh: OpenMesh) -> None:
    """The second array asks nobody; once the product has another category, records get that."""
    async with node(open_mesh):
        products = await mesh.cache("products", Product)
        await products.set("tea", Product("drink", 3))
        await host(mesh, category(FromCache("products", near_s=NEAR_S)))
        near = await mesh.cache("products", near_s=NEAR_S)
        for number in range(3):
            await ingest(mesh, [bought(number), bought(number + 100)])
        statistics = near.near_statistics()
        assert statistics is not None
        assert (2, 1) == (statistics.hits, statistics.misses)
        await products.set("tea", Product("herbs", 3))
        await eventually(lambda: near.get_nowait("tea") is None)
        await ingest(mesh, [bought(3)])
        found = by_number(await batches_of(mesh, GOODS))
    assert dict.fromkeys([0, 1, 2, 100, 101, 102], "drink") | {3: "herbs"} == found


@pytest.mark.parametrize("otherwise", ["refuse", "leave"])
async def test_without_a_cache_records_are_refused_or_left(mesh: Mesh, otherwise: Any) -> None:
    """As the enrichment says; nobody waits for a node that is not there."""
    await host(mesh, category(FromCache("goods"), otherwise=otherwise, timeout_s=0.2))
    if otherwise == "refuse":
        with pytest.raises(RequestError) as refused:
            await ingest(mesh, [bought(1), bought(2)])
        assert ("NOT_ENRICHED", True) == (refused.value.code, refused.value.retryable)
    else:
        await ingest(mesh, [bought(1), bought(2)])
    expected = {} if otherwise == "refuse" else {1: None, 2: None}
    assert expected == by_number(await batches_of(mesh, GOODS))
    stats = await stats_of(mesh)
    assert (len(expected), 1) == (stats.left, stats.lookups)


@pytest.mark.slow
async def test_records_wait_while_the_cache_is_killed(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """Its only node is ended by kill -9 under load, and another comes: each record is stored once.

    None is stored without a category but those that were missed, while the new node had nothing.
    """
    url, name = nats_server.url, f"m{SystemIds().token().decode()[:8]}"
    async with Crew(url, name, tmp_path, 0) as crew, Mesh(url, mesh=name) as mesh:
        first = await crew.start("node")
        await fill(mesh)
        await host(mesh, category(FromCache("products", near_s=None), timeout_s=0.3))
        options = ProducerOptions(batch_records_max=20, buffer_records_max=200)
        async with Producer(mesh, GOODS, options=options) as producer:
            sending = asyncio.create_task(send(producer))
            await eventually(lambda: producer.statistics.stored > SENT)
            await first.kill()
            await eventually(lambda: producer.statistics.retries > 2)
            before = producer.statistics.stored
            await crew.start("node")
            await fill(mesh)
            await eventually(lambda: producer.statistics.stored > before + SENT)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        found = by_number(await batches_of(mesh, GOODS))
        assert producer.statistics.sent == len(found)
        stats = await stats_of(mesh)
    lacking = [number for number, value in found.items() if value is None]
    assert all(value in (f"of {code_of(n)}", None) for n, value in found.items())
    assert (len(found) - len(lacking), len(lacking)) == (stats.enriched, stats.missed)
    assert {"NOT_ENRICHED"} == stats.refused.keys()
    assert 0 == stats.left


def code_of(number: int) -> str:
    """Return the code of a record."""
    return CODES[number % len(CODES)]


async def fill(mesh: Mesh) -> None:
    """Have the products in the cache, as soon as there is one."""
    products = await mesh.cache("products")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await products.set_many({code: f"of {code}" for code in CODES})
            except Agent99Error:
                await asyncio.sleep(0)
            else:
                return


async def send(producer: Producer[Bought]) -> None:
    """Send records until it is cancelled."""
    number = 0
    while True:
        await producer.send(Bought(START_US + number, number, code_of(number)))
        number += 1
        await asyncio.sleep(0)
