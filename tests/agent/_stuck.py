"""Everything that a process may wait for, on links that bring nothing any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

import msgspec

from agent99 import Agent, Mesh, Peer, connect, named, operation
from agent99.agent import NatsEngine, Parts
from agent99.clock import Clock, SystemClock
from agent99.errors import BufferFullError
from agent99.ids import Ids, SystemIds
from agent99.journal import (
    Bucket,
    BucketConfig,
    Change,
    ConsumerConfig,
    Deliveries,
    Delivery,
    JetStreamJournal,
    Snapshot,
    StreamConfig,
    Tail,
)
from agent99.registry import Registry, is_gone
from agent99.settings import Settings, load_settings
from agent99.wire import NatsWire, Wire, open_wire
from tests._nats_server import NatsServer

_CONSUMER = ConsumerConfig(stream="stuck", name="stuck")
_STREAM = StreamConfig(name="stuck", subjects=("stuck.>",))
_BUCKET = BucketConfig(name="stuck")
_MESH = "stuck"
_SPARES = 8
"""Five calls need one each; who is late needs another."""

Follower = AbstractAsyncContextManager[AsyncIterator[Snapshot | Change]]


class Near(Agent):
    """Hosted where the calls are made."""

    capabilities = ("near",)

    def __init__(self) -> None:
        self.began = False
        self.ended_s = 0.0
        self.calls: Mapping[str, Callable[[], Awaitable[object]]] = {}

    @operation
    async def call(self, what: str) -> None:
        """Make one of the calls, and note when it ended."""
        self.began = True
        try:
            await self.calls[what]()
        finally:
            self.ended_s = asyncio.get_running_loop().time()


class Far(Agent):
    """Hosted elsewhere."""

    capabilities = ("far",)

    @operation
    async def answer(self) -> int:
        """Answer."""
        return 42


class FreezingEngine:
    """Opens like the real one; some turns of the loop after it has connected its server freezes."""

    def __init__(self, server: NatsServer, turns: int) -> None:
        self.wire: Wire
        self.has_frozen = False
        self._server = server
        self._turns = turns

    @asynccontextmanager
    async def open(self, sender: str, *, clock: Clock, ids: Ids) -> AsyncGenerator[Parts]:
        """Connect."""
        settings = msgspec.structs.replace(load_settings(), url=self._server.url)
        async with NatsEngine(settings).open(sender, clock=clock, ids=ids) as parts:
            self.wire = parts.wire
            self._freeze_later(self._turns)
            yield parts

    def _freeze_later(self, turns: int) -> None:
        if turns == 0:
            self._server.stop()
            self.has_frozen = True
        else:
            asyncio.get_running_loop().call_soon(self._freeze_later, turns - 1)


class World:
    """What the calls need, opened while the link is well."""

    def __init__(self, url: str, stack: AsyncExitStack) -> None:
        self.url = url
        self.stack = stack
        self.settings: Settings = msgspec.structs.replace(load_settings(), url=url)
        self.clock, self.ids = SystemClock(), SystemIds()
        self.agent = Near()
        self.idle = Near()
        self.mesh: Mesh
        self.full: Mesh
        """Its buffer takes nothing more once `fill` was called."""
        self.full_agent = Near()
        self.peer: Peer
        self.wire: NatsWire
        self.journal: JetStreamJournal
        self.bucket: Bucket
        self.followers: list[Follower]
        self.changes: AsyncIterator[Snapshot | Change]
        self.deliveries: Deliveries
        self.in_hand: list[Delivery]
        self.tail: Tail
        self._spares: list[Mesh]

    async def open(self) -> None:
        """Open everything."""
        self.mesh, self.full, far, *self._spares = [
            await self.stack.enter_async_context(Mesh(self.url, mesh=_MESH))
            for _ in range(3 + _SPARES)
        ]
        await far.host(Far())
        await self.mesh.host(self.agent, self.idle)
        await self.full.host(self.full_agent)
        for spare in self._spares:
            await spare.host(Near())
        (self.peer,) = await self.mesh.wait_for("far")
        self.wire = await self.open_wire()
        self.journal = JetStreamJournal(self.wire)
        await self.journal.ensure_stream(_STREAM)
        await asyncio.gather(*(self.journal.append("stuck.a", b"x") for _ in range(10)))
        self.bucket = await self.journal.bucket(_BUCKET)
        self.followers = [self.bucket.follow() for _ in range(2)]
        self.changes = await self.stack.enter_async_context(self.followers[0])
        consuming = self.journal.consume(_CONSUMER, prefetch_max=9)
        self.deliveries = await self.stack.enter_async_context(consuming)
        self.in_hand = [await anext(self.deliveries) for _ in range(9)]
        self.tail = await self.stack.enter_async_context(self.journal.tail("stuck"))
        seen = 0
        while seen < 10:  # all there is: the next read is for what comes
            seen += len(await self.tail.read(10))
        await anext(self.changes)  # the snapshot: the next wait is for a change

    async def open_wire(self) -> NatsWire:
        """Open one more wire."""
        wire = await open_wire(self.url, sender=b"stuck", clock=self.clock, ids=self.ids)
        return await self.stack.enter_async_context(aclosing(wire))

    async def fill(self) -> None:
        """Publish until the buffers of `full` and of the system take nothing more."""
        link = self.full._link
        assert link is not None
        while True:
            try:
                link.wire.publish(b"stuck.full", bytes(1_000_000))
            except BufferFullError:
                if link.wire.statistics().pending_bytes > 8_000_000:
                    return
            await asyncio.sleep(0)

    def spare(self) -> Mesh:
        """Return an open mesh that may be closed."""
        return self._spares.pop()

    def registry(self, *, of: Mesh | None = None) -> Registry:
        """Return a registry that runs."""
        return (of or self.mesh).registry

    def new_registry(self) -> Registry:
        """Return a registry that does not run yet."""
        return Registry(self.journal, self.wire, mesh="other", clock=self.clock, ids=self.ids)

    def deadline_s(self) -> float:
        """Return a moment that does not come."""
        return self.clock.monotonic_s() + 60


def _reading(world: World) -> Awaitable[object]:
    return anext(aiter(world.journal.read("stuck")))


Call = Callable[[World], Awaitable[object]]

CALLS: Mapping[str, Call] = {
    "Mesh.__aenter__": lambda w: Mesh(w.url, mesh=_MESH).__aenter__(),
    "Mesh.__aexit__": lambda w: w.spare().__aexit__(None, None, None),
    "Mesh.aclose": lambda w: w.spare().aclose(),
    "Mesh.append": lambda w: w.mesh.append("stuck", {}),
    "Mesh.control": lambda w: w.mesh.control(w.peer, "status", timeout_s=60),
    "Mesh.host": lambda w: w.mesh.host(Near()),
    "Mesh.post": lambda w: w.mesh.post("nobody", "work"),
    "Mesh.publish": lambda w: w.full.publish("stuck", {}),
    "Mesh.request": lambda w: w.mesh.request("far", "answer", timeout_s=60),
    "Mesh.stop": lambda w: w.mesh.stop(w.idle),
    "Mesh.survey": lambda w: w.mesh.survey("far", "answer", timeout_s=60),
    "Mesh.wait_empty": lambda w: w.mesh.wait_empty(),
    "Mesh.wait_for": lambda w: w.mesh.wait_for("nobody", timeout_s=60),
    "Agent.append": lambda w: w.agent.append("stuck", {}, key="k"),
    "Agent.post": lambda w: w.agent.post("nobody", "work"),
    "Agent.publish": lambda w: w.full_agent.publish("stuck", {}),
    "Agent.request": lambda w: w.agent.request(named("far"), "answer", timeout_s=60),
    "Agent.survey": lambda w: w.agent.survey("far", "answer", timeout_s=60),
    "Peer.request": lambda w: w.peer.request("answer", timeout_s=60),
    "connect.__aenter__": lambda w: connect(w.url, mesh=_MESH).__aenter__(),
    "connect.__aexit__": lambda w: _opened(w).__aexit__(None, None, None),
    "Engine.open": lambda w: (
        NatsEngine(w.settings).open("x", clock=w.clock, ids=w.ids).__aenter__()
    ),
    "Wire.aclose": lambda w: _wire_of(w.spare()).aclose(),
    "Wire.flush": lambda w: w.wire.flush(60),
    "Wire.request": lambda w: w.wire.request(b"a", b"", deadline_s=w.deadline_s()),
    "Wire.wait_writable": lambda w: _wire_of(w.full).wait_writable(),
    "Subscription.drain": lambda w: w.wire.subscribe(b"stuck.d", lambda _: None).drain(60),
    "open_wire": lambda w: open_wire(w.url, sender=b"x", clock=w.clock, ids=w.ids),
    "Journal.append": lambda w: w.journal.append("stuck.a", b""),
    "Journal.backlog": lambda w: w.journal.backlog("stuck", from_sequence=1),
    "Journal.bucket": lambda w: w.journal.bucket(_BUCKET),
    "Journal.consume": lambda w: w.journal.consume(_CONSUMER, prefetch_max=1).__aenter__(),
    "Journal.consumer_state": lambda w: w.journal.consumer_state("stuck", "stuck"),
    "Journal.consumers": lambda w: w.journal.consumers("stuck"),
    "Journal.delete": lambda w: w.journal.delete("stuck", 1),
    "Journal.delete_consumer": lambda w: w.journal.delete_consumer("stuck", "stuck"),
    "Journal.get": lambda w: w.journal.get("stuck", 1),
    "Journal.stream_state": lambda w: w.journal.stream_state("stuck"),
    "Journal.streams": lambda w: w.journal.streams(),
    "Deliveries.__anext__": lambda w: anext(w.deliveries),
    "Delivery.ack": lambda w: w.in_hand.pop().ack(),
    "Delivery.retry": lambda w: w.in_hand.pop().retry(),
    "Delivery.terminate": lambda w: w.in_hand.pop().terminate("stuck"),
    "Journal.delete_stream": lambda w: w.journal.delete_stream("other"),
    "Journal.ensure_stream": lambda w: w.journal.ensure_stream(_STREAM),
    "Journal.last": lambda w: w.journal.last("stuck", "stuck.a"),
    "Journal.read": _reading,
    "Journal.tail": lambda w: w.journal.tail("stuck").__aenter__(),
    "Tail.read": lambda w: w.tail.read(1),
    "Bucket.create": lambda w: w.bucket.create("a", b""),
    "Bucket.delete": lambda w: w.bucket.delete("a"),
    "Bucket.follow": lambda w: w.followers[1].__aenter__(),
    "Bucket.get": lambda w: w.bucket.get("a"),
    "Bucket.put": lambda w: w.bucket.put("a", b""),
    "Bucket.snapshot": lambda w: w.bucket.snapshot(),
    "Bucket.update": lambda w: w.bucket.update("a", b"", revision=1),
    "a change of Bucket.follow": lambda w: anext(w.changes),
    "Registry.aclose": lambda w: w.spare().registry.aclose(),
    "Registry.announce": lambda w: w.registry().announce(w.peer.description),
    "Registry.start": lambda w: w.new_registry().start(),
    "Registry.wait_for": lambda w: w.registry().wait_for("nobody", timeout_s=60),
    "Registry.wait_until": lambda w: w.registry().wait_until(lambda _: False, timeout_s=60),
    "is_gone": lambda w: is_gone(w.wire, b"nobody", w.clock, ping_s=60, lease_s=60),
    "Registry.withdraw": lambda w: w.registry(of=w.full).withdraw(w.full_agent.instance),
}
"""By `Class.method`, of the port where there is one: how to wait in it."""


def _wire_of(mesh: Mesh) -> Any:
    assert mesh._link is not None
    return mesh._link.wire


def _opened(world: World) -> connect:
    opened = connect(world.url, mesh=_MESH)
    opened._opened = world.spare()  # as if it had been entered before
    return opened
