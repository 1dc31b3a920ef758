"""What is the memory journal's own: exact time, and a model that it agrees with."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.clock import SystemClock
from agent99.errors import PayloadTooLargeError, WrongSequenceError
from agent99.ids import SeededIds
from agent99.journal import (
    BucketConfig,
    Change,
    Entry,
    Journal,
    MemoryJournal,
    Snapshot,
    StreamConfig,
)
from agent99.testing import ManualClock

_Step = tuple[str, str, int]
_steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "create", "delete", "update", "pass"]),
        st.sampled_from(["a", "b.c", "d"]),
        st.integers(0, 3),
    ),
    max_size=30,
)


async def test_expiry_is_exact() -> None:
    """An entry is there until its time and gone at it, and a follower hears of it then."""
    clock = ManualClock()
    bucket = await MemoryJournal(clock=clock).bucket(BucketConfig(name="b", ttl_s=3))
    async with bucket.follow() as changes:
        await anext(changes)
        revision = await bucket.put("k", b"1")
        await anext(changes)
        waiting = asyncio.ensure_future(anext(changes))
        await clock.advance(2.999)
        assert not waiting.done()
        assert Entry("k", b"1", revision) == await bucket.get("k")
        await clock.advance(0.001)
        assert Change("expire", "k", b"", revision + 1) == await waiting


async def test_duplicate_window_and_age_are_exact() -> None:
    """Ids and records are forgotten at their time."""
    clock = ManualClock()
    journal = MemoryJournal(clock=clock)
    await journal.ensure_stream(
        StreamConfig(name="s", subjects=("s.*",), age_s_max=10, duplicate_window_s=5)
    )
    await journal.append("s.a", b"1", message_id="m")
    await clock.advance(4.999)
    assert (await journal.append("s.a", b"1", message_id="m")).duplicate
    await clock.advance(0.001)
    assert 2 == (await journal.append("s.b", b"2", message_id="m")).sequence
    await clock.advance(5)
    assert [2] == [record.sequence async for record in journal.read("s")]
    assert None is await journal.last("s", "s.a")
    await clock.advance(5)
    assert [] == [record.sequence async for record in journal.read("s")]


async def test_payload_bound() -> None:
    """A payload over the bound is refused as a server's wire would."""
    journal = MemoryJournal(clock=ManualClock(), payload_bytes_max=10)
    bucket = await journal.bucket(BucketConfig(name="b"))
    with pytest.raises(PayloadTooLargeError):
        await bucket.put("k", b"x" * 11)
    with pytest.raises(PayloadTooLargeError):
        await journal.append("a", b"x" * 11)


async def test_real_clock() -> None:
    """With the machine's clock entries expire by themselves."""
    bucket = await MemoryJournal(clock=SystemClock()).bucket(BucketConfig(name="b"))
    async with bucket.follow() as changes:
        await anext(changes)
        await bucket.create("k", b"1", ttl_s=1)
        await anext(changes)
        change = await asyncio.wait_for(anext(changes), 5)
        assert isinstance(change, Change)
        assert "expire" == change.kind


async def test_overflow_of_a_follower() -> None:
    """A reader that fell too far behind gets a fresh snapshot, and then what comes after it."""
    bucket = await MemoryJournal(clock=ManualClock()).bucket(BucketConfig(name="b"))
    async with bucket.follow() as changes:
        await anext(changes)
        for i in range(8_200):
            await bucket.put("k", b"%d" % i)
        snapshot = await anext(changes)
        assert isinstance(snapshot, Snapshot)
        assert [b"8199"] == [entry.value for entry in snapshot.entries]
        await bucket.put("k", b"after")
        change = await anext(changes)
        assert isinstance(change, Change)
        assert b"after" == change.value


@given(_steps)
def test_bucket_against_a_model(steps: list[_Step]) -> None:
    """Whatever is done in whatever order, bucket and follower agree with a dictionary."""
    asyncio.run(_compare(steps))


async def _compare(steps: list[_Step]) -> None:
    clock = ManualClock()
    bucket = await MemoryJournal(clock=clock).bucket(BucketConfig(name="b", ttl_s=4))
    model: dict[str, tuple[bytes, int, float]] = {}
    mirror: dict[str, bytes] = {}
    async with bucket.follow() as changes:
        await anext(changes)
        for number, (verb, key, argument) in enumerate(steps):
            now = clock.monotonic_s()
            value = b"%d" % number
            revision = model[key][1] if key in model else 0
            try:
                if verb == "put":
                    model[key] = (value, await bucket.put(key, value), now + 4)
                elif verb == "create":
                    made = await bucket.create(key, value, ttl_s=argument + 1)
                    assert key not in model
                    model[key] = (value, made, now + min(argument + 1, 4))
                elif verb == "update":
                    wanted = revision if argument and revision else 9_999
                    made = await bucket.update(key, value, revision=wanted)
                    assert wanted == revision
                    model[key] = (value, made, now + 4)
                elif verb == "delete":
                    await bucket.delete(key)
                    model.pop(key, None)
                else:
                    await clock.advance(argument)
            except WrongSequenceError:
                assert (key in model) if verb == "create" else not (argument and revision)
            now = clock.monotonic_s()
            model = {each: kept for each, kept in model.items() if kept[2] > now}
            entry = await bucket.get(key)
            assert model.get(key, (None,))[0] == (None if entry is None else entry.value)
        await bucket.put("end", b"")
        while "end" not in mirror:
            change = await anext(changes)
            assert isinstance(change, Change)
            if change.kind == "put":
                mirror[change.key] = change.value
            else:
                del mirror[change.key]
        expected = {key: kept[0] for key, kept in model.items()} | {"end": b""}
        assert expected == mirror
        assert expected == {entry.key: entry.value for entry in await bucket.snapshot()}


async def test_shown() -> None:
    """Everything public says what it is."""
    journal: Journal = MemoryJournal(clock=ManualClock(), ids=SeededIds(1))
    bucket = await journal.bucket(BucketConfig(name="b"))
    follower = bucket.follow("a.*")
    assert "MemoryJournal(streams=0, buckets=1)" == repr(journal)
    assert "MemoryBucket('b')" == repr(bucket)
    assert "MemoryFollower('b', 'a.*')" == repr(follower)
