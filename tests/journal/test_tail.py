"""What a tail on a real server does when things break: it goes on, in order, each record once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
from nats.aio.client import Client

from agent99.errors import StreamNotFoundError
from agent99.journal import JetStreamJournal, StreamConfig, Tail
from agent99.testing import ChaosProxy
from agent99.wire import NatsWire
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually
from tests.journal.conftest import connect

StartNatsServer = Callable[..., NatsServer]


@asynccontextmanager
async def _journal(url: str, **options: float) -> AsyncIterator[JetStreamJournal]:
    async with aclosing(await connect(url)) as wire:
        yield JetStreamJournal(wire, **options)


async def _append(journal: JetStreamJournal, name: str, count: int) -> None:
    await journal.ensure_stream(StreamConfig(name=name, subjects=(f"{name}.>",)))
    await asyncio.gather(*(journal.append(f"{name}.a", b"x") for _ in range(count)))


async def _sequences(tail: Tail, count: int) -> list[int]:
    seen: list[int] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(seen) < count:
            seen += [record.sequence for record in await tail.read(count - len(seen))]
    return seen


async def test_a_link_that_breaks(nats_server: NatsServer, wire: NatsWire, name: str) -> None:
    """After a reset a tail goes on behind the last record that came."""
    journal = JetStreamJournal(wire)
    await _append(journal, name, 3)
    async with (
        ChaosProxy(nats_server.port) as proxy,
        _journal(f"nats://127.0.0.1:{proxy.port}") as behind,
        behind.tail(name) as tail,
    ):
        assert [1, 2] == await _sequences(tail, 2)
        proxy.reset()
        await _append(journal, name, 2)
        assert [3, 4, 5] == await _sequences(tail, 3)


async def test_a_link_that_is_dead(nats_server: NatsServer, wire: NatsWire, name: str) -> None:
    """Records that get lost on the way are missed, and asked for again."""
    journal = JetStreamJournal(wire)
    await _append(journal, name, 1)
    async with (
        ChaosProxy(nats_server.port) as proxy,
        _journal(f"nats://127.0.0.1:{proxy.port}", heartbeat_s=0.2) as behind,
        behind.tail(name) as tail,
    ):
        assert [1] == await _sequences(tail, 1)
        proxy.lose("to_client")
        await _append(journal, name, 2)
        reading = asyncio.ensure_future(_sequences(tail, 2))
        await eventually(lambda: "reading" not in repr(tail))
        proxy.heal()
        proxy.reset()
        assert [2, 3] == await reading


async def test_a_consumer_that_is_gone(
    nats_server: NatsServer, wire: NatsWire, oracle: Client, name: str
) -> None:
    """When the server lost its consumer, a tail makes another one."""
    journal = JetStreamJournal(wire)
    await _append(journal, name, 2)
    async with journal.tail(name, prefetch_max=1) as tail:
        assert [1] == await _sequences(tail, 1)
        for info in await oracle.jetstream().consumers_info(name):
            await oracle.jetstream().delete_consumer(name, info.name)
        await _append(journal, name, 2)
        assert [2, 3, 4] == await _sequences(tail, 3)


async def test_leaves_no_consumer(wire: NatsWire, oracle: Client, name: str) -> None:
    """What has ended leaves nothing on the server."""
    journal = JetStreamJournal(wire)
    await _append(journal, name, 1)
    async with journal.tail(name) as tail:
        await _sequences(tail, 1)
    await wire.flush()
    assert [] == await oracle.jetstream().consumers_info(name)


@pytest.mark.may_block("the server is killed and started here")
async def test_a_server_that_is_killed(start_nats_server: StartNatsServer, name: str) -> None:
    """Across a kill -9 of the server each record comes once, in order."""
    server = start_nats_server()
    async with _journal(server.url) as journal:
        await _append(journal, name, 10)
        async with journal.tail(name, prefetch_max=4) as tail:
            assert [1, 2, 3] == await _sequences(tail, 3)
            server.restart()
            await _append(journal, name, 5)
            assert list(range(4, 16)) == await _sequences(tail, 12)


async def test_a_stream_that_is_gone(nats_server: NatsServer, name: str) -> None:
    """A stream that does not come back is an error, and not a wait for ever."""
    async with _journal(nats_server.url, timeout_s=0.5, heartbeat_s=0.2) as journal:
        await _append(journal, name, 1)
        async with journal.tail(name) as tail:
            assert [1] == await _sequences(tail, 1)
            await journal.delete_stream(name)
            with pytest.raises(StreamNotFoundError):
                await _sequences(tail, 1)
