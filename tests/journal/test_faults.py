"""What a journal on a server does when things break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client

from agent99.errors import (
    ClosedError,
    DeadlineExceededError,
    JournalError,
    StreamNotFoundError,
)
from agent99.journal import (
    Bucket,
    BucketConfig,
    Change,
    JetStreamJournal,
    Snapshot,
    StreamConfig,
)
from agent99.journal._follow import JetStreamFollower
from agent99.wire import Message, NatsWire
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S
from tests.journal.conftest import connect

StartNatsServer = Callable[..., NatsServer]
Changes = AsyncIterator[Snapshot | Change]


@asynccontextmanager
async def _journal(url: str, *, timeout_s: float = 5.0) -> AsyncIterator[JetStreamJournal]:
    wire = await connect(url)
    try:
        yield JetStreamJournal(wire, timeout_s=timeout_s)
    finally:
        await wire.aclose()


async def _next_snapshot(changes: Changes) -> dict[str, bytes]:
    async with asyncio.timeout(PATIENCE_S):
        async for item in changes:
            if isinstance(item, Snapshot):
                return {entry.key: entry.value for entry in item.entries}
    raise AssertionError("it ended")


async def _change(changes: Changes) -> Change:
    async with asyncio.timeout(PATIENCE_S):
        item = await anext(changes)
    assert isinstance(item, Change)
    return item


async def _put_when_back(bucket: Bucket, key: str) -> None:
    """Put until it is stored: a server that was killed may have taken the first receipt with it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await bucket.put(key, key.encode())
            except (DeadlineExceededError, JournalError):
                continue
            return


@pytest.mark.slow
async def test_follower_survives_kill(start_nats_server: StartNatsServer) -> None:
    """After kill -9 and restart a fresh snapshot comes within 2 s of the link; nothing is lost."""
    server = start_nats_server()
    async with _journal(server.url) as journal, _journal(server.url) as writer:
        bucket = await journal.bucket(BucketConfig(name="b", ttl_s=60))
        mine = await writer.bucket(BucketConfig(name="b", ttl_s=60))
        async with bucket.follow() as changes:
            assert {} == await _next_snapshot(changes)
            for round_number in range(3):
                await _put_when_back(mine, f"before-{round_number}")
                assert f"before-{round_number}" == (await _change(changes)).key
                await asyncio.to_thread(server.kill)
                writing = asyncio.create_task(_put_when_back(mine, f"during-{round_number}"))
                await asyncio.to_thread(server.start)
                back_s = time.monotonic()
                snapshot = await _next_snapshot(changes)
                assert time.monotonic() - back_s < 5
                assert snapshot[f"before-{round_number}"]
                await writing
                if f"during-{round_number}" not in snapshot:
                    assert f"during-{round_number}" == (await _change(changes)).key


@pytest.mark.slow
async def test_many_followers_come_back_without_a_storm(
    start_nats_server: StartNatsServer,
) -> None:
    """Followers that lost the same server each get a snapshot, and one consumer each is left."""
    server = start_nats_server()
    async with _journal(server.url) as journal:
        bucket = await journal.bucket(BucketConfig(name="b"))
        await bucket.put("k", b"1")
        followers = [bucket.follow() for _ in range(20)]
        changes = [await follower.__aenter__() for follower in followers]
        for each in changes:
            await _next_snapshot(each)
        await asyncio.to_thread(server.restart)
        snapshots = await asyncio.gather(*(_next_snapshot(each) for each in changes))
        assert [{"k": b"1"}] * 20 == snapshots
        assert 20 == await _consumers(server.url, "KV_b")
        for follower in followers:
            await follower.__aexit__(None, None, None)
        # The server removes them some time after it was told.
        async with asyncio.timeout(PATIENCE_S):
            while await _consumers(server.url, "KV_b"):
                pass


