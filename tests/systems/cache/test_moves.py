"""Nodes come and go while the cache is read and changed: nothing fails, nothing is lost."""

from __future__ import annotations

import asyncio

import pytest

from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._stay import Stay
from agent99.systems.cache._table import PARTITIONS

from ._load import Load
from ._world import World

COPIES = [
    pytest.param(0, marks=pytest.mark.slow),
    1,
    pytest.param(2, marks=pytest.mark.slow),
]


async def loaded(world: World, nodes: int, seed: int, *, replicas: int = 1) -> Load:
    """Start nodes and a load on them."""
    await world.add(nodes, replicas=replicas)
    load = Load(world, await world.cache(), seed)
    await load.start()
    world.watching.append(world.check_one_owner)
    await world.pass_s(0.2)
    return load


async def settled(world: World, load: Load) -> None:
    """Wait until all is where it is to be, and find nothing wrong."""
    await world.until_quiet()
    await world.pass_s(0.2)
    await load.stop()
    load.check()
    await world.pass_s(0.2)
    world.check_copies()


@pytest.mark.parametrize("replicas", COPIES)
async def test_a_fifth_node(world: World, seed: int, replicas: int) -> None:
    """A node that joins takes its share and no more, at no error, miss or stale read."""
    load = await loaded(world, 4, seed, replicas=replicas)
    before = [part.owner for part in world.table.parts]
    await world.add(replicas=replicas)
    after = [part.owner for part in world.table.parts]
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    assert moved <= PARTITIONS * (1 / 5 + 0.02)
    assert {51, 52} == set(world.owned().values())
    assert replicas == len(world.table.parts[0].replicas)
    await settled(world, load)


@pytest.mark.parametrize("replicas", COPIES)
async def test_a_node_that_leaves(world: World, seed: int, replicas: int) -> None:
    """A node that is stopped hands over what it has: no error, no miss, no copy is missing then."""
    load = await loaded(world, 4, seed, replicas=replicas)
    leaving = world.sites[1]
    lost = world.table.lost
    await world.do(leaving.mesh.aclose())
    assert leaving.agent.stay is None
    assert {64, 86, 85} >= set(world.owned().values())
    assert lost == world.table.lost
    await settled(world, load)


async def test_the_last_node_leaves_at_once(world: World) -> None:
    """Where nobody is left to hand over to, a node does not wait for anybody."""
    (site,) = await world.add()
    began_s = world.clock.monotonic_s()
    await world.do(site.mesh.aclose())
    assert world.clock.monotonic_s() - began_s < 1


@pytest.mark.slow
async def test_all_nodes_are_replaced_one_by_one(world: World, seed: int) -> None:
    """A rolling restart loses nothing: each leaves, and comes back as another one."""
    load = await loaded(world, 3, seed)
    for _ in range(3):
        leaving = world.alive[0]
        await world.do(leaving.mesh.aclose())
        await world.add()
    assert 0 == world.table.lost
    await settled(world, load)


@pytest.mark.slow
async def test_several_come_and_go_at_once(world: World, seed: int) -> None:
    """Moves that overlap end where they are to end, and lose nothing."""
    load = await loaded(world, 3, seed)
    going = world.sites[0]
    leaving = asyncio.ensure_future(going.mesh.aclose())
    await world.add(2, quiet=False)
    await world.do(leaving)
    await settled(world, load)
    assert 4 == len(world.table.nodes)


@pytest.mark.parametrize("replicas", [0, 1])
async def test_a_move_takes_everything_as_it_is(world: World, replicas: int) -> None:
    """Values, versions, ends and tombstones are at the new owner what they were at the old one."""
    (first,) = await world.add(replicas=replicas)
    cache = await world.cache()
    keys = [f"k{number}" for number in range(300)]
    for number, key in enumerate(keys):
        await cache.set(key, number, ttl_s=1_000 + number, tags=["t"])
    for key in keys[::5]:
        await cache.delete(key)
    now_us = first.stay.now_us()

    def states(stay: Stay, key: str) -> object:
        full = f"s:{key}"
        return stay.store.items(partition_of(full), (full,), now_us)

    before = {key: states(first.stay, key) for key in keys}
    assert all(before.values())
    await world.pass_s(3)
    await world.add(2, replicas=replicas)
    moved = [key for key in keys if world.owner(f"s:{key}") is not first]
    assert len(moved) > 100
    after = {key: states(world.owner(f"s:{key}").stay, key) for key in keys}
    assert before == after
    assert 240 == await cache.count()
    assert 240 == await cache.invalidate_tag("t")


@pytest.mark.slow
async def test_nothing_comes_back_by_a_move(world: World, seed: int) -> None:
    """What was deleted while its partition moved stays so, at every node."""
    load = await loaded(world, 2, seed)
    cache = await world.cache()
    keys = [f"k{number}" for number in range(400)]
    await world.do(cache.set_many(dict.fromkeys(keys, 1)))
    adding = asyncio.ensure_future(world.site())
    await world.do(adding)
    gone: list[str] = []

    async def delete() -> None:
        for key in keys[::2]:
            await cache.delete(key)
            gone.append(key)
            await world.clock.sleep(0.001)

    deleting = asyncio.ensure_future(delete())
    await world.add()
    await world.do(deleting)
    await settled(world, load)
    assert {} == await cache.get_many(gone)
    assert 200 == len(await cache.get_many(keys))


async def test_weights(world: World) -> None:
    """A node with half the weight has half the share, of owners and of copies."""
    one, two, half = [(await world.add(weight=weight))[0] for weight in (1.0, 1.0, 0.5)]
    owned = world.owned()
    assert 256 / 5 - 1 <= owned[half.id] <= 256 / 5 + 1
    assert abs(owned[one.id] - owned[two.id]) <= 1
    copies = sum(half.id in part.replicas for part in world.table.parts)
    assert 256 / 5 - 2 <= copies <= 256 / 5 + 2
    world.check_copies()


@pytest.mark.slow
async def test_copies_are_kept_in_sync(world: World, seed: int) -> None:
    """Each partition has its owner and its copies, with equal digests, and is nowhere else."""
    load = await loaded(world, 3, seed, replicas=2)
    await settled(world, load)
    assert all(2 == len(part.replicas) for part in world.table.parts)
    held = [site.stay.store.statistics() for site in world.sites]
    entries = sum(each.owned_entries for each in held)
    assert entries == len(load.there)
    assert 3 * entries == sum(each.entries for each in held)
