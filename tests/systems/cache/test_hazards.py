"""What must not befall a cache: nodes that go together, callers who give up, moments that meet."""

from __future__ import annotations

import asyncio
from typing import Any

from agent99.agent import link_of
from agent99.systems.cache._copying import Lane, Receipt
from agent99.systems.cache._edits import gone
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._lease import Lease, decode_node
from agent99.systems.cache._parts import Parts
from agent99.systems.cache._table import Node as Member
from agent99.systems.cache._words import Change, Copied, Copy, Outcome, Portion, Status, Verb
from agent99.testing import ManualClock

from ._world import Node, Site, World

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


async def test_who_gives_up_a_change_spoils_no_other(world: World) -> None:
    """Once under way a change is settled, for owner and copies alike, though its caller is gone."""
    first, second = await world.add(2)
    key = key_of(world, first)
    owner, now_us = first.stay.owner, first.stay.now_us()
    take, may_answer = second.stay.copies.take, asyncio.Event()

    async def take_slowly(copy: Copy) -> Copied:
        copied = await take(copy)
        await may_answer.wait()
        return copied

    second.stay.copies.take = take_slowly  # type: ignore[method-assign]  # it is slow for a while

    def begin(change: Change) -> asyncio.Task[list[Outcome]]:
        return asyncio.ensure_future(owner.change([(partition_of(key), change)], now_us))

    made = begin(Change(Verb.SET, key, b"1"))
    await world.step()
    seen = begin(Change(Verb.ADD, key, b"2"))  # stands or falls with the first
    changed = begin(Change(Verb.SET, key, b"3"))
    await world.step()
    for given_up in (seen, changed):
        given_up.cancel()
    await world.step()
    assert seen.cancelled()
    assert changed.cancelled()
    may_answer.set()
    await world.until(made.done)
    assert [Status.DONE] == [outcome.status for outcome in await made]
    await world.pass_s(0.1)
    entry = first.stay.store.peek(partition_of(key), key, now_us)
    assert entry is not None
    assert b"3" == entry.value
    world.check_copies()


async def test_a_lane_that_is_closed_keeps_nobody_waiting() -> None:
    """What was about to be sent when its node went is told as not heard of: nobody waits on."""
    peers: Any = None
    lane = Lane(peers, Parts(peers, ManualClock(), str), Member("a", "node", "i"))
    receipt = lane.send(Portion(0, 1, ()))
    await asyncio.sleep(0)  # its task is made, and has not begun
    lane.close()
    assert Receipt.SILENT is await asyncio.wait_for(receipt, 1)


async def test_what_a_node_that_goes_was_about_to_be_asked_others_are_asked(world: World) -> None:
    """A table that comes in the very turn in which a batch goes out costs its reads nothing."""
    first, second = await world.add(2)
    mesh = await world.client()
    cache = await mesh.cache("s")
    key = key_of(world, first)
    await world.do(cache.set(key.removeprefix("s:"), 1))
    client = cache._client
    reading = client.read(key, 5.0)
    await asyncio.sleep(0)  # its task is made, and has not begun
    client.on_table(gone(client.lookup.table, {first.id}))
    assert second.id == client.lookup.part(partition_of(key)).owner
    first.kill()
    await world.until(reading.done, within_s=4.5)
    hit = await reading
    assert hit is not None


async def test_a_copy_whose_node_was_away_for_a_moment_is_made_again(world: World) -> None:
    """That nobody was heard there five times in a row is not the end of it."""
    first, second = await world.add(2)
    cache = await world.cache()
    await world.do(cache.set_many(dict.fromkeys(KEYS, 1)))
    partition = partition_of(key_of(world, first))
    second_id, stays = second.id, second.agent._residence
    assert stays is not None
    stay, stays.stay = stays.stay, None  # it renews its lease, and takes nothing
    holding = first.stay.owner.holdings[partition]
    await world.do(first.stay.owner.drop(holding, second_id))
    await world.pass_s(0.5)
    assert () == world.table.parts[partition].replicas
    stays.stay = stay
    await world.pass_s(3)
    assert 1 == len(world.table.parts[partition].replicas)


