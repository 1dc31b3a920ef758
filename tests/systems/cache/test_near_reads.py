"""What a client holds near is given at once, and not any more when it has changed."""

from __future__ import annotations

import asyncio
import gc
from random import Random
from typing import Any

import msgspec
import pytest

from agent99 import Mesh
from agent99.agent import link_of
from agent99.errors import DeadlineExceededError, InvalidNameError, NoAgentError, UsageError
from agent99.systems.cache import Cache
from agent99.systems.cache._keys import partition_of
from agent99.testing import MemoryEngine
from agent99.wire import Wire
from tests._wait import eventually
from tests.systems.cache._stand import Stand, stand

LONG_S = 1_000.0


async def _caches(there: Stand, count: int, near_s: float = LONG_S) -> list[Cache[bytes]]:
    """Return near caches of as many clients."""
    return [await (await there.mesh()).cache("s", bytes, near_s=near_s) for _ in range(count)]


def _wire(cache: Cache[Any]) -> Any:
    wire: Wire = cache._client.nearby._wire
    return wire


async def test_what_was_read_is_given_without_asking() -> None:
    """The second read of a key asks nobody, and `get_nowait` has it."""
    async with stand() as there:
        (cache,) = await _caches(there, 1)
        await cache.set("a", b"1")
        assert cache.get_nowait("a") is None
        assert cache.get_nowait("a", b"not here") == b"not here"
        assert await cache.get("a") == b"1"
        asked = there.stays()[0].tally.gets
        assert await cache.get("a") == b"1"
        assert await cache.get_many(["a"]) == {"a": b"1"}
        assert cache.get_nowait("a") == b"1"
        assert there.stays()[0].tally.gets == asked
        numbers = cache.near_statistics()
        assert numbers is not None
        assert (numbers.entries, numbers.hits) == (1, 3)


async def test_without_a_bound_nothing_is_held() -> None:
    """Whoever does not ask for it has no near cache: each read goes to the owner."""
    async with stand() as there:
        cache = await (await there.mesh()).cache("s", bytes)
        await cache.set("a", b"1")
        assert [await cache.get("a"), await cache.get("a")] == [b"1", b"1"]
        assert cache.get_nowait("a") is None
        assert cache.near_statistics() is None
        assert there.stays()[0].tally.gets == 2


@pytest.mark.parametrize("copies", [0, 1])
async def test_a_change_by_another_client_reaches_what_is_near(copies: int) -> None:
    """Whatever changes a key, clients that hold it do not give it any more."""
    async with stand(1 + copies, replicas=copies) as there:
        reader, writer = await _caches(there, 2)
        changes = {
            "set": (lambda: writer.set("ab", b"2"), b"2"),
            "append": (lambda: writer.append("ab", b"2"), b"12"),
            "touch": (lambda: writer.touch("ab", 50.0), b"1"),
            "delete": (lambda: writer.delete("ab"), None),
            "clear": (writer.clear, None),
            "tag": (lambda: writer.invalidate_tag("t"), None),
            "prefix": (lambda: writer.invalidate_prefix("a"), None),
        }
        for name, (change, expected) in changes.items():
            await writer.set("ab", b"1", tags=["t"])
            assert await reader.get("ab") == b"1", name
            await change()
            await eventually(lambda: reader.get_nowait("ab") is None)
            assert await reader.get("ab") == expected, name


async def test_who_made_a_change_sees_it_at_once() -> None:
    """A client's own changes are not hidden by what it holds, though no news of them came yet."""
    async with stand() as there:
        (cache,) = await _caches(there, 1)
        cache._client.nearby._namespaces["s"].subscription.unsubscribe()
        for number in range(3):
            await cache.set("a", b"%d" % number)
            assert await cache.get("a") == b"%d" % number
        await cache.delete("a")
        assert await cache.get("a") is None
        await cache.set("a", b"4")
        assert await cache.get("a") == b"4"
        await cache.clear()
        assert cache.get_nowait("a") is None


async def test_news_are_published_before_the_answer() -> None:
    """Who is told that a change was made, and tells a client on, finds that client told already."""
    async with stand(2, replicas=1) as there:
        reader, writer = await _caches(there, 2)
        for number in range(50):
            await writer.set("a", b"%d" % number)
            # In memory everything arrives in the order in which it was sent.
            assert await reader.get("a") == b"%d" % number


