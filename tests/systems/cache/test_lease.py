"""Leases: who cannot renew serves nobody, nobody is served by two, and deaths lose nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from agent99.errors import DeadlineExceededError
from agent99.systems.cache import Cache
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._options import LEASE_S, SILENCE_S
from agent99.systems.cache._owner import SILENT_S_MAX
from agent99.systems.cache._words import Change, Copy, Portion, Read, Status, Verb, Write

from ._load import Load
from ._world import Site, World

KEYS = [f"k{number}" for number in range(300)]


async def filled(world: World, nodes: int = 3, *, replicas: int = 1) -> Cache[Any]:
    """Start nodes, set all keys, and watch that nobody is served by two from then on."""
    await world.add(nodes, replicas=replicas)
    cache = await world.cache()
    await world.do(cache.set_many(dict.fromkeys(KEYS, 0)))
    world.watching.append(world.check_one_owner)
    return cache


def key_of(world: World, site: Site) -> str:
    """Return a key that a node owns."""
    return next(key for key in KEYS if world.owner(f"s:{key}") is site)


def owned_by(site: Site) -> list[int]:
    """Return the partitions that a node takes for its own."""
    return list(site.stay.owner.holdings)


# --- who cannot renew -----------------------------------------------------------------------------


async def test_a_node_that_cannot_renew_refuses(world: World) -> None:
    """A node that reaches its peers but not the bucket serves until its lease is over, no longer.

    Others own what it had by then, with all that was acknowledged; whoever asks it is sent on.
    """
    cache = await filled(world)
    (cut, *_) = world.sites
    key, stay = key_of(world, cut), cut.stay
    cut.doors.shut()
    await world.pass_s(LEASE_S / 2)
    assert 0 == await cache.get(key), "it may serve still"
    await world.do(cache.set(key, 1))
    await world.pass_s(LEASE_S / 2 + 0.1)
    assert not stay.lease.is_valid()
    found = await cut.agent.read(Read(0, (f"s:{key}",)))
    assert ((None,), (0,)) == (found.hits, found.moved)
    written = await cut.agent.write(Write(0, (Change(Verb.SET, f"s:{key}", b"9"),)))
    assert [Status.MOVED] == [outcome.status for outcome in written.outcomes]
    assert 1 == await world.do(cache.get(key))
    await world.until(lambda: cut.stay.lease.node.id not in {n.id for n in world.table.nodes})
    assert world.clock.monotonic_s() < 10
    assert 0 == world.table.lost
    assert dict.fromkeys(KEYS, 0) | {key: 1} == await world.do(cache.get_many(KEYS))


async def test_a_link_that_is_lost_ends_a_lease_at_once(world: World) -> None:
    """A node whose link to the server is away serves nobody until it has renewed."""
    await filled(world)
    (cut, *_) = world.sites
    cut.wire.cut()
    await world.pass_s(0.05)
    assert not cut.stay.lease.is_valid()
    cut.wire.restore()
    await world.pass_s(1)
    assert cut.stay.lease.is_valid()
    assert cut in world.alive


@pytest.mark.slow
async def test_a_short_gap_costs_nothing(world: World, seed: int) -> None:
    """A node that cannot renew for less than its lease stays who it is."""
    await filled(world)
    load = Load(world, await world.cache("load"), seed, keys=100)
    await load.start()
    (cut, *_) = world.sites
    before = cut.id
    cut.doors.shut()
    await world.pass_s(LEASE_S - 0.5)
    cut.doors.open()
    await world.pass_s(3)
    await load.stop()
    load.check()
    assert before == cut.id
    assert 3 == len(world.table.nodes)


async def test_a_change_is_not_acknowledged_without_a_lease(world: World) -> None:
    """What was begun when the lease held, and is not at all copies, waits for the next renewal.

    The lease is over before its copy has answered: whether it counts, others decide.
    """
    cache = await filled(world, 2)
    cut, other = world.sites
    key = key_of(world, cut)
    other.agent.is_deaf = True
    cut.doors.shut()
    setting = asyncio.ensure_future(cache.set(key, 1))
    await world.pass_s(LEASE_S + 0.2)
    # The last renewal may be 0.4 s older than the cut: by now others may have taken over.
    assert not setting.done() or isinstance(setting.exception(), DeadlineExceededError)
    other.agent.is_deaf = False
    await world.until(setting.done)
    assert isinstance(setting.exception(), DeadlineExceededError)
    assert await world.do(cache.get(key)) in (0, 1)


@pytest.mark.slow
async def test_a_deposed_node_comes_back_as_another(world: World) -> None:
    """A node that others removed has a new id, nothing of what it had, and gets a new share."""
    cache = await filled(world)
    (cut, *_) = world.sites
    before, stay = cut.id, cut.stay
    cut.doors.shut()
    await world.pass_s(SILENCE_S + 2)
    assert before not in {node.id for node in world.table.nodes}
    await world.do(cache.set_many(dict.fromkeys(KEYS, 1)))
    cut.doors.open()
    await world.until(lambda: cut.agent.stay is not None and cut.agent.stay is not stay)
    assert before != cut.id
    await world.until_quiet()
    assert 3 == len(world.table.nodes)
    assert dict.fromkeys(KEYS, 1) == await world.do(cache.get_many(KEYS))
    world.check_copies()


@pytest.mark.slow
async def test_a_process_that_stood_still(world: World) -> None:
    """A node that is stopped for seconds, as by a debugger, serves nothing old when it goes on."""
    cache = await filled(world)
    (stopped, *_) = world.sites
    key, stay = key_of(world, stopped), stopped.stay
    stopped.freeze()
    await world.until(lambda: len(world.table.nodes) == 2)
    await world.do(cache.set(key, 1))
    stopped.thaw()
    for _ in range(30):
        assert 1 == await world.do(cache.get(key))
        await world.step()
    await world.until(lambda: stopped.agent.stay is not None and stopped.agent.stay is not stay)
    await world.until_quiet()
    world.check_copies()


# --- deaths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("replicas", [1, 2])
async def test_a_death_loses_nothing(world: World, seed: int, replicas: int) -> None:
    """What was acknowledged before a node died is there after it, and is at enough copies again."""
    await filled(world, 4, replicas=replicas)
    load = Load(world, await world.cache("load"), seed)
    await load.start()
    await world.pass_s(0.3)
    died_s = world.clock.monotonic_s()
    world.sites[2].kill()
    await world.until(lambda: len(world.table.nodes) == 3)
    assert world.clock.monotonic_s() - died_s < SILENCE_S + 1.5
    await world.until_quiet()
    assert 0 == world.table.lost
    assert all(replicas == len(part.replicas) for part in world.table.parts)
    await load.stop()
    load.check_values()
    world.check_copies()


async def test_without_copies_a_death_loses_its_share_alone(world: World) -> None:
    """With no copies wanted, what a dead node owned is gone, and the rest is not."""
    cache = await filled(world, 3, replicas=0)
    dead = world.sites[0]
    lost = {key for key in KEYS if world.owner(f"s:{key}") is dead}
    count = len(owned_by(dead))
    dead.kill()
    await world.until(lambda: len(world.table.nodes) == 2)
    await world.until_quiet()
    assert count == world.table.lost
    assert set(KEYS) - lost == set(await world.do(cache.get_many(KEYS)))
    await world.do(cache.set_many(dict.fromkeys(lost, 1)))
    assert dict.fromkeys(lost, 1) == await world.do(cache.get_many(lost))


@pytest.mark.slow
async def test_versions_grow_across_owners(world: World) -> None:
    """Whoever comes to own a partition gives higher versions than all before it."""
    cache = await filled(world, 3)
    versions = [await cache.set("a", 0)]
    for _ in range(2):
        world.owner("s:a").kill()
        await world.pass_s(SILENCE_S + 1)
        await world.until_quiet()
        versions.append(await world.do(cache.set("a", 0)))
        versions.append(await world.do(cache.set("a", 0)))
    assert sorted(set(versions)) == versions


@pytest.mark.slow
async def test_a_keeper_that_slept_judges_nobody(world: World) -> None:
    """Whoever was away hears of no renewals: it does not take others for dead when it is back."""
    await filled(world, 3)
    for site in world.sites:
        ids = {node.id for node in world.table.nodes}
        site.clock.is_asleep = True
        await world.pass_s(LEASE_S - 0.4)
        site.clock.wake()
        await world.pass_s(1)
        assert ids == {node.id for node in world.table.nodes}
    # All but one at once, and for longer than anybody is waited for: the one judges them; they,
    # when they are back, do not judge it.
    (awake, *others) = world.sites
    for site in others:
        site.freeze()
    await world.pass_s(SILENCE_S + 2)
    assert {awake.id} == {node.id for node in world.table.nodes}
    for site in others:
        site.thaw()
    await world.pass_s(1)
    assert awake.id in {node.id for node in world.table.nodes}
    await world.until_quiet()
    assert 3 == len(world.table.nodes)


async def test_nobody_is_removed_when_the_bucket_was_away_from_all(world: World) -> None:
    """After a server was away for everybody nobody is dead: all had no chance to renew."""
    cache = await filled(world, 3)
    ids = {node.id for node in world.table.nodes}
    for site in world.sites:
        site.doors.shut()
    await world.pass_s(20)
    assert not any(site.stay.lease.is_valid() for site in world.sites)
    for site in world.sites:
        site.doors.open()
    await world.pass_s(2)
    await world.until_quiet()
    assert ids == {node.id for node in world.table.nodes}
    assert dict.fromkeys(KEYS, 0) == await world.do(cache.get_many(KEYS))


# --- copies ---------------------------------------------------------------------------------------


async def test_a_silent_copy_is_dropped(world: World) -> None:
    """A copy that does not answer its owner holds changes up for so long, then it is none."""
    cache = await filled(world, 2)
    owner, deaf = world.sites
    key = key_of(world, owner)
    partition = partition_of(f"s:{key}")
    deaf.agent.is_deaf = True
    began_s = world.clock.monotonic_s()
    await world.do(cache.set(key, 1))
    took_s = world.clock.monotonic_s() - began_s
    assert SILENT_S_MAX - 1 <= took_s <= SILENT_S_MAX + 1.2
    assert () == world.table.parts[partition].replicas
    assert 1 == await cache.get(key)
    deaf.agent.is_deaf = False
    await world.do(cache.set(key, 2))
    await world.add(quiet=False)  # the table changes: it is tried again
    await world.until_quiet()
    world.check_copies()


async def test_nobody_reads_what_a_death_could_take_back(world: World) -> None:
    """While a change is not at every copy, readers see what was there before."""
    cache = await filled(world, 2)
    owner, deaf = world.sites
    key = key_of(world, owner)
    deaf.agent.is_deaf = True
    setting = asyncio.ensure_future(cache.set(key, 1))
    await world.pass_s(0.1)
    assert 0 == await cache.get(key)
    deaf.agent.is_deaf = False
    await world.do(setting)
    assert 1 == await cache.get(key)


async def test_a_new_owner_tells_the_others_what_it_alone_was_told(world: World) -> None:
    """With two copies, what the dead owner told one of them is at the other, too, before a read.

    Else the second death would take back what was read after the first.
    """
    cache = await filled(world, 3, replicas=2)
    owner = world.owner("s:a")
    partition = partition_of("s:a")
    first, second = (world.of(node) for node in world.table.parts[partition].replicas)
    await world.do(cache.set("a", 0))
    second.agent.is_deaf = True
    setting = asyncio.ensure_future(cache.set("a", 1))
    await world.pass_s(0.1)
    told, untold = (site.stay.store.peek(partition, "s:a", 0) for site in (first, second))
    assert told is not None
    assert untold is not None
    assert (b"1", b"0") == (told.value, untold.value)
    owner.kill()
    second.agent.is_deaf = False
    await world.until(lambda: len(world.table.nodes) == 2)
    assert 1 == await world.do(cache.get("a"))
    untold = second.stay.store.peek(partition, "s:a", 0)
    assert untold is not None
    assert b"1" == untold.value
    with pytest.raises(DeadlineExceededError):
        await world.do(setting)
    first.kill()
    await world.until(lambda: len(world.table.nodes) == 1)
    assert 1 == await world.do(cache.get("a"))


async def test_an_owner_that_is_over_is_fenced(world: World) -> None:
    """What an earlier owner sends is refused, whoever it is sent to."""
    await filled(world, 2)
    owner, copy = world.sites
    partition = partition_of(f"s:{key_of(world, owner)}")
    epoch = world.table.parts[partition].epoch
    for portion, site in (
        (Portion(partition, epoch - 1, (), is_first=True), copy),
        (Portion(partition, epoch, (), is_first=True), owner),
    ):
        copied = await world.do(site.agent.copy(Copy((portion,))))
        assert (partition,) == copied.fenced
    world.check_copies()


@pytest.mark.slow
@pytest.mark.parametrize("lags", [False, pytest.param(True, marks=pytest.mark.chaos)])
async def test_at_random(world: World, seed: int, *, lags: bool) -> None:
    """Whatever is cut and put to sleep, in any order: no two serve, nothing acked is lost."""
    luck = Random(seed)
    await filled(world, 4)
    if lags:
        world.lag(luck)
    load = Load(world, await world.cache("load"), seed, keys=120, pause_s=0.05)
    await load.start()
    acts: list[Callable[[Site], Awaitable[None]]] = [_cut, _sleep, _unlink]
    for _ in range(6):
        site = luck.choice(world.alive)
        heal = luck.choice(acts)(site)
        await world.do(heal)
        await world.pass_s(luck.uniform(0.5, 4))
        site.thaw()
        site.wire.restore()
        await world.pass_s(SILENCE_S)  # until then it may be removed, for not having been heard
        await world.until_quiet()
    await load.stop()
    assert 0 == world.table.lost
    load.check_values()
    await world.pass_s(0.5)
    world.check_copies()


async def _cut(site: Site) -> None:
    site.doors.shut()


async def _sleep(site: Site) -> None:
    site.freeze()


async def _unlink(site: Site) -> None:
    site.wire.cut()
    site.doors.shut()