async def test_consumer_deleted(wire: NatsWire, oracle: Client, name: str) -> None:
    """A consumer that somebody deletes is missed, and a fresh snapshot comes."""
    bucket = await JetStreamJournal(wire, heartbeat_s=0.2).bucket(BucketConfig(name=name))
    async with bucket.follow() as changes:
        assert {} == await _next_snapshot(changes)
        for consumer in await oracle.jetstream().consumers_info(f"KV_{name}"):
            await oracle.jetstream().delete_consumer(f"KV_{name}", consumer.name)
        await bucket.put("unheard", b"1")
        assert {"unheard": b"1"} == await _next_snapshot(changes)
        await bucket.put("heard", b"2")
        assert "heard" == (await _change(changes)).key


async def test_gap(wire: NatsWire, oracle: Client, name: str) -> None:
    """A message that is missing is noticed by the next one's number, and a fresh snapshot comes."""
    bucket = await JetStreamJournal(wire).bucket(BucketConfig(name=name))
    async with bucket.follow() as changes:
        assert isinstance(changes, JetStreamFollower)
        await _next_snapshot(changes)
        (consumer,) = await oracle.jetstream().consumers_info(f"KV_{name}")
        # The server lets no client publish with such a reply, so it is put in by hand.
        reply = f"$JS.ACK.KV_{name}.{consumer.name}.1.9.9.1700000000000000000.0"
        changes._receive(Message(f"$KV.{name}.k".encode(), reply.encode(), b"after a gap"))
        assert {} == await _next_snapshot(changes)
        await bucket.put("k", b"1")
        assert "k" == (await _change(changes)).key


async def test_gap_at_the_end(wire: NatsWire, name: str) -> None:
    """A last message that is missing is noticed by the next heartbeat's count."""
    bucket = await JetStreamJournal(wire).bucket(BucketConfig(name=name))
    async with bucket.follow() as changes:
        assert isinstance(changes, JetStreamFollower)
        await _next_snapshot(changes)
        headers = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n\r\n"
        changes._receive(Message(b"inbox", b"", b"", headers))
        assert {} == await _next_snapshot(changes)


async def test_junk_in_the_inbox(wire: NatsWire, oracle: Client, name: str) -> None:
    """What a stranger sends to a follower's inbox is ignored."""
    bucket = await JetStreamJournal(wire).bucket(BucketConfig(name=name))
    async with bucket.follow() as changes:
        assert isinstance(changes, JetStreamFollower)
        await _next_snapshot(changes)
        (consumer,) = await oracle.jetstream().consumers_info(f"KV_{name}")
        assert consumer.config.deliver_subject
        for reply in ("", "somewhere", "$JSX.ACK.a.b.c.d.e.f.g"):
            await oracle.publish(consumer.config.deliver_subject, b"junk", reply=reply)
        await oracle.flush()
        changes._receive(Message(b"x", b"$JS.ACK.KV_x.stranger.1.1.1.1700000000000000000.0", b""))
        changes._receive(Message(b"x", b"$JS.ACK.KV_x.a.b.c.d.e.f", b""))
        await bucket.put("k", b"1")
        assert "k" == (await _change(changes)).key


async def test_idle_follower_is_left_alone(wire: NatsWire, oracle: Client, name: str) -> None:
    """Heartbeats are enough: a follower with nothing to hear keeps its consumer."""
    bucket = await JetStreamJournal(wire, heartbeat_s=0.1).bucket(BucketConfig(name=name))
    async with bucket.follow() as changes:
        await _next_snapshot(changes)
        (before,) = await oracle.jetstream().consumers_info(f"KV_{name}")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(changes), 1.0)
        (after,) = await oracle.jetstream().consumers_info(f"KV_{name}")
        assert before.name == after.name
        await bucket.put("k", b"1")
        assert "k" == (await _change(changes)).key


