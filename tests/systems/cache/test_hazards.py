"""What must not befall a cache: nodes that go together, callers who give up, moments that meet."""

from __future__ import annotations

import asyncio

from ._world import World

KEYS = [f"k{number}" for number in range(300)]


async def test_two_of_three_nodes_leave_at_once(world: World) -> None:
    """Those who leave hand over to who stays, not to each other: nothing is lost."""
    _, *leaving = await world.add(3)
    cache = await world.cache()
    await world.do(cache.set_many(dict.fromkeys(KEYS, 1)))
    epoch = world.table.epoch
    began_s = world.clock.monotonic_s()
    await world.do(asyncio.gather(*(site.mesh.aclose() for site in leaving)))
    assert world.clock.monotonic_s() - began_s < 10
    assert 0 == world.table.lost
    assert world.table.epoch - epoch < 2_000
    assert len(KEYS) == len(await world.do(cache.get_many(KEYS)))
