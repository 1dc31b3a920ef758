"""A link that breaks as links do: between a client and a server, on purpose and on command."""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter
from typing import Final, Literal, Self

from agent99.clock import Clock, SystemClock

Way = Literal["to_client", "to_server"]
"""Which of the two directions of a link."""

_WAYS: Final[tuple[Way, Way]] = ("to_client", "to_server")
_CHUNK_BYTES: Final = 64 * 1024
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close is a reset


class ChaosProxy:
    """Passes bytes between clients and one server, and breaks the links as a test asks for.

    Use it as `async with`; clients connect to `port`. All faults act at once, on links that are
    there and on those to come, until `heal`.

    Invariant: the bytes of a link arrive unchanged and in order, up to the first that was lost or
    made up; after that the link is good for nothing but a `reset`.
    """

    def __init__(self, port: int, *, host: str = "127.0.0.1", clock: Clock | None = None) -> None:
        """Make a proxy that listens to nobody yet.

        Args:
            port: Of the server.
            host: Of the server, and where the proxy listens.
            clock: The source of time, for `delay_s`.
        """
        self.port = 0
        """Where clients find the proxy: a free port, taken on entering."""
        self.delay_s = 0.0
        """Seconds that each piece of a link waits, in both ways; pieces do not overtake."""
        self.refuses = False
        """Whether those who connect are hung up on at once."""
        self.bytes: dict[Way, int] = dict.fromkeys(_WAYS, 0)
        """Passed on so far."""
        self._target = (host, port)
        self._clock = clock or SystemClock()
        self._open: dict[Way, asyncio.Event] = {way: asyncio.Event() for way in _WAYS}
        self._loses: dict[Way, bool] = dict.fromkeys(_WAYS, False)
        self._left: dict[Way, int | None] = dict.fromkeys(_WAYS)
        self._links: set[_ProxiedLink] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.heal()

    def __repr__(self) -> str:
        return f"ChaosProxy({self._target[0]}:{self._target[1]}, links={len(self._links)})"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._take, self._target[0], 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Listen no more, reset every link."""
        if self._server is not None:
            self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def links(self) -> int:
        """How many clients are connected."""
        return len(self._links)

    # --- faults -----------------------------------------------------------------------------------

    def stall(self, *ways: Way) -> None:
        """Pass nothing on, and keep it: the link is slow without end. Both ways by default."""
        for way in ways or _WAYS:
            self._open[way].clear()

    def lose(self, *ways: Way) -> None:
        """Read and throw away: the far end is gone and nobody said so. Both ways by default."""
        for way in ways or _WAYS:
            self._loses[way] = True

    def cut_after(self, count: int, way: Way) -> None:
        """Pass so many more bytes that way, then hang up, in the middle of whatever it is."""
        self._left[way] = count

    def inject(self, data: bytes, way: Way) -> None:
        """Send what the other side never said, on every link."""
        for link in self._links:
            link.writers[way].write(data)

    def reset(self) -> None:
        """End every link as a crash does: no goodbye, unread bytes lost."""
        for link in tuple(self._links):
            link.reset()

    def heal(self) -> None:
        """Have no fault any more; links that lost bytes stay broken until `reset`."""
        self.delay_s, self.refuses = 0.0, False
        for way in _WAYS:
            self._open[way].set()
            self._loses[way], self._left[way] = False, None

    # --- inside -----------------------------------------------------------------------------------

    def _take(self, reader: StreamReader, writer: StreamWriter) -> None:
        # A task of our own: of those that asyncio makes 3.11 complains when they are cancelled.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:  # as a client without a proxy would see it: nobody is there
            writer.transport.abort()
            return
        link = _ProxiedLink(to_client=writer, to_server=far_writer)
        self._links.add(link)
        try:
            pumps = [
                asyncio.ensure_future(self._pump(far_reader, link, "to_client")),
                asyncio.ensure_future(self._pump(reader, link, "to_server")),
            ]
            await _until_one_ends(pumps)
        finally:
            self._links.discard(link)
            link.close()

    async def _pump(self, reader: StreamReader, link: _ProxiedLink, way: Way) -> None:
        writer = link.writers[way]
        while data := await reader.read(_CHUNK_BYTES):
            if self.delay_s > 0:
                await self._clock.sleep(self.delay_s)
            await self._open[way].wait()
            if self._loses[way]:
                continue
            left = self._left[way]
            if left is not None:
                self._left[way] = left - len(data)
                data = data[:left]
            writer.write(data)
            self.bytes[way] += len(data)
            await writer.drain()
            if left is not None and len(data) >= left:
                self._left[way] = None
                return


class _ProxiedLink:
    """The two ends of one client's link."""

    def __init__(self, *, to_client: StreamWriter, to_server: StreamWriter) -> None:
        self.writers: dict[Way, StreamWriter] = {"to_client": to_client, "to_server": to_server}

    def __repr__(self) -> str:
        return f"_ProxiedLink({self.writers['to_client'].get_extra_info('peername')})"

    def reset(self) -> None:
        for writer in self.writers.values():
            end: socket.socket | None = writer.get_extra_info("socket")
            if end is not None and not writer.transport.is_closing():
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def close(self) -> None:
        """Say goodbye to both ends, after what is still to be written."""
        for writer in self.writers.values():
            writer.close()


async def _until_one_ends(pumps: list[asyncio.Task[None]]) -> None:
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
