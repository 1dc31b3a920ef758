"""What every journal's buckets do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from agent99.errors import (
    InvalidNameError,
    StreamFullError,
    StreamNotFoundError,
    UsageError,
    WrongSequenceError,
)
from agent99.journal import Bucket, BucketConfig, Change, Snapshot
from agent99.testing._journal_world import (
    WAIT_S_MAX,
    MakeJournal,
    equal,
    following,
    refused,
    snapshot_of,
    told,
)

_SLUGGISH_PUTS = 8_500
_MODEL_WRITES = 400


async def check_put_and_get(make: MakeJournal) -> None:
    """A put is read back by every client; revisions grow with every write to the bucket."""
    async with make() as world:
        bucket = await world.bucket()
        equal(world.name, bucket.name, "name")
        equal(None, await bucket.get("a.b"), "nothing yet")
        first = await bucket.put("a.b", b"1")
        second = await bucket.put("A/b_c=d-9", b"")
        third = await bucket.put("a.b", b"3")
        equal(sorted({first, second, third}), [first, second, third], "revisions grow")
        mirror = await world.other.bucket(BucketConfig(name=world.name, bytes_max=16 * 1024 * 1024))
        entry = await mirror.get("a.b")
        found = None if entry is None else (entry.key, entry.value, entry.revision)
        equal(("a.b", b"3", third), found, "the last value")
        empty = await mirror.get("A/b_c=d-9")
        equal(b"", None if empty is None else empty.value, "an empty value is a value")


async def check_create(make: MakeJournal) -> None:
    """Create writes only where there is no entry; a deleted one is none."""
    async with make() as world:
        bucket = await world.bucket()
        revision = await bucket.create("k", b"1")
        error = await refused(WrongSequenceError, bucket.create("k", b"2"), "there is one")
        equal(("k", 0, revision), (error.subject, error.expected, error.actual), "it tells")
        await bucket.delete("k")
        await bucket.create("k", b"3")
        entry = await bucket.get("k")
        equal(b"3", None if entry is None else entry.value, "created again")


async def check_update(make: MakeJournal) -> None:
    """Update writes only if the entry is still at the revision."""
    async with make() as world:
        bucket = await world.bucket()
        await refused(WrongSequenceError, bucket.update("k", b"", revision=7), "no entry")
        first = await bucket.put("k", b"1")
        second = await bucket.update("k", b"2", revision=first)
        error = await refused(
            WrongSequenceError, bucket.update("k", b"3", revision=first), "somebody wrote"
        )
        equal((first, second), (error.expected, error.actual), "it tells")
        entry = await bucket.get("k")
        equal(b"2", None if entry is None else entry.value, "the winner's value")
        await refused(UsageError, bucket.update("k", b"", revision=0), "that is create")


async def check_delete(make: MakeJournal) -> None:
    """A deleted entry is gone; deleting nothing is no error; a revision guards."""
    async with make() as world:
        bucket = await world.bucket()
        await bucket.delete("nothing")
        first = await bucket.put("k", b"1")
        second = await bucket.put("k", b"2")
        await refused(WrongSequenceError, bucket.delete("k", revision=first), "an old revision")
        await bucket.delete("k", revision=second)
        equal(None, await bucket.get("k"), "gone")
        equal((), await bucket.snapshot(), "from the snapshot too")
        await refused(WrongSequenceError, bucket.delete("k", revision=second), "it is gone")
        await refused(WrongSequenceError, bucket.update("k", b"", revision=second), "likewise")
        await bucket.delete("k")


async def check_race_to_create(make: MakeJournal) -> None:
    """Of many that create the same key exactly one wins, also over a deleted entry."""
    async with make() as world:
        bucket = await world.bucket()
        await bucket.put("k", b"old")
        await bucket.delete("k")
        outcomes = await asyncio.gather(
            *(bucket.create("k", b"%d" % i) for i in range(8)), return_exceptions=True
        )
        won = [each for each in outcomes if isinstance(each, int)]
        equal(1, len(won), "one wins")
        lost = [each for each in outcomes if isinstance(each, WrongSequenceError)]
        equal(7, len(lost), "the others are told")


async def check_snapshot(make: MakeJournal) -> None:
    """A snapshot has the live entries that match, oldest revision first."""
    async with make() as world:
        bucket = await world.bucket()
        equal((), await bucket.snapshot(), "an empty bucket")
        for key in ("a.1", "b.1", "a.2", "a.1", "c"):
            await bucket.put(key, key.encode())
        await bucket.delete("c")
        equal(["b.1", "a.2", "a.1"], [e.key for e in await bucket.snapshot()], "all")
        equal(["a.2", "a.1"], [e.key for e in await bucket.snapshot("a.*")], "a pattern")
        equal(["b.1"], [e.key for e in await bucket.snapshot("b.1")], "one key")
        equal([], [e.key for e in await bucket.snapshot("a")], "no such key")


async def check_follow(make: MakeJournal) -> None:
    """A follower gets a snapshot, then each change in order, and nothing where nothing changed."""
    async with make() as world:
        bucket = await world.bucket()
        await bucket.put("a", b"1")
        await bucket.put("gone", b"1")
        await bucket.delete("gone")
        async with bucket.follow() as changes:
            equal({"a": b"1"}, await snapshot_of(changes), "snapshot")
            await bucket.delete("nothing")
            await bucket.put("b", b"2")
            equal(("put", "b", b"2"), await told(changes), "each change")
            await bucket.put("b", b"3")
            revision = await bucket.create("gone", b"4")
            await bucket.delete("a")
            equal(("put", "b", b"3"), await told(changes), "in order")
            equal(Change("put", "gone", b"4", revision), await following(changes), "revision")
            equal(("delete", "a", b""), await told(changes), "a delete")


async def check_follow_nothing(make: MakeJournal) -> None:
    """Following an empty bucket begins with an empty snapshot, at once."""
    async with make() as world:
        bucket = await world.bucket()
        async with bucket.follow("x.*") as changes:
            equal({}, await snapshot_of(changes), "empty")
            await bucket.put("y.a", b"")
            await bucket.put("x.a.b", b"")
            await bucket.put("x.a", b"1")
            equal(("put", "x.a", b"1"), await told(changes), "only what matches")


async def check_follow_ends(make: MakeJournal) -> None:
    """Leaving the context ends the iteration; two followers do not disturb each other."""
    async with make() as world:
        bucket = await world.bucket()
        async with bucket.follow() as stays:
            await snapshot_of(stays)
            async with bucket.follow() as leaves:
                await snapshot_of(leaves)
            equal("end", await anext(leaves, "end"), "ended")
            await bucket.put("k", b"1")
            equal(("put", "k", b"1"), await told(stays), "the other goes on")


async def check_ttl(make: MakeJournal) -> None:
    """An entry that is not written again within the bucket's time expires; a put renews it."""
    async with make() as world:
        bucket = await world.bucket(ttl_s=1)
        async with bucket.follow() as changes:
            await snapshot_of(changes)
            await bucket.put("renewed", b"1")
            revision = await bucket.put("left", b"1")
            await world.elapse(0.6)
            await bucket.put("renewed", b"2")
            equal("put", (await told(changes))[0], "first put")
            equal("put", (await told(changes))[0], "second put")
            equal(("put", "renewed", b"2"), await told(changes), "renewed")
            await world.elapse(0.5)
            equal(("expire", "left", b""), await told(changes), "expired")
            equal(None, await bucket.get("left"), "gone")
            equal(["renewed"], [e.key for e in await bucket.snapshot()], "the renewed one lives")
            await refused(
                WrongSequenceError, bucket.update("left", b"", revision=revision), "it is gone"
            )
            await bucket.create("left", b"3")
            equal(("put", "left", b"3"), await told(changes), "created over an expired one")


