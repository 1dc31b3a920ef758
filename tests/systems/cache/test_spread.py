"""Hot keys are read from their copies too, where that is wanted, and nobody goes back in time."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.cache import Cache
from agent99.systems.cache._hot import HotBoard
from agent99.systems.cache._item import Item
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._spread import HOT_MAX, HOT_S, Spread
from agent99.systems.cache._table import Part
from tests.systems.cache._stand import Stand, stand

_PART = Part(1, "o", ("a", "b"), ())


def test_owner_and_copies_take_turns() -> None:
    """Each is asked as often as the others, while the key is hot; then the owner alone."""
    spread = Spread()
    assert spread.turn("k", _PART, 0.0) is None
    spread.heard(["k"], 0.0)
    turns = [spread.turn("k", _PART, HOT_S - 0.1) for _ in range(6)]
    assert turns == ["a", "b", None] * 2
    assert spread.turn("other", _PART, 0.0) is None
    assert spread.turn("k", Part(1, "o"), 0.0) is None
    assert spread.is_hot("k")
    assert spread.turn("k", _PART, HOT_S) is None
    assert not spread.is_hot("k")


@given(st.lists(st.integers(1, 9)))
def test_no_older_version_is_accepted_than_before(versions: list[int]) -> None:
    """What is accepted of a hot key never goes back; of others nothing is remembered."""
    spread = Spread()
    spread.heard(["k"], 0.0)
    accepted = [version for version in versions if spread.accepts("k", version)]
    assert accepted == sorted(accepted)
    assert max(versions, default=0) == max(accepted, default=0)
    assert all(spread.accepts("other", version) for version in versions)


def test_hot_keys_are_bounded() -> None:
    """Nodes that tell of more and more hot keys fill no memory."""
    spread = Spread()
    spread.heard(map(str, range(3 * HOT_MAX)), 0.0)
    assert len(spread._hot) <= HOT_MAX


def test_a_node_tells_of_hot_keys_it_is_asked_for(seed: int) -> None:
    """Once a second it looks which keys are hot, and tells those who ask for them."""
    board = HotBoard(0, Random(seed).random)
    keys = [key for number in range(1_000) for key in ("hot", str(number))]
    assert board.seen(keys, 999_999) == ()
    assert board.seen(["1", "hot"], 1_000_000) == ("hot",)
    assert board.seen(["1"], 1_000_001) == ()
    assert board.seen(["hot"], 60_000_000) == ()


async def _spread_cache(there: Stand, key: str) -> Cache[bytes]:
    """Return a cache that reads from any, to which a key is hot."""
    cache = await (await there.mesh()).cache("s", bytes, reads="any")
    cache._client.copies._spread.heard([f"s:{key}"], cache._client.clock.monotonic_s() + 1e6)
    return cache


async def test_hot_keys_are_read_from_copies() -> None:
    """With two copies each of three nodes is asked for a third of the reads; others not at all."""
    async with stand(3, replicas=2) as there:
        cache = await _spread_cache(there, "a")
        await cache.set_many({"a": b"1", "b": b"2"})
        before = [stay.tally.gets for stay in there.stays()]
        for _ in range(30):
            assert await cache.get("a") == b"1"
        asked = [stay.tally.gets - old for stay, old in zip(there.stays(), before, strict=True)]
        assert asked == [10, 10, 10]
        assert await cache.get_many(["a", "b"]) == {"a": b"1", "b": b"2"}
        plain = await (await there.mesh()).cache("s", bytes)
        owner = there.owner("s:a")
        gets = owner.tally.gets
        for _ in range(9):
            assert await plain.get("a") == b"1"
        assert owner.tally.gets == gets + 9


async def test_what_a_copy_has_not_the_owner_is_asked_for() -> None:
    """A miss at a copy says nothing, and a copy without a lease is not believed at all."""
    async with stand(2, replicas=1) as there:
        cache = await _spread_cache(there, "a")
        assert [await cache.get("a") for _ in range(4)] == [None] * 4
        await cache.set("a", b"1")
        owner = there.owner("s:a")
        (copy,) = [stay for stay in there.stays() if stay is not owner]
        partition = partition_of("s:a")
        version = owner.store.version(partition, "s:a")
        # The copy shows what its owner does not show yet.
        copy.store.apply(partition, Item("s:a", version + 1, b"2"), copy.now_us())
        seen = [await cache.get("a") for _ in range(2)]
        assert b"2" in seen
        copy.lease.lose()
        owner.store.apply(partition, Item("s:a", version + 1, b"2"), owner.now_us())
        assert [await cache.get("a") for _ in range(4)] == [b"2"] * 4


@pytest.mark.parametrize("copies", [1, 2])
async def test_no_reader_goes_back_while_a_hot_key_changes(copies: int) -> None:
    """Whoever reads here and there sees versions in their order, though copies see them first."""
    async with stand(copies + 1, replicas=copies) as there:
        cache = await _spread_cache(there, "a")
        numbers = await (await there.mesh()).cache("s", int)
        await numbers.set("a", 0)
        reader = await (await there.mesh()).cache("s", int, reads="any")
        reader._client.copies._spread.heard(["s:a"], reader._client.clock.monotonic_s() + 1e6)
        is_over = False

        async def read() -> int:
            last = 0
            while not is_over:
                value = await reader.get("a")
                assert value is not None
                assert value >= last, "it went back"
                last = value
            return last

        reading = asyncio.ensure_future(read())
        for _ in range(200):
            await numbers.incr("a")
        is_over = True
        assert await reading <= 200
        assert await numbers.get("a") == 200
        del cache


async def test_hot_keys_held_near_are_those_that_an_owner_told() -> None:
    """What a copy answered is given, not held: copies tell nobody of changes."""
    async with stand(2, replicas=1) as there:
        await _spread_cache(there, "a")
        mesh = await there.mesh()
        cache = await mesh.cache("s", bytes, near_s=100.0, reads="any")
        cache._client.copies._spread.heard(["s:a"], cache._client.clock.monotonic_s() + 1e6)
        await cache.set("a", b"1")
        assert await cache.get("a") == b"1"
        assert cache.get_nowait("a") is None
        assert await cache.get("a") == b"1"
        assert cache.get_nowait("a") == b"1"
