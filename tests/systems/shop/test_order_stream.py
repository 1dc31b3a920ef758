"""One order, live: no gap, no double, in order, to its end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

import pytest

from agent99 import Mesh, Settings
from agent99.errors import DeadlineExceededError
from agent99.ids import SystemIds
from agent99.systems.shop import OrderMoved, follow_order
from agent99.systems.shop._identity import order_uuid
from agent99.testing import MemoryEngine
from tests._nats_server import NatsServer
from tests.conftest import StartNatsServer
from tests.systems.shop._shop import an_id
from tests.systems.shop._stand import a_stand
from tests.systems.shop._told import WAYS, steps_of, story_of

WORDS = ["received", "reserved", "authorised", "paid", "confirmed"]


@pytest.fixture(params=["memory", "nats"])
async def mesh(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Mesh]:
    """Give a mesh, in memory and on a real server."""
    name = f"live-{SystemIds().token().decode()[:10]}"
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh=name)
    if request.param == "memory":
        opened = Mesh(settings=settings, engine=MemoryEngine())
    else:
        server: NatsServer = request.getfixturevalue("nats_server")
        opened = Mesh(server.url, settings=settings)
    async with opened:
        yield opened


async def _tell(mesh: Mesh, *steps: OrderMoved) -> None:
    for moved in steps:
        await mesh.append(f"order.{moved.state}", moved, key=str(moved.order_id))


async def _all(mesh: Mesh, order: object, timeout_s: float = 10.0) -> list[OrderMoved]:
    return [step async for step in follow_order(mesh, an_id(order), timeout_s=timeout_s)]


async def _consumers(mesh: Mesh) -> int:
    return sum(len(each.consumers) for each in await mesh.ledger.streams())


async def test_while_an_order_moves_every_step_comes_once_and_in_order(tmp_path: Path) -> None:
    """Whoever begins before the order, while it moves or after its end sees the same five steps."""
    async with a_stand(tmp_path) as stand:
        order_id = order_uuid("k")
        early = asyncio.ensure_future(_states(stand.client, order_id))
        await stand.host_all()
        placing = asyncio.ensure_future(stand.place())
        midway = asyncio.ensure_future(_states(stand.client, order_id))
        await placing
        assert WORDS == await early == await midway == await _states(stand.client, order_id)


async def _states(mesh: Mesh, order_id: UUID) -> list[str]:
    return [step.state async for step in follow_order(mesh, order_id, timeout_s=10.0)]


@pytest.mark.parametrize("way", WAYS)
async def test_what_was_told_in_another_order_comes_in_order(
    mesh: Mesh, way: str, seed: int
) -> None:
    """Copies are passed over, a step that comes early waits, and other events are not steps."""
    steps = steps_of("tea", way)
    told = [*steps, *steps]
    random.Random(seed).shuffle(told)
    await mesh.append("order.refunded", story_of("tea")[-1], key=str(an_id("tea")))
    await _tell(mesh, *steps_of("mug"), *told)
    assert steps == await _all(mesh, "tea")


async def test_history_and_life_meet_without_a_gap(mesh: Mesh) -> None:
    """Each step that is told while somebody follows comes when it is told, after those before."""
    steps = steps_of("tea")
    await _tell(mesh, *steps[:2])
    seen: list[OrderMoved] = []
    async with aclosing(follow_order(mesh, an_id("tea"), timeout_s=10.0)) as live:
        async for step in live:
            seen.append(step)
            if len(seen) >= 2:
                await _tell(mesh, *steps[len(seen) : len(seen) + 1])
    assert steps == seen


async def test_an_order_that_does_not_end_is_a_typed_error(mesh: Mesh) -> None:
    """When the time is up it says how far the order is; what came before was given."""
    await _tell(mesh, *steps_of("tea")[:2])
    live = follow_order(mesh, an_id("tea"), timeout_s=0.5)
    assert WORDS[:2] == [(await anext(live)).state for _ in range(2)]
    with pytest.raises(DeadlineExceededError, match=r"has not ended within 0\.5 s: reserved"):
        await anext(live)
    with pytest.raises(DeadlineExceededError, match="not received"):
        await _all(mesh, "nobody's", timeout_s=0.1)


async def test_it_leaves_nothing_on_the_server(mesh: Mesh) -> None:
    """However it ends: with the order, by the time, or since nobody wants to hear more."""
    await _tell(mesh, *steps_of("tea"), *steps_of("mug")[:2])
    await _all(mesh, "tea")
    with pytest.raises(DeadlineExceededError):
        await _all(mesh, "mug", timeout_s=0.1)
    async with aclosing(follow_order(mesh, an_id("mug"))) as live:
        assert "received" == (await anext(live)).state
        assert 1 == await _consumers(mesh)
    assert 0 == await _consumers(mesh)


async def test_across_a_restart_of_the_server(
    start_nats_server: StartNatsServer, tmp_path: Path
) -> None:
    """A server that is killed between two steps costs no step, and brings none twice."""
    server, steps = start_nats_server(), steps_of("tea", "late")
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="live", url=server.url)
    async with Mesh(settings=settings) as mesh:
        seen: list[OrderMoved] = []
        await _tell(mesh, steps[0])
        async with aclosing(follow_order(mesh, an_id("tea"), timeout_s=60.0)) as live:
            async for step in live:
                seen.append(step)
                if step.step == 2:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                await _tell(mesh, *steps[len(seen) : len(seen) + 1])
    assert steps == seen
