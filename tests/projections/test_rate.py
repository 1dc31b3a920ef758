"""How many events one instance counts in a second: figures, and a floor far below them."""

from __future__ import annotations

import asyncio
import time

import pytest

from agent99 import Mesh
from agent99.ids import SystemIds
from agent99.projections import ProjectionOptions, Projector
from agent99.store import open_store
from tests._nats_server import NatsServer
from tests.groups._campaign import tell
from tests.projections._revenue import Revenue, Sale, caught_up, sales

pytestmark = pytest.mark.slow
COUNT = 6_000
KEYS = 500
FLOOR = 300
"""Events per second: a machine that does less is not at work on this alone."""


async def fill(mesh: Mesh) -> None:
    """Append events of 500 keys."""
    for _ in range(COUNT // KEYS):
        await asyncio.gather(
            *(mesh.append("order.placed", Sale(key), key=f"k{key}") for key in range(KEYS))
        )


@pytest.mark.parametrize("ignores_repeats", [True, False])
async def test_one_instance(nats_server: NatsServer, url: str, *, ignores_repeats: bool) -> None:
    """One instance keeps up with thousands of events a second, and rebuilds as quickly."""

    class Rated(Revenue):
        pass

    Rated.ignores_repeats = ignores_repeats
    name = f"t{SystemIds().token().decode()[:12]}"
    took_s = dict[str, float]()
    async with (
        Mesh(nats_server.url, mesh=name) as mesh,
        open_store(url) as store,
        Projector(mesh, Rated(), store, options=ProjectionOptions(poll_s=0.1)) as rated,
    ):
        began_s = time.monotonic()
        await fill(mesh)
        took_s["append"] = time.monotonic() - began_s
        await caught_up(rated)
        took_s["live, while they are appended"] = time.monotonic() - began_s
        began_s = time.monotonic()
        await rated.rebuild()
        took_s["rebuild"] = time.monotonic() - began_s
        assert COUNT == await rated.read(sales)
    repeats = "repeats ignored" if ignores_repeats else "no look for repeats"
    kind = f"{url.partition(':')[0]}, {repeats}"
    for what, seconds in took_s.items():
        tell(f"{kind}, {what}: {COUNT / seconds:,.0f} events/s")
    assert COUNT / took_s["rebuild"] > FLOOR
