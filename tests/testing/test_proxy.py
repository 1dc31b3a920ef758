"""The proxy that breaks links: each fault is what it says, and nothing else changes a byte."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from agent99.testing import ChaosProxy, ManualClock
from tests._wait import eventually


class Echo:
    """A server that says everything in capitals, and knows what it heard."""

    def __init__(self) -> None:
        self.port = 0
        self.heard = b""
        self.links = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer one client."""
        self.links += 1
        try:
            while data := await reader.read(100_000):
                self.heard += data
                writer.write(data.upper())
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self.links -= 1
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    """Give a running echo."""
    made = Echo()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await eventually(lambda: made.links == 0)


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[ChaosProxy]:
    """Give a proxy in front of the echo."""
    async with ChaosProxy(echo.port) as made:
        yield made


@asynccontextmanager
async def dialled(proxy: ChaosProxy) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Give a client's link to the proxy."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def connect(proxy: ChaosProxy) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Give a client's link through the proxy, once it is there."""
    before = proxy.links
    async with dialled(proxy) as link:
        await eventually(lambda: proxy.links > before)
        yield link


async def said_before_the_end(reader: StreamReader) -> bytes:
    """Return what still comes; a hang-up may reach us as an end or as a reset."""
    with suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(), 5)
    return b""


async def test_without_faults_every_byte_arrives(proxy: ChaosProxy) -> None:
    """Both ways, however much, and it is counted."""
    sent = bytes(range(97, 123)) * 40_000
    async with connect(proxy) as (reader, writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.readexactly(len(sent)), 10) == sent.upper()
    assert proxy.bytes == {"to_client": len(sent), "to_server": len(sent)}
    await eventually(lambda: proxy.links == 0)


async def test_what_is_stalled_comes_later(echo: Echo, proxy: ChaosProxy) -> None:
    """One way alone can stall; nothing is lost by it."""
    async with connect(proxy) as (reader, writer):
        proxy.stall("to_client")
        writer.write(b"abc")
        await eventually(lambda: echo.heard == b"abc")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(9), 0.05)
        proxy.heal()
        assert await asyncio.wait_for(reader.readexactly(3), 5) == b"ABC"


async def test_what_is_lost_never_comes(echo: Echo, proxy: ChaosProxy) -> None:
    """The link looks alive, and what was sent meanwhile is gone."""
    async with connect(proxy) as (reader, writer):
        proxy.lose("to_server")
        writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(9), 0.05)
        proxy.heal()
        writer.write(b"abc")
        assert await asyncio.wait_for(reader.readexactly(3), 5) == b"ABC"
    assert echo.heard == b"abc"


async def test_a_link_is_cut_in_the_middle(proxy: ChaosProxy) -> None:
    """So many bytes arrive, then the end; the next link is whole."""
    async with connect(proxy) as (reader, writer):
        proxy.cut_after(5, "to_client")
        writer.write(b"abc")
        assert await asyncio.wait_for(reader.readexactly(3), 5) == b"ABC"
        writer.write(b"defgh")
        assert await said_before_the_end(reader) == b"DE"
        await eventually(lambda: proxy.links == 0)
    async with connect(proxy) as (reader, writer):
        writer.write(b"abcdefgh")
        assert await asyncio.wait_for(reader.readexactly(8), 5) == b"ABCDEFGH"


async def test_bytes_that_nobody_sent(proxy: ChaosProxy) -> None:
    """They come as if the other side had said them."""
    async with connect(proxy) as (reader, _):
        proxy.inject(b"boo", "to_client")
        assert await asyncio.wait_for(reader.readexactly(3), 5) == b"boo"


async def test_a_reset_is_a_reset_on_both_sides(echo: Echo, proxy: ChaosProxy) -> None:
    """No goodbye for the client, none for the server, and a new link can be made."""
    async with connect(proxy) as (reader, _):
        await eventually(lambda: echo.links == 1)
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(9), 5)
        await eventually(lambda: echo.links == proxy.links == 0)
    async with connect(proxy):
        assert proxy.links == 1


async def test_who_is_refused_is_hung_up_on(echo: Echo, proxy: ChaosProxy) -> None:
    """At once, and the server hears nothing of it."""
    proxy.refuses = True
    async with dialled(proxy) as (reader, _):
        assert await said_before_the_end(reader) == b""
    assert proxy.links == echo.links == 0


async def test_a_server_that_is_away_looks_so() -> None:
    """Who connects is hung up on, and the proxy lives on."""
    async with ChaosProxy(1) as nowhere:
        for _ in range(2):
            async with dialled(nowhere) as (reader, _writer):
                assert await said_before_the_end(reader) == b""


async def test_a_delay_is_waited_by_the_clock(echo: Echo) -> None:
    """Each piece waits, both ways; time that does not pass lets nothing through."""
    clock = ManualClock()
    async with ChaosProxy(echo.port, clock=clock) as proxy, connect(proxy) as (reader, writer):
        proxy.delay_s = 2.0
        writer.write(b"abc")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(9), 0.05)
        assert echo.heard == b""
        await clock.advance(2.0)
        await eventually(lambda: echo.heard == b"abc")
        proxy.delay_s = 0.0
        writer.write(b"d")
        await eventually(lambda: echo.heard == b"abcd")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(9), 0.05)
        await clock.advance(2.0)
        assert await asyncio.wait_for(reader.readexactly(4), 5) == b"ABCD"