async def check_ttl_of_key(make: MakeJournal) -> None:
    """A key created with a time of its own expires after it, in a bucket that keeps for ever."""
    async with make() as world:
        bucket = await world.bucket()
        async with bucket.follow() as changes:
            await snapshot_of(changes)
            await bucket.create("short", b"1", ttl_s=1)
            await bucket.create("kept", b"1", ttl_s=1)
            equal(("put", "short", b"1"), await told(changes), "created")
            equal(("put", "kept", b"1"), await told(changes), "created")
            await bucket.put("kept", b"2")
            equal(("put", "kept", b"2"), await told(changes), "put")
            await world.elapse(1.1)
            equal(("expire", "short", b""), await told(changes), "expired")
            equal(["kept"], [e.key for e in await bucket.snapshot()], "a put has no time")
            await bucket.create("short", b"2", ttl_s=60)
            equal(("put", "short", b"2"), await told(changes), "taken again")
        for bad in (0, 0.5, 1.5, -1):
            await refused(UsageError, bucket.create("x", b"", ttl_s=bad), f"ttl {bad}")


async def check_bucket_full(make: MakeJournal) -> None:
    """A bucket at its bound refuses new keys and keeps what it has."""
    async with make() as world:
        bucket = await world.bucket(bytes_max=100_000)
        await bucket.put("a", b"x" * 60_000)
        await refused(StreamFullError, bucket.put("b", b"x" * 60_000), "no room")
        equal(["a"], [e.key for e in await bucket.snapshot()], "kept")