async def _no_consumer(oracle: Client, name: str) -> None:
    """Return once the bucket has none: the server removes one some time after it was told."""
    async with asyncio.timeout(PATIENCE_S):
        while await oracle.jetstream().consumers_info(f"KV_{name}"):
            pass


async def test_no_consumer_is_left(wire: NatsWire, oracle: Client, name: str) -> None:
    """Leaving, normally or by an error, removes the consumer."""
    bucket = await JetStreamJournal(wire).bucket(BucketConfig(name=name))
    async with bucket.follow() as changes:
        await _next_snapshot(changes)
        assert 1 == len(await oracle.jetstream().consumers_info(f"KV_{name}"))
    await _no_consumer(oracle, name)
    with pytest.raises(KeyError):
        async with bucket.follow() as changes:
            raise KeyError
    await _no_consumer(oracle, name)


@pytest.mark.slow
async def test_crashed_follower_leaves_no_consumer(
    nats_server: NatsServer, oracle: Client, name: str
) -> None:
    """The consumer of a follower that went without a word is removed by the server, in seconds."""
    wire = await connect(nats_server.url)
    bucket = await JetStreamJournal(wire).bucket(BucketConfig(name=name))
    removed = await oracle.subscribe(f"$JS.EVENT.ADVISORY.CONSUMER.DELETED.KV_{name}.>")
    changes = await bucket.follow().__aenter__()
    await _next_snapshot(changes)
    await wire.aclose()
    await removed.next_msg(timeout=15)
    assert [] == await oracle.jetstream().consumers_info(f"KV_{name}")


async def test_wire_closed(nats_server: NatsServer, name: str) -> None:
    """A follower whose wire is closed raises, and does not hang."""
    wire = await connect(nats_server.url)
    bucket = await JetStreamJournal(wire).bucket(BucketConfig(name=name))
    async with bucket.follow() as changes:
        await _next_snapshot(changes)
        waiting = asyncio.ensure_future(anext(changes))
        await wire.flush()
        await wire.aclose()
        with pytest.raises(ClosedError):
            async with asyncio.timeout(PATIENCE_S):
                await waiting
    with pytest.raises(ClosedError):
        await bucket.put("k", b"")


async def test_bucket_deleted_while_followed(wire: NatsWire, name: str) -> None:
    """A follower of a bucket that is deleted for good says so, in time."""
    journal = JetStreamJournal(wire, heartbeat_s=0.1, timeout_s=0.5)
    bucket = await journal.bucket(BucketConfig(name=name))
    async with bucket.follow() as changes:
        await _next_snapshot(changes)
        await journal.delete_stream(f"KV_{name}")
        with pytest.raises(StreamNotFoundError):
            async with asyncio.timeout(PATIENCE_S):
                await anext(changes)
        await journal.bucket(BucketConfig(name=name))
        await bucket.put("again", b"1")
        assert {"again": b"1"} == await _next_snapshot(changes)


@pytest.mark.slow
async def test_appends_survive_kill(start_nats_server: StartNatsServer) -> None:
    """Appends with ids, under way while the server is killed, end stored, each exactly once."""
    server = start_nats_server()
    async with _journal(server.url, timeout_s=8) as journal:
        await journal.ensure_stream(StreamConfig(name="s", subjects=("s.>",)))
        going = [asyncio.create_task(_append_numbered(journal, writer, 200)) for writer in range(8)]
        for _ in range(2):
            before = await _last_sequence(journal)
            async with asyncio.timeout(PATIENCE_S):
                while await _last_sequence(journal) < before + 20:
                    continue
            await asyncio.to_thread(server.restart)
        await asyncio.gather(*going)
        for writer in range(8):
            payloads = [r.payload async for r in journal.read("s", f"s.{writer}")]
            assert [b"%d" % i for i in range(200)] == payloads


