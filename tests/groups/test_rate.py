"""How many events one member works off in a second: a figure, and a floor far below it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.groups import Batch, Group, GroupOptions
from agent99.ids import SystemIds
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.groups._campaign import tell
from tests.groups._member import open_effects, write

pytestmark = pytest.mark.slow
COUNT = 10_000
FLOOR = 500
"""Events per second: a machine that does less is not at work on this alone."""


@pytest.fixture
async def mesh(nats_server: NatsServer) -> AsyncIterator[Mesh]:
    """Give a mesh whose log holds events of 400 bytes, of 500 keys."""
    name = f"t{SystemIds().token().decode()[:12]}"
    async with Mesh(nats_server.url, mesh=name) as opened:
        for start in range(0, COUNT, 500):
            numbers = range(start, start + 500)
            events = ({"number": number // 500, "pad": "x" * 200} for number in numbers)
            await asyncio.gather(
                *(
                    opened.append("order.placed", each, key=f"k{key}")
                    for key, each in enumerate(events)
                )
            )
        yield opened


@pytest.mark.parametrize("kind", ["no effects", "plain", "fenced"])
@pytest.mark.parametrize("batch_max", [1, 256])
async def test_one_member(mesh: Mesh, tmp_path: Path, kind: str, batch_max: int) -> None:
    """One member keeps up with thousands of events a second, effects in a store included."""
    done = 0
    async with aclosing(open_effects(f"sqlite:///{tmp_path}/effects.db")) as store:
        await store.open()

        async def handle(batch: Batch) -> None:
            nonlocal done
            if kind != "no effects":
                await store.transaction(lambda one: write(one, batch, "m", 0, kind))
            done += len(batch.records)

        counts = store if kind == "fenced" else None
        options = GroupOptions(batch_max=batch_max)
        group = Group(mesh, "rate", ["order.*"], handle, store=counts, options=options)
        began_s = time.monotonic()
        async with group:
            await eventually(lambda: done == COUNT, timeout_s=COUNT / FLOOR)
            rate = COUNT / (time.monotonic() - began_s)
    tell(f"{kind}, batches of at most {batch_max}: {rate:,.0f} events/s")
    assert rate > FLOOR