async def test_a_server_that_is_away_costs_no_copies(world: World) -> None:
    """Whose own link is away blames no copy for its silence."""
    first, second = await world.add(2)
    key = key_of(world, first)
    second.agent.is_deaf = True
    change = Change(Verb.SET, key, b"1")
    made = asyncio.ensure_future(first.stay.owner.change([(partition_of(key), change)], 1))
    await world.step()
    for site in (first, second):
        site.wire.cut()
        site.doors.shut()
    second.agent.is_deaf = False
    await world.pass_s(4)
    epoch = world.table.epoch
    for site in (first, second):
        site.wire.restore()
        site.doors.open()
    assert [Status.DONE] == [outcome.status for outcome in await world.do(made)]
    await world.pass_s(1)
    assert epoch == world.table.epoch
    assert 0 == sum(site.stay.mover.streamed for site in world.sites)


async def test_nothing_of_before_comes_back_where_the_last_copy_was_lost(world: World) -> None:
    """A node that fell behind, and has the partition when its owner dies, begins anew.

    What it has was overwritten since: better nothing than that.
    """
    first, second = await world.add(2)
    cache = await world.cache()
    key = key_of(world, first)
    name = key.removeprefix("s:")
    await world.do(cache.set(name, "old"))
    second.agent.is_deaf = True
    await world.do(cache.set(name, "new"))
    assert () == world.table.parts[partition_of(key)].replicas
    first.kill()
    await world.until(lambda: len(world.table.nodes) == 1)
    assert await world.do(cache.get(name)) is None
    assert world.table.lost


async def test_stays_that_come_and_go_leave_nothing_behind(world: World) -> None:
    """A node that cannot be in the cache for hours, and tries, is no larger for it."""
    site = await world.site()
    site.doors.shut()
    site.agent = Node()
    await world.do(site.mesh.host(site.agent))
    await world.pass_s(3)
    listening = len(site.wire._events._state_listeners)
    await world.pass_s(6)
    assert listening == len(site.wire._events._state_listeners)


async def test_clients_believe_the_table_that_is_made_after_all_was_lost(world: World) -> None:
    """A server that lost all its streams costs what was in the cache, and nothing for ever."""
    await world.add(3)
    cache = await world.cache()
    # So that the table is a later one than the next will be.
    await world.do(world.alive[0].mesh.aclose())
    await world.add()
    journal = link_of(world.alive[0].agent).journal
    await journal.delete_stream("KV_a99_t_cache")
    await world.pass_s(5)
    await world.until_quiet()
    await world.do(cache.set_many(dict.fromkeys(KEYS, 1)))
    assert len(KEYS) == len(await world.do(cache.get_many(KEYS)))


async def test_a_lease_that_is_given_up_is_not_valid_again() -> None:
    """A renewal that was under way when it was given up does not bring it back."""
    may_answer = asyncio.Event()

    class SlowBucket:
        async def create(self, *_: Any, **__: Any) -> int:
            return 1

        async def update(self, *_: Any, **__: Any) -> int:
            await may_answer.wait()
            return 2

        async def delete(self, *_: Any, **__: Any) -> None:
            return

    class Book:
        async def bucket(self) -> SlowBucket:
            return SlowBucket()

    book: Any = Book()
    lease = Lease(book, ManualClock(), Member("a", "node", "i"), deposed=lambda: None)
    await lease.take()
    renewing = asyncio.ensure_future(lease.leave())
    await asyncio.sleep(0)
    await lease.give_up()
    may_answer.set()
    await renewing
    assert not lease.is_valid()


def test_a_lease_of_nonsense_is_a_strangers() -> None:
    """Whatever bytes stand where a lease is to be, nodes go on."""
    for value in (b"", b"\xff", b'["\xff","a","b"]', b"[" * 100_000):
        assert decode_node(value) is None


def key_of(world: World, site: Site) -> str:
    """Return a full key that a node owns."""
    return next(f"s:{key}" for key in KEYS if world.owner(f"s:{key}") is site)