async def test_what_is_evicted_is_told() -> None:
    """A key that had to make room, and is set again, is not given as it was before."""
    async with stand() as there:
        reader, writer = await _caches(there, 2)
        await writer.set("a", b"1")
        assert await reader.get("a") == b"1"
        store = there.owner("s:a").store
        store._evict(store._entries[partition_of("s:a")]["s:a"])
        await eventually(lambda: reader.get_nowait("a") is None)
        await writer.set("a", b"2")
        assert await reader.get("a") == b"2"
        assert reader.get_nowait("a") == b"2"


async def test_it_lives_no_longer_than_its_bound_or_its_key() -> None:
    """Without any news a value is given up after `near_s`, and when the key expires."""
    async with stand() as there:
        (cache,) = await _caches(there, 1, near_s=100.0)
        began_s = cache._client.clock.monotonic_s()
        await cache.set("a", b"1")
        await cache.set("b", b"2", ttl_s=50.0)
        await cache.get_many(["a", "b"])
        took_s = cache._client.clock.monotonic_s() - began_s
        reads, now_s = cache._near, began_s
        assert reads is not None
        reads._now_s = lambda: now_s
        for passed_s, expected in (
            (49.9, (b"1", b"2")),
            (99.9, (b"1", None)),
            (100.1, (None, None)),
        ):
            now_s = began_s + passed_s + (took_s if passed_s > 100 else 0)
            assert (cache.get_nowait("a"), cache.get_nowait("b")) == expected


async def test_a_cut_link_gives_nothing() -> None:
    """What is held is forgotten at once when nobody could tell of changes any more."""
    async with stand() as there:
        reader, writer = await _caches(there, 2)
        await writer.set("a", b"1")
        assert await reader.get("a") == b"1"
        _wire(reader).cut()
        assert reader.get_nowait("a") is None
        with pytest.raises(DeadlineExceededError):
            await reader._near.there("a", 0.05)  # type: ignore[union-attr]  # it has one
        await writer.set("a", b"2")
        _wire(reader).restore()
        assert await reader.get("a") == b"2"


async def test_a_node_whose_link_was_cut_may_have_told_in_vain() -> None:
    """What it told last may be lost; so when it is back, clients forget what they hold."""
    async with stand() as there:
        reader, writer = await _caches(there, 2)
        await writer.set_many({"a": b"1", "b": b"1"})
        await reader.get_many(["a", "b"])
        await writer.set("b", b"2")
        assert reader.get_nowait("a") == b"1"
        node: Any = link_of(there.nodes[0]).wire
        node.cut()
        node.restore()
        await eventually(lambda: reader.get_nowait("a") is None)


@pytest.mark.slow
async def test_a_new_owner_does_not_know_what_is_held() -> None:
    """When a partition has another owner its keys are forgotten: nobody would tell of changes."""
    async with stand() as there:
        reader, writer = await _caches(there, 2)
        keys = [str(number) for number in range(300)]
        await writer.set_many(dict.fromkeys(keys, b"1"))
        await reader.get_many(keys)
        before = there.owner("s:0")
        await there.add(replicas=0)
        await there.settled(0)
        epoch = before.book.table.epoch if before.book.table else 0
        await eventually(lambda: reader.table.epoch >= epoch)
        held = {key for key in keys if reader.get_nowait(key) is not None}
        stayed = {key for key in keys if there.owner(f"s:{key}") is before}
        assert held == stayed
        assert 0 < len(stayed) < len(keys)
        await writer.set_many(dict.fromkeys(keys, b"2"))
        assert await reader.get_many(keys) == dict.fromkeys(keys, b"2")


class _Mutable(msgspec.Struct):
    items: list[int]


async def test_nobody_can_change_what_others_are_given() -> None:
    """Of a value that can be changed everybody has his own; of others all have the same."""
    async with stand() as there:
        mesh = await there.mesh()
        lists = await mesh.cache("s", _Mutable, near_s=LONG_S)
        await lists.set("a", _Mutable([1]))
        first = await lists.get("a")
        assert first is not None
        first.items.append(2)
        assert await lists.get("a") == _Mutable([1])
        texts = await mesh.cache("s", str, near_s=LONG_S)
        await texts.set("b", "text")
        assert await texts.get("b") == "text"
        assert await texts.get("b") is await texts.get("b")


