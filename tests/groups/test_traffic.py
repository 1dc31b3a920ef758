"""Who reads one pattern among a thousand topics is sent nothing else, as the wire shows (V9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import pytest

from agent99 import Mesh
from agent99.groups import Broadcast, Event, EventGroup, follow_events
from agent99.ids import SystemIds
from agent99.testing import ChaosProxy
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually
from tests.groups.conftest import delete_streams

TOPICS = 1_000
MATCHING = 10
"""Topics of the pattern."""
EACH = 2
"""Events of a topic."""
TEXT = "x" * 2_000
BYTES_MAX = 100_000
"""Of pings, leases and positions; what is not read has forty times as many."""
Heard = list[str]
Enter = Callable[[Mesh, Heard], AbstractAsyncContextManager[object]]


def by_group(mesh: Mesh, heard: Heard) -> AbstractAsyncContextManager[object]:
    """Read as the only member of a group."""

    async def handle(event: Event) -> None:
        heard.append(event.type)

    return EventGroup(mesh, "few", ["few.*"], handle)


def by_broadcast(mesh: Mesh, heard: Heard) -> AbstractAsyncContextManager[object]:
    """Read as each instance does."""

    async def handle(event: Event) -> None:
        heard.append(event.type)

    return Broadcast(mesh, "few", ["few.*"], handle)


@asynccontextmanager
async def by_following(mesh: Mesh, heard: Heard) -> AsyncIterator[None]:
    """Read without a group."""

    async def follow() -> None:
        async with aclosing(follow_events(mesh, ["few.*"])) as events:
            async for event in events:
                heard.append(event.type)

    task = asyncio.ensure_future(follow())
    yield
    task.cancel()
    await asyncio.wait([task])


async def append(mesh: Mesh, topics: Iterable[str]) -> None:
    """Append some large events of each topic."""
    event = {"text": TEXT}
    for topic in topics:
        await asyncio.gather(*(mesh.append(topic, event, key=f"k{n}") for n in range(EACH)))


@pytest.mark.parametrize("enter", [by_group, by_broadcast, by_following])
async def test_only_what_matches_is_sent(nats_server: NatsServer, enter: Enter) -> None:
    """A thousand topics cost whoever reads ten of them no more than those ten."""
    name = f"t{SystemIds().token().decode()[:12]}"
    few = [f"few.t{number}" for number in range(MATCHING)]
    many = [f"many.t{number}" for number in range(TOPICS - MATCHING)]
    heard: Heard = []
    async with (
        ChaosProxy(nats_server.port) as proxy,
        Mesh(nats_server.url, mesh=name) as other,
        Mesh(f"nats://127.0.0.1:{proxy.port}", mesh=name) as mesh,
        enter(mesh, heard),
    ):
        async with asyncio.timeout(PATIENCE_S):
            while not heard:  # who follows hears what comes from then on
                await append(other, ["few.first"])
        before = proxy.bytes["to_client"]
        await append(other, few)
        await eventually(lambda: heard.count(few[-1]) == EACH)
        alone, before = proxy.bytes["to_client"] - before, proxy.bytes["to_client"]
        await append(other, [*many, *few])
        await eventually(lambda: heard.count(few[-1]) == 2 * EACH)
        beside = proxy.bytes["to_client"] - before
    await delete_streams(nats_server.url, name)
    assert dict.fromkeys(few, 2 * EACH) == {topic: heard.count(topic) for topic in few}
    assert [] == [topic for topic in heard if not topic.startswith("few.")]
    assert alone >= EACH * MATCHING * len(TEXT), "it was sent what it reads"
    assert beside <= alone + BYTES_MAX, "and nothing of the others"
