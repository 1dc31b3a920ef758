"""Journals of both kinds, each in a world of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import nats
import pytest
from nats.aio.client import Client

from agent99.clock import SystemClock
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal, MemoryJournal
from agent99.testing import JournalWorld, MakeJournal, ManualClock
from agent99.wire import NatsWire, open_wire
from tests._nats_server import NatsServer

_ids = SystemIds()


def fresh_name() -> str:
    """Return a name that no other test uses."""
    return f"t{_ids.token()[:12].decode()}"


async def connect(url: str) -> NatsWire:
    """Return a wire of our own to the server."""
    return await open_wire(url, sender=_ids.token(), clock=SystemClock(), ids=_ids)


def _memory_world() -> AbstractAsyncContextManager[JournalWorld]:
    @asynccontextmanager
    async def make() -> AsyncIterator[JournalWorld]:
        clock = ManualClock()
        journal = MemoryJournal(clock=clock)
        yield JournalWorld(journal, journal, clock.advance, fresh_name())

    return make()


def _server_world(url: str) -> AbstractAsyncContextManager[JournalWorld]:
    @asynccontextmanager
    async def make() -> AsyncIterator[JournalWorld]:
        one, two = await connect(url), await connect(url)
        name = fresh_name()
        journal = JetStreamJournal(one)
        try:
            yield JournalWorld(journal, JetStreamJournal(two), asyncio.sleep, name)
            await journal.delete_stream(name)
            await journal.delete_stream(f"KV_{name}")
        finally:
            await one.aclose()
            await two.aclose()

    return make()


@pytest.fixture(params=["memory", "server"])
def make_journal(request: pytest.FixtureRequest) -> MakeJournal:
    """Give `make()` for the contract suite, once for each implementation."""
    if request.param == "memory":
        return _memory_world
    url = request.getfixturevalue("nats_server").url
    return lambda: _server_world(url)


@pytest.fixture
async def wire(nats_server: NatsServer) -> AsyncIterator[NatsWire]:
    """Give a wire of our own to the shared server."""
    opened = await connect(nats_server.url)
    yield opened
    await opened.aclose()


@pytest.fixture
async def oracle(nats_server: NatsServer) -> AsyncIterator[Client]:
    """Give nats-py's client of the same server: the oracle."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest.fixture
def name() -> str:
    """Give a name that no other test uses."""
    return fresh_name()