async def check_bucket_again(make: MakeJournal) -> None:
    """Opening a bucket again keeps its entries and makes it fit the new configuration."""
    async with make() as world:
        await (await world.bucket()).put("old", b"1")
        bucket = await world.bucket(ttl_s=1)
        equal(["old"], [e.key for e in await bucket.snapshot()], "entries stay")
        async with bucket.follow() as changes:
            await snapshot_of(changes)
            await bucket.put("new", b"1")
            equal("put", (await told(changes))[0], "put")
            await world.elapse(1.1)
            expired = {(await told(changes))[:2]}
            while ("expire", "new") not in expired:
                expired.add((await told(changes))[:2])


async def check_bucket_gone(make: MakeJournal) -> None:
    """A bucket whose stream was deleted says so."""
    async with make() as world:
        bucket = await world.bucket()
        await bucket.put("k", b"1")
        await world.other.delete_stream(f"KV_{world.name}")
        await refused(StreamNotFoundError, bucket.put("k", b""), "put")
        await refused(StreamNotFoundError, bucket.get("k"), "get")
        await refused(StreamNotFoundError, bucket.snapshot(), "snapshot")
        await refused(StreamNotFoundError, _enter(bucket, ">"), "follow")


async def check_sluggish_follower(make: MakeJournal) -> None:
    """A follower that does not read gets a fresh snapshot in place of more than it can hold."""
    async with make() as world:
        bucket = await world.bucket()
        async with bucket.follow() as changes:
            await snapshot_of(changes)
            for start in range(0, _SLUGGISH_PUTS, 500):
                await asyncio.gather(
                    *(bucket.put(f"k{i}", b"%d" % i) for i in range(start, start + 500))
                )
            wanted = {entry.key: entry.value for entry in await bucket.snapshot()}
            seen: dict[str, bytes] = {}
            snapshots = await _mirror_until(changes, seen, lambda: seen == wanted)
            equal(1, snapshots, "one fresh snapshot")


async def check_follower_is_a_mirror(make: MakeJournal) -> None:
    """Whatever is written while it starts, a follower ends with what the bucket holds."""
    async with make() as world:
        bucket = await world.bucket()
        for i in range(50):
            await bucket.put(f"k{i}", b"before")
        writing = asyncio.gather(*(_write(bucket, writer) for writer in range(4)))
        mirror: dict[str, bytes] = {}
        async with bucket.follow() as changes:
            await writing
            await bucket.put("last", b"")
            await _mirror_until(changes, mirror, lambda: "last" in mirror)
        wanted = {entry.key: entry.value for entry in await bucket.snapshot()}
        equal(wanted, mirror, "the same")


async def check_keys(make: MakeJournal) -> None:
    """Keys, patterns and bucket names that break the grammar are refused."""
    async with make() as world:
        bucket = await world.bucket()
        for bad in ("", ".a", "a.", "a..b", "a b", "a\r\nb", "ä", "a$", "a,b", "x" * 257):
            for call in (
                bucket.get(bad),
                bucket.put(bad, b""),
                bucket.create(bad, b""),
                bucket.update(bad, b"", revision=1),
                bucket.delete(bad),
                bucket.snapshot(bad),
                _enter(bucket, bad),
            ):
                await refused(InvalidNameError, call, f"key {bad!r}")
        for bad in ("*", "a.*", ">"):
            await refused(InvalidNameError, bucket.put(bad, b""), f"key {bad!r}")
        for bad in ("", "a.b", "a b", "*", "x" * 201):
            await refused(InvalidNameError, world.journal.bucket(BucketConfig(name=bad)), bad)
        for ttl_s in (0.5, 1.5, -1):
            config = BucketConfig(name="b", ttl_s=ttl_s)
            await refused(UsageError, world.journal.bucket(config), f"ttl {ttl_s}")


async def _enter(bucket: Bucket, pattern: str) -> None:
    async with bucket.follow(pattern):
        pass


async def _write(bucket: Bucket, writer: int) -> None:
    for i in range(_MODEL_WRITES // 4):
        key = f"k{(i * 7 + writer * 13) % 60}"
        if (i + writer) % 4:
            await bucket.put(key, b"%d-%d" % (writer, i))
        else:
            await bucket.delete(key)


async def _mirror_until(
    changes: AsyncIterator[Snapshot | Change], mirror: dict[str, bytes], done: Callable[[], bool]
) -> int:
    """Apply what the follower is told until `done`; returns how many snapshots came."""
    snapshots = 0
    async with asyncio.timeout(WAIT_S_MAX):
        while not done():
            item = await anext(changes)
            snapshots += isinstance(item, Snapshot)
            _apply(mirror, item)
    return snapshots


def _apply(mirror: dict[str, bytes], item: Snapshot | Change) -> None:
    if isinstance(item, Snapshot):
        mirror.clear()
        mirror.update({entry.key: entry.value for entry in item.entries})
    elif item.kind == "put":
        mirror[item.key] = item.value
    else:
        del mirror[item.key]
