"""Wires of both kinds, and nats-py as the oracle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import nats
import pytest
from nats.aio.client import Client

from agent99.clock import SystemClock
from agent99.ids import SeededIds, SystemIds
from agent99.testing import MakeWire
from agent99.wire import MemoryBroker, NatsWire, Wire, WireOptions, open_wire
from tests._nats_server import NatsServer

OpenWire = Callable[..., Awaitable[NatsWire]]


@pytest.fixture
async def connect() -> AsyncIterator[OpenWire]:
    """Give `connect(url, sender=…, options=…)`: wires that are closed at the end."""
    opened: list[NatsWire] = []

    async def open_one(
        url: str, *, sender: bytes = b"tester", options: WireOptions | None = None
    ) -> NatsWire:
        wire = await open_wire(
            url, sender=sender, clock=SystemClock(), ids=SystemIds(), options=options
        )
        opened.append(wire)
        return wire

    yield open_one
    for wire in opened:
        await wire.aclose()


@pytest.fixture
async def wire(connect: OpenWire, nats_server: NatsServer) -> NatsWire:
    """Give a wire of our own to the shared server."""
    return await connect(nats_server.url)


@pytest.fixture
async def oracle(nats_server: NatsServer) -> AsyncIterator[Client]:
    """Give nats-py's client of the same server: the oracle."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest.fixture
def subject() -> bytes:
    """Give a subject that no other test uses."""
    return b"t" + SystemIds().token()


@pytest.fixture(params=["memory", "server"])
def make_wire(request: pytest.FixtureRequest) -> MakeWire:
    """Give `make(sender)` for the contract suite, once for each implementation."""
    if request.param == "memory":
        broker = MemoryBroker(ids=SeededIds(1), clock=SystemClock())

        async def make_memory(sender: bytes) -> Wire:
            return broker.connect(sender)

        return make_memory
    url = request.getfixturevalue("nats_server").url

    async def make_real(sender: bytes) -> Wire:
        return await open_wire(url, sender=sender, clock=SystemClock(), ids=SystemIds())

    return make_real