async def test_one_near_cache_for_all_who_read_alike() -> None:
    """Who opens a namespace again shares what is held; another type or bound has its own."""
    async with stand() as there:
        mesh = await there.mesh()
        one, two = [await mesh.cache("s", bytes, near_s=LONG_S) for _ in range(2)]
        other = await mesh.cache("s", str, near_s=LONG_S)
        small = one.reading(near_s=LONG_S, near_entries_max=1)
        await one.set_many({"a": b"1", "b": b"2"})
        await one.get_many(["a", "b"])
        await small.get_many(["a", "b"])
        assert two.get_nowait("a") == b"1"
        assert other.get_nowait("a") is None
        assert [small.get_nowait("a"), small.get_nowait("b")] == [None, b"2"]


@pytest.mark.parametrize("near_s", [0.0, -1.0, float("nan"), 1e9, True, "1"])
async def test_a_bound_is_a_time(near_s: Any) -> None:
    """A bound that is none is refused when the namespace is opened."""
    async with stand() as there:
        mesh = await there.mesh()
        with pytest.raises(UsageError, match="near_s"):
            await mesh.cache("s", near_s=near_s)
        with pytest.raises(UsageError, match="reads"):
            await mesh.cache("s", reads=near_s)


async def test_what_is_no_key_is_refused_near_as_well() -> None:
    """A key of another type, or too long, is an error, not a miss."""
    async with stand() as there:
        (cache,) = await _caches(there, 1)
        wrong: Any
        for wrong in ("", "x" * 1_025, 7, ["a"]):
            with pytest.raises(InvalidNameError):
                await cache.get(wrong)


async def test_news_that_make_no_sense_clear_what_is_held() -> None:
    """Whatever a strange message was to say: it may have been of any key."""
    async with stand() as there:
        (cache,) = await _caches(there, 1)
        await cache.set("a", b"1")
        assert await cache.get("a") == b"1"
        nearby = cache._client.nearby
        subject = nearby._subjects.near(cache.namespace)  # type: ignore[arg-type]  # it is one
        _wire(cache).publish(subject, b"\xff{")
        await eventually(lambda: cache.get_nowait("a") is None)


async def test_races_of_readers_and_writers_leave_nothing_old(seed: int) -> None:
    """However reads, changes and news overtake each other: in the end all see what is there.

    No read gives less than what was acknowledged before the last news of the key were heard; here,
    in memory, news arrive before the answer does.
    """
    draw = Random(seed)
    async with stand(2, replicas=1) as there:
        meshes = [await there.mesh() for _ in range(4)]
        caches = [await mesh.cache("s", int, near_s=LONG_S) for mesh in meshes]
        keys = ["a", "b", "c"]
        acked = dict.fromkeys(keys, 0)

        async def work(cache: Cache[int]) -> None:
            for _ in range(150):
                key, floor = draw.choice(keys), dict(acked)
                if draw.random() < 0.3:
                    number = await cache.incr(key)
                    acked[key] = max(acked[key], number)
                else:
                    assert (await cache.get(key) or 0) >= floor[key], f"{key} went back"

        await asyncio.gather(*(work(cache) for cache in caches))
        for cache in caches:
            for key in keys:
                assert (await cache.get(key) or 0) == acked[key]


async def test_many_that_cannot_be_read_are_told_once() -> None:
    """Each key's error reaches the caller or nobody: none is left to the loop to complain of."""
    complaints: list[dict[str, Any]] = []
    async with Mesh(engine=MemoryEngine()) as mesh:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        cache = await mesh.cache("s", bytes, near_s=LONG_S)
        for _ in range(2):  # from the second time on it is known at once that there is nobody
            await _fails(cache)
        gc.collect()
    assert [] == complaints


async def _fails(cache: Cache[bytes]) -> None:
    with pytest.raises(NoAgentError):
        await cache.get_many(["a", "b", "c"])
