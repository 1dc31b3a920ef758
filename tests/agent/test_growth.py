"""A hundred thousand requests of every sad kind leave nothing behind; `-s` shows the figures."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

import pytest

from agent99 import Agent, Mesh, Settings, Target, operation
from agent99.agent._link import Link
from agent99.envelope import QUEUE, Name
from agent99.errors import Agent99Error
from agent99.wire import NatsWire
from agent99.wire._inbox import Inbox
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.agent._held import Held, take_stock

REQUESTS = 100_000
AT_ONCE = 1_000
HELD = 2
"""Requests that take the places of the one who is full, all the time."""
RECORDS = 1_000
"""Ended requests that a process keeps for whoever traces them: the warm-up fills them."""
ENTRIES_MORE_MAX = 16
"""Of a table: what the registry does meanwhile leaves a few in the caches, which are bounded."""
DRAWN_AHEAD = ("ids._uuids", "ids._tokens")
"""The two pools of `agent99.ids`, by whatever way they are reached: each is filled by the block."""
TASKS_MORE_MAX = 8
"""What the registry and the watch over those who hang may have begun just now."""
BLOCKS_GROWN_MAX = 10_000
"""One object kept for each request would be 100,000; moments of rest differ by some thousands."""
RSS_GROWN_MIB_MAX = 32.0
"""What is no block of Python's allocator has more than 512 bytes: kept for each of 100,000 requests
it would be 49 MiB. On a busy machine more of a batch is alive at once than in the warm-up, and that
memory is not given back: 16 MiB were seen."""

pytestmark = pytest.mark.slow


class Idler(Agent):
    """Never answers."""

    capabilities = ("idler",)
    concurrency_max = 2 * AT_ONCE

    @operation
    async def hang(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()


class Full(Idler):
    """Never answers, and has no place for a second request."""

    capabilities = ("full",)
    concurrency_max = 1
    waiting_max = 1


class World:
    """Who asks, and who does not answer."""

    def __init__(self, folder: Path, url: str) -> None:
        self._settings = Settings(
            project=folder, state_folder=folder, url=url, mesh="growth", trace_records_max=RECORDS
        )
        self.here: Mesh
        self.there: Mesh
        self._held: list[asyncio.Future[object]] = []

    async def open(self, stack: AsyncExitStack) -> None:
        """Open both meshes, and take the places of the one who is full."""
        self.here, self.there = [
            await stack.enter_async_context(Mesh(settings=self._settings)) for _ in range(2)
        ]
        await self.there.host(Idler(), Full())
        link = _link_of(self.there)
        mute = link.subjects.capability_listen(Name("mute"), Name("hang"))
        link.wire.subscribe(mute, lambda _: None, queue=QUEUE)
        await link.wire.flush()
        await self.here.wait_for("full")
        self._held = [asyncio.ensure_future(self.ask("full", 600)) for _ in range(HELD)]
        stack.push_async_callback(self._let_go)
        await eventually(lambda: self.there.in_flight == HELD)
        await eventually(lambda: self._keepers() == 1)

    def _keepers(self) -> int:
        return sum(mesh.registry.statistics().is_keeper for mesh in (self.here, self.there))

    def _inbox(self) -> Inbox:
        return cast("NatsWire", _link_of(self.here).wire)._inbox

    def loads(self) -> dict[str, int]:
        """Return the requests that count as the load of an instance now."""
        return _link_of(self.here).loads

    async def _let_go(self) -> None:
        for held in self._held:
            held.cancel()
        await asyncio.gather(*self._held, return_exceptions=True)

    async def ask(self, target: Target, timeout_s: float, *, of: Mesh | None = None) -> str:
        """Ask, and return the code of what came of it."""
        try:
            await (of or self.here).request(target, "hang", timeout_s=timeout_s)
        except Agent99Error as error:
            return error.code
        return "answered"

    async def unanswered(self) -> list[str]:
        """Ask somebody who throws every request away."""
        return await asyncio.gather(*(self.ask("mute", 0.05) for _ in range(AT_ONCE)))

    async def timed_out(self) -> list[str]:
        """Ask an operation that never ends."""
        return await asyncio.gather(*(self.ask("idler", 0.05) for _ in range(AT_ONCE)))

    async def timed_out_here(self) -> list[str]:
        """Ask it within its own process."""
        return await asyncio.gather(
            *(self.ask("idler", 0.05, of=self.there) for _ in range(AT_ONCE))
        )

    async def refused(self) -> list[str]:
        """Ask one who has no place."""
        return await asyncio.gather(*(self.ask("full", 10) for _ in range(AT_ONCE)))

    async def nobody(self) -> list[str]:
        """Ask for what nobody offers."""
        return await asyncio.gather(*(self.ask("nothing", 10) for _ in range(AT_ONCE)))

    async def cancelled(self) -> list[str]:
        """Ask one instance whose operation never ends, and give up once all of them run."""
        (peer,) = await self.here.discover("idler")
        await eventually(lambda: self.there.in_flight == HELD)
        asked = [asyncio.ensure_future(self.ask(peer, 60)) for _ in range(AT_ONCE // 4)]
        await eventually(lambda: self.there.in_flight == HELD + len(asked))
        for task in asked:
            task.cancel()
        ended = await asyncio.gather(*asked, return_exceptions=True)
        return [type(one).__name__ for one in ended]

    async def at_rest(self) -> Held:
        """Return what is held when nothing is under way."""
        for mesh in (self.here, self.there, self.here):  # a busy machine is behind its deadlines
            await _link_of(mesh).wire.flush(30)
        await eventually(lambda: self.there.in_flight == HELD)
        # Those that were cancelled go with the next look at the deadlines, half a second later.
        inbox = self._inbox()
        await eventually(lambda: max(len(inbox), len(inbox._soon)) <= ENTRIES_MORE_MAX)
        return take_stock(self.here, self.there)


def _link_of(mesh: Mesh) -> Link:
    assert mesh._link is not None
    return mesh._link


@pytest.fixture
async def world(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[World]:
    """Give the world, open; the registry has come to rest, too."""
    async with AsyncExitStack() as stack:
        made = World(tmp_path, nats_server.url)
        await made.open(stack)
        yield made


KINDS: Mapping[str, tuple[Callable[[World], Awaitable[list[str]]], str, int]] = {
    "unanswered": (World.unanswered, "DEADLINE_EXCEEDED", REQUESTS),
    "timed out": (World.timed_out, "DEADLINE_EXCEEDED", REQUESTS),
    "cancelled": (World.cancelled, "CancelledError", REQUESTS),
    "timed out within the process": (World.timed_out_here, "DEADLINE_EXCEEDED", REQUESTS // 5),
    "refused": (World.refused, "OVERLOADED", REQUESTS // 5),
    "nobody there": (World.nobody, "NO_AGENT", REQUESTS // 5),
}
"""How to ask for it, what becomes of it, how often."""


async def test_requests_leave_nothing_behind(world: World) -> None:
    """Tables, tasks and memory are in the end what they were when the first few had ended."""
    loop = asyncio.get_running_loop()
    for ask, _, _ in KINDS.values():
        for _ in range(5):
            await ask(world)
    before = await world.at_rest()
    for kind, (ask, code, count) in KINDS.items():
        began_s, outcomes = loop.time(), Counter[str]()
        while outcomes.total() < count:
            outcomes.update(await ask(world))
        rate = outcomes.total() / (loop.time() - began_s)
        after = await world.at_rest()
        blocks, mib = after.blocks - before.blocks, (after.rss_bytes - before.rss_bytes) / 2**20
        shown = f"{outcomes.total():,} {kind}, {rate:,.0f} a second"
        print(f" {shown}: {blocks:+,} blocks, {mib:+.1f} MiB")  # noqa: T201 - figures for people
        assert set(outcomes) == {code}
        assert grown(before, after) == {}
        assert world.loads() == {}
        assert after.tasks <= before.tasks + TASKS_MORE_MAX
        assert blocks <= BLOCKS_GROWN_MAX
        assert mib <= RSS_GROWN_MIB_MAX


def grown(before: Held, after: Held) -> dict[str, tuple[int, int]]:
    """Return the tables that are larger than the registry's own doings explain."""
    sizes = {name: (before.tables.get(name, 0), size) for name, size in after.tables.items()}
    return {
        name: (old, new)
        for name, (old, new) in sizes.items()
        if new > old + ENTRIES_MORE_MAX and not name.endswith(DRAWN_AHEAD)
    }


def test_a_leak_is_found() -> None:
    """A table that has grown by what a thousandth of the requests would leave is named."""
    held = [
        Held({"a": 7, "b": 7 + more, "c._ids._seen": more, "c._ids._tokens": more}, 0, 0, 0)
        for more in (0, 100)
    ]
    assert grown(*held) == {"b": (7, 107), "c._ids._seen": (0, 100)}
