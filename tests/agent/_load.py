"""More than somebody can bear: agents that are slow, and requests at a steady rate."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

from agent99 import Agent, Mesh, Peer, named, on, operation
from agent99.agent import Parts
from agent99.clock import Clock
from agent99.errors import Agent99Error
from agent99.ids import Ids
from agent99.journal import JetStreamJournal
from agent99.wire import Wire, WireOptions, open_wire
from tests._nats_server import NatsServer
from tests.agent._held import rss_bytes

COOK_S = 0.1
COOKS = 10
_TICK_S = 0.005


class Kitchen(Agent):
    """Cooks so many dishes at once, each in so many seconds."""

    capabilities = ("kitchen",)
    concurrency_max = COOKS
    waiting_max = 200

    def __init__(self) -> None:
        self.cooked = 0

    @operation
    async def cook(self, order: str) -> int:
        """Take some time."""
        await asyncio.sleep(COOK_S)
        self.cooked += 1
        return len(order)


class Counterhand(Agent):
    """Answers at once."""

    capabilities = ("counter",)

    def __init__(self) -> None:
        self.served = 0

    @operation
    async def serve(self, order: str) -> int:
        """Answer at once."""
        self.served += 1
        return len(order)

    @operation
    async def fetch(self, size: int) -> str:
        """Answer at once, and at length."""
        self.served += 1
        return "x" * size


class Listener(Agent):
    """Hears slowly: not before it may."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.heard = 0

    @on("news.>")
    async def hear(self, _event: dict[str, Any]) -> None:
        """Wait for the gate, and count."""
        await self.gate.wait()
        self.heard += 1


class PlainEngine:
    """A wire for the messages of agents alone; the registry has another one, to the server itself.

    So what is counted on the first one is exactly what a test sends.
    """

    def __init__(self, url: str, *, server: NatsServer, options: WireOptions | None = None) -> None:
        self._url = url
        self._server = server
        self._options = options

    @asynccontextmanager
    async def open(self, sender: str, *, clock: Clock, ids: Ids) -> AsyncGenerator[Parts]:
        """Connect both."""
        who = sender.encode()
        wire = await open_wire(self._url, sender=who, clock=clock, ids=ids, options=self._options)
        other = await open_wire(self._server.url, sender=who, clock=clock, ids=ids)
        async with aclosing(other), aclosing(wire):
            yield Parts(wire, JetStreamJournal(other, clock=clock, ids=ids), self._url)


class Demand:
    """Requests at a steady rate, whatever becomes of them; each outcome is counted.

    They go to one instance: the silence of a group would be looked into, by pings that are answered
    late as well.
    """

    def __init__(self, mesh: Mesh, peer: Peer, operation: str, *, timeout_s: float) -> None:
        self.sent = 0
        self.outcomes: Counter[str] = Counter()
        """By code; `ok` of those that were answered."""
        self.peak_bytes = 0
        """The most memory that this process occupied meanwhile."""
        self.peak_pending = 0
        """The most bytes that waited to be written by the mesh that asks."""
        self._mesh = mesh
        self._what = (peer, operation)
        self._timeout_s = timeout_s
        self._going: set[asyncio.Task[None]] = set()

    async def go_on(self, rate: float, seconds: float, payload: dict[str, Any]) -> None:
        """Send at that rate for so long, then wait until every request has ended."""
        loop = asyncio.get_running_loop()
        began_s, first = loop.time(), self.sent
        while loop.time() < began_s + seconds:
            due = first + int(rate * (loop.time() - began_s))
            while self.sent < due:
                self.sent += 1
                task = loop.create_task(self._ask(payload))
                self._going.add(task)
                task.add_done_callback(self._going.discard)
            self.peak_bytes = max(self.peak_bytes, rss_bytes())
            pending = wire_of(self._mesh).statistics().pending_bytes
            self.peak_pending = max(self.peak_pending, pending)
            await asyncio.sleep(_TICK_S)
        while self._going:
            await asyncio.wait(tuple(self._going))

    async def _ask(self, payload: dict[str, Any]) -> None:
        try:
            await self._mesh.request(*self._what, payload, timeout_s=self._timeout_s)
        except Agent99Error as error:
            self.outcomes[error.code] += 1
        else:
            self.outcomes["ok"] += 1


@asynccontextmanager
async def probing(mesh: Mesh) -> AsyncIterator[list[float]]:
    """Ask the counterhand one thing after the other; gives how long each took, in milliseconds."""
    loop, took_ms, done = asyncio.get_running_loop(), list[float](), asyncio.Event()

    async def probe() -> None:
        while not done.is_set():
            began_s = loop.time()
            await mesh.request("counter", "serve", {"order": "tea"})
            took_ms.append((loop.time() - began_s) * 1e3)
            await asyncio.sleep(_TICK_S)

    task = asyncio.ensure_future(probe())
    try:
        yield took_ms
    finally:
        done.set()  # not cancelled: the answer to what is under way would be one that comes late
        await task


def wire_of(mesh: Mesh) -> Wire:
    """Return the connection of a mesh."""
    assert mesh._link is not None
    return mesh._link.wire


async def status_of(mesh: Mesh, name: str) -> dict[str, Any]:
    """Return what `agent99 ctl status` would show of an agent."""
    result: dict[str, Any] = (await mesh.control(named(name), "status")).results[0]
    return result
