"""The RESP listener: a door for clients of Redis."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self, cast

from agent99.clock import Clock, SystemClock, wait_done
from agent99.errors import UsageError
from agent99.systems.cache._resp_parser import RequestBounds, RequestParser
from agent99.systems.cache._resp_port import Strings
from agent99.systems.cache._resp_protocol import Connection
from agent99.systems.cache._resp_replies import error
from agent99.systems.cache._resp_session import Figures, Session

PORT_MAX: Final = 65_535
STOP_S_MAX: Final = 2.0
"""How long the commands at work may take when the listener closes."""


@dataclass(frozen=True, slots=True)
class RespOptions:
    """Where a listener listens, and whom it lets in.

    Raises:
        UsageError: a port that there is not, or room for no client.
    """

    host: str = "127.0.0.1"
    """An address of this machine; one that others reach wants a password."""
    port: int = 6379
    """0 takes a free one."""
    password: str = field(default="", repr=False)
    """What AUTH must say; empty lets everybody in."""
    clients_max: int = 1_000
    """More are told so and sent away."""
    bounds: RequestBounds = field(default_factory=RequestBounds)
    """How large a request may be."""

    def __post_init__(self) -> None:
        if not isinstance(self.port, int) or not 0 <= self.port <= PORT_MAX:
            raise UsageError(f"a port is 0 (a free one) to {PORT_MAX}, not {self.port!r}")
        if not isinstance(self.clients_max, int) or self.clients_max < 1:
            raise UsageError(f"clients_max is 1 at least, not {self.clients_max!r}")


class RespListener:
    """Lets clients of Redis read and write strings.

    `async with RespListener(strings) as listener` listens until the block ends. A client's commands
    take effect in the order in which it sent them; those that came together and name different keys
    are made at the same time, and others may see them in another order.

    Args:
        strings: What is read and written.
        options: Where it listens, and whom it lets in.
        clock: The source of time.

    Raises:
        UsageError: it would be open to other machines without a password.
    """

    def __init__(
        self,
        strings: Strings,
        options: RespOptions | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.options = options or RespOptions()
        self._strings = strings
        self._clock = clock or SystemClock()
        self._figures = Figures(
            started_s=self._clock.monotonic_s(), clients_max=self.options.clients_max
        )
        self._numbers = itertools.count(1)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._all_gone: asyncio.Future[None] | None = None
        if not (self.options.password or _is_of_this_machine(self.options.host)):
            raise UsageError(f"a listener on {self.options.host} is open to others: set a password")

    def __repr__(self) -> str:
        return f"RespListener({self.options.host}:{self.port}, clients={len(self._connections)})"

    @property
    def port(self) -> int:
        """Where it listens; 0 before it does."""
        return self._figures.port

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            OSError: the address is taken, or not of this machine.
        """
        if self._server is not None:
            raise UsageError("the listener listens already")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._admit, self.options.host, self.options.port)
        self._figures.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        await self.aclose()

    async def aclose(self) -> None:
        """Take no more clients, answer what is at work, close all connections. Idempotent."""
        if self._server is None:
            return
        self._server.close()
        for connection in tuple(self._connections):
            connection.end()
        await self._wait_all_gone()
        for connection in tuple(self._connections):
            connection.abort()
        await self._wait_all_gone()

    async def _wait_all_gone(self) -> None:
        if self._connections:
            self._all_gone = asyncio.get_running_loop().create_future()
            await wait_done(self._clock, self._all_gone, STOP_S_MAX)

    def _admit(self) -> asyncio.Protocol:
        """Return who speaks with the next client."""
        figures = self._figures
        figures.connections += 1
        if len(self._connections) >= self.options.clients_max:
            figures.refused += 1
            return _Full()
        session = Session(
            next(self._numbers),
            self._strings,
            self._clock,
            figures,
            password=self.options.password,
            is_trusted=not self.options.password,
        )
        connection = Connection(session, RequestParser(self.options.bounds), self._forget)
        self._connections.add(connection)
        figures.clients = len(self._connections)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._figures.clients = len(self._connections)
        if self._all_gone is not None and not self._connections and not self._all_gone.done():
            self._all_gone.set_result(None)


class _Full(asyncio.Protocol):
    """Tells a client that there are too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        transport.write(error("ERR max number of clients reached"))
        transport.close()


def _is_of_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
