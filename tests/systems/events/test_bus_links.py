"""Links that break while the bus waits for a subscriber: it asks again, and blames nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from agent99 import Agent, Mesh, operation
from agent99.groups import CloudEvent, inspect_group
from agent99.ids import SystemIds
from agent99.systems.events import EventBusAgent, Mode
from agent99.testing import ChaosProxy
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.groups.conftest import delete_streams
from tests.systems.events.test_bus import publish, subscribe

SOON_S = 20.0
"""Less than the 30 s that a subscriber has for an event."""


class Slow(Agent):
    """Takes an event when it may."""

    capabilities = ("shipping",)

    def __init__(self) -> None:
        self.begun = 0
        self.taken = 0
        self.may_end = asyncio.Event()

    @operation(idempotent=True)
    async def handle_event(self, event: CloudEvent) -> None:
        """Take it."""
        self.begun += 1
        await self.may_end.wait()
        self.taken += 1


class Place:
    """A mesh on a real server, and links to it that can be broken."""

    def __init__(self, server: NatsServer, stack: AsyncExitStack) -> None:
        self.name = f"t{SystemIds().token().decode()[:12]}"
        self._server = server
        self._stack = stack
        stack.push_async_callback(delete_streams, server.url, self.name)

    async def open(self) -> Mesh:
        """Return one more mesh, with a link of its own."""
        return await self._stack.enter_async_context(Mesh(self._server.url, mesh=self.name))

    async def open_behind(self) -> tuple[Mesh, ChaosProxy]:
        """Return one more mesh, and what its link goes through."""
        proxy = await self._stack.enter_async_context(ChaosProxy(self._server.port))
        url = f"nats://127.0.0.1:{proxy.port}"
        return await self._stack.enter_async_context(Mesh(url, mesh=self.name)), proxy


@pytest.fixture
async def place(nats_server: NatsServer) -> AsyncIterator[Place]:
    """Give a mesh of the test's own."""
    async with AsyncExitStack() as stack:
        yield Place(nats_server, stack)


@pytest.mark.parametrize("mode", ["group", "every", "one"])
async def test_an_answer_that_is_lost(place: Place, mode: Mode) -> None:
    """When the link of the bus was away, what it waits for is asked anew, and did not fail."""
    heard = Slow()
    other = await place.open()
    await other.host(heard)
    mesh, proxy = await place.open_behind()
    await mesh.host(EventBusAgent())
    subscription = (await subscribe(other, mode)).subscription
    await publish(other, 0)
    await eventually(lambda: heard.begun == 1)
    proxy.lose("to_client")
    heard.may_end.set()
    await eventually(lambda: heard.taken == 1)
    await other.link.wire.flush()
    proxy.reset()
    proxy.heal()
    await eventually(lambda: heard.taken == 2, timeout_s=SOON_S)
    await publish(other, 1)
    await eventually(lambda: heard.taken == 3, timeout_s=SOON_S)
    assert 0 == (await inspect_group(other, subscription)).failures


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["group", "every", "one"])
async def test_a_subscriber_that_is_gone(place: Place, mode: Mode) -> None:
    """What it was at is given to the next one that comes, and did not fail."""
    dead, heard = Slow(), Slow()
    heard.may_end.set()
    other = await place.open()
    mesh, proxy = await place.open_behind()
    await mesh.host(dead)
    await other.host(EventBusAgent())
    subscription = (await subscribe(other, mode)).subscription
    await publish(other, 0)
    await eventually(lambda: dead.begun == 1)
    proxy.refuses = True
    proxy.reset()
    await other.host(heard)
    await eventually(lambda: heard.taken == 1, timeout_s=SOON_S)
    proxy.heal()
    dead.may_end.set()
    assert 0 == (await inspect_group(other, subscription)).failures