@pytest.mark.slow
async def test_reader_survives_kill(start_nats_server: StartNatsServer) -> None:
    """A reader in the middle of a stream goes on after a restart, each record once."""
    server = start_nats_server()
    async with _journal(server.url) as journal:
        await journal.ensure_stream(StreamConfig(name="s", subjects=("s.>",)))
        for start in range(0, 6_000, 500):
            await asyncio.gather(
                *(journal.append("s.a", b"x" * 2_000) for _ in range(start, start + 500))
            )
        seen: list[int] = []
        async for record in journal.read("s"):
            seen.append(record.sequence)
            if len(seen) in (1, 2_000, 4_500):
                await asyncio.to_thread(server.restart)
        assert list(range(1, 6_001)) == seen


async def test_no_jetstream(start_nats_server: StartNatsServer, name: str) -> None:
    """A server without JetStream is told from one that is not ready yet, by the deadline."""
    server = start_nats_server(args=("-js=false",))
    async with _journal(server.url, timeout_s=0.5) as journal:
        for call in (
            lambda: journal.ensure_stream(StreamConfig(name="s", subjects=("s.>",))),
            lambda: journal.append("s.a", b""),
            lambda: journal.bucket(BucketConfig(name="b")),
        ):
            started_s = time.monotonic()
            with pytest.raises(JournalError):
                await call()
            assert time.monotonic() - started_s < 1.5


@pytest.mark.slow
async def test_frozen_server(start_nats_server: StartNatsServer) -> None:
    """Every call ends by its deadline when the server is silent."""
    server = start_nats_server()
    async with _journal(server.url, timeout_s=0.2) as journal:
        await journal.ensure_stream(StreamConfig(name="s", subjects=("s.>",)))
        bucket = await journal.bucket(BucketConfig(name="b"))
        server.stop()
        try:
            for call in (
                lambda: journal.append("s.a", b""),
                lambda: journal.append("s.a", b"", message_id="m", timeout_s=0.2),
                lambda: journal.last("s", "s.a"),
                lambda: _read_all(journal),
                lambda: bucket.put("k", b""),
                lambda: bucket.create("k", b""),
                lambda: journal.ensure_stream(StreamConfig(name="s", subjects=("s.>",))),
            ):
                started_s = time.monotonic()
                with pytest.raises(DeadlineExceededError):
                    await call()
                assert time.monotonic() - started_s < 1
            with pytest.raises(DeadlineExceededError):
                await bucket.snapshot()
        finally:
            server.cont()


async def test_cancelled_reader_of_a_follower_goes_on(
    start_nats_server: StartNatsServer,
) -> None:
    """Waiting for the next change may be cancelled at any point, also while it starts afresh."""
    server = start_nats_server()
    async with _journal(server.url) as journal:
        bucket = await journal.bucket(BucketConfig(name="b"))
        await bucket.put("k", b"1")
        async with bucket.follow() as changes:
            await _next_snapshot(changes)
            await asyncio.to_thread(server.restart)
            items: list[Snapshot | Change] = []
            async with asyncio.timeout(PATIENCE_S):
                while not items:
                    try:
                        items.append(await asyncio.wait_for(anext(changes), 0.21))
                    except TimeoutError:
                        continue
            assert isinstance(items[0], Snapshot)


async def _append_numbered(journal: JetStreamJournal, writer: int, count: int) -> None:
    sequence = 0
    for i in range(count):
        stored = await journal.append(
            f"s.{writer}", b"%d" % i, message_id=f"{writer}-{i}", expected_sequence=sequence
        )
        sequence = stored.sequence


async def _read_all(journal: JetStreamJournal) -> list[int]:
    return [record.sequence async for record in journal.read("s")]


async def _last_sequence(journal: JetStreamJournal) -> int:
    last = await journal.last("s", "s.0")
    return 0 if last is None else last.sequence


async def _consumers(url: str, stream: str) -> int:
    import nats

    client = await nats.connect(url)
    try:
        return len(await client.jetstream().consumers_info(stream))
    finally:
        await client.close()
