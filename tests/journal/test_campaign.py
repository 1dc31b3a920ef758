"""A campaign: writers and followers of one bucket while its server is killed again and again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest

from agent99.errors import DeadlineExceededError, JournalError, TransportError
from agent99.journal import Bucket, BucketConfig, Change, JetStreamJournal, Snapshot
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S
from tests.journal.conftest import connect

_CONFIG = BucketConfig(name="b")
_KEYS = [f"agent.{number}" for number in range(40)]


class _Mirror:
    """What a follower was told, and a way to wait until it knows something."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}
        self.snapshots = 0
        self._changed = asyncio.Condition()

    async def run(self, bucket: Bucket, ready: asyncio.Event) -> None:
        async with bucket.follow() as changes:
            await self._read(changes, ready)

    async def until(self, done: Callable[[dict[str, bytes]], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: done(self.entries))

    async def _read(self, changes: AsyncIterator[Snapshot | Change], ready: asyncio.Event) -> None:
        async for item in changes:
            async with self._changed:
                self._apply(item)
                self._changed.notify_all()
            ready.set()

    def _apply(self, item: Snapshot | Change) -> None:
        if isinstance(item, Snapshot):
            self.snapshots += 1
            self.entries = {entry.key: entry.value for entry in item.entries}
        elif item.kind == "put":
            self.entries[item.key] = item.value
        else:
            # A delete or expiry is told only of a key that the follower knows.
            del self.entries[item.key]


async def _write(bucket: Bucket, seed: int, stop: asyncio.Event) -> int:
    """Put and delete at random until told to stop; what fails is of no account."""
    draw = random.Random(seed)
    written = 0
    while not stop.is_set():
        key = draw.choice(_KEYS)
        try:
            if draw.random() < 0.7:
                await bucket.put(key, b"%d" % draw.getrandbits(32))
            else:
                await bucket.delete(key)
        except (DeadlineExceededError, JournalError, TransportError):
            continue
        written += 1
    return written


@pytest.mark.slow
async def test_followers_end_with_what_the_bucket_holds(
    start_nats_server: Callable[..., NatsServer], seed: int
) -> None:
    """Whatever is killed while writers write, every follower ends as an exact mirror."""
    draw = random.Random(seed)
    server = start_nats_server()
    wires = [await connect(server.url) for _ in range(4)]
    buckets = [await JetStreamJournal(wire, timeout_s=1.0).bucket(_CONFIG) for wire in wires]
    mirrors = [_Mirror() for _ in range(6)]
    ready = [asyncio.Event() for _ in mirrors]
    stop = asyncio.Event()
    following = [
        asyncio.create_task(mirror.run(buckets[i % 2], ready[i]))
        for i, mirror in enumerate(mirrors)
    ]
    writing = [asyncio.create_task(_write(buckets[2 + i % 2], seed + i, stop)) for i in range(4)]
    try:
        for _ in range(4):
            async with asyncio.timeout(PATIENCE_S):
                for each in ready:
                    await each.wait()
                    each.clear()
            await asyncio.to_thread(server.kill if draw.random() < 0.7 else server.terminate)
            await asyncio.to_thread(server.start)
        stop.set()
        assert all(written > 0 for written in await asyncio.gather(*writing))
        await buckets[2].put("last", b"")
        wanted = {entry.key: entry.value for entry in await buckets[3].snapshot()}
        for mirror in mirrors:
            await mirror.until(lambda entries: entries == wanted)
            assert mirror.snapshots >= 2
    finally:
        for task in [*following, *writing]:
            task.cancel()
        await asyncio.gather(*following, *writing, return_exceptions=True)
        for wire in wires:
            await wire.aclose()
