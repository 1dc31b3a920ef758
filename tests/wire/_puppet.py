"""A server that says what a test tells it to, for what no real server does on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests._wait import eventually

INFO = b'INFO {"version":"2.15.1","max_payload":1048576,"headers":true}\r\n'


class Puppet:
    """Accepts connections, answers CONNECT and PING, and notes what it hears.

    Invariant: `links` has the open connections, the newest last.
    """

    def __init__(self, *, greeting: bytes = INFO) -> None:
        self.greeting = greeting
        """The first bytes on a connection."""
        self.answers_pings = True
        self.pongs_left = 1_000_000
        """So many PINGs are answered, no more."""
        self.heard = b""
        self.connections = 0
        self.links: list[asyncio.StreamWriter] = []
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"nats://127.0.0.1:{self.port}"

    def say(self, words: bytes) -> None:
        """Send bytes on the newest connection."""
        self.links[-1].write(words)

    def hang_up(self) -> None:
        """Close the newest connection."""
        self.links.pop().close()

    async def wait_heard(self, words: bytes) -> None:
        """Wait until a client has said these bytes."""
        await eventually(lambda: words in self.heard)

    async def wait_connection(self, number: int) -> None:
        """Wait until the n-th connection was made."""
        await eventually(lambda: self.connections >= number)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handle one connection."""
        self.connections += 1
        self.links.append(writer)
        writer.write(self.greeting)
        try:
            while data := await reader.read(65_536):
                self.heard += data
                if self.answers_pings:
                    pongs = min(self.pongs_left, data.count(b"PING\r\n"))
                    self.pongs_left -= pongs
                    writer.write(b"PONG\r\n" * pongs)
        except ConnectionError:
            pass
        finally:
            if writer in self.links:
                self.links.remove(writer)
            writer.close()


@asynccontextmanager
async def puppet(*, greeting: bytes = INFO) -> AsyncIterator[Puppet]:
    """Run a puppet on a free port."""
    it = Puppet(greeting=greeting)
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        for writer in tuple(it.links):
            writer.close()
        await server.wait_closed()
        await eventually(lambda: not it.links)
