"""nats-py and we read what the other wrote."""

from __future__ import annotations

import asyncio
import contextlib

import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, KeyValueConfig, StorageType
from nats.js.kv import KV_DEL, KV_PURGE

from agent99.clock import SystemClock
from agent99.errors import WrongSequenceError
from agent99.ids import SystemIds
from agent99.journal import (
    BucketConfig,
    Change,
    JetStreamJournal,
    Snapshot,
    StreamConfig,
)
from agent99.wire import NatsWire, open_wire
from tests.conftest import StartNatsServer


async def test_our_stream_as_nats_py_sees_it(wire: NatsWire, oracle: Client, name: str) -> None:
    """A stream that we make is configured as we say, and nats-py reads and writes it."""
    journal = JetStreamJournal(wire)
    await journal.ensure_stream(
        StreamConfig(
            name=name,
            subjects=(f"{name}.>",),
            messages_max=100,
            bytes_max=1_000_000,
            age_s_max=60,
            duplicate_window_s=5,
        )
    )
    js = oracle.jetstream()
    config = (await js.stream_info(name)).config
    assert DiscardPolicy.NEW == config.discard
    assert StorageType.FILE == config.storage
    assert 65_536 == config.max_consumers, "a server that is not told allows a thousand"
    assert (100, 1_000_000, 60, 5) == (
        config.max_msgs,
        config.max_bytes,
        config.max_age,
        config.duplicate_window,
    )
    await journal.append(f"{name}.a", b"ours", message_id="one")
    ack = await js.publish(f"{name}.a", b"theirs", headers={"X": "y"})
    assert 2 == ack.seq
    duplicate = await js.publish(f"{name}.a", b"again", headers={"Nats-Msg-Id": "one"})
    assert duplicate.duplicate
    assert 1 == duplicate.seq
    message = await js.get_msg(name, seq=1)
    assert b"ours" == message.data
    records = [record async for record in journal.read(name)]
    assert [b"ours", b"theirs"] == [record.payload for record in records]
    last = await journal.last(name, f"{name}.a")
    assert last is not None
    assert b"theirs" == last.payload


async def test_an_account_that_allows_few_consumers(start_nats_server: StartNatsServer) -> None:
    """Where the account allows fewer consumers than we ask for, streams and buckets are made."""
    account = "A: { jetstream: { max_consumers: 10 }, users: [{ user: a, password: a }] }"
    server = start_nats_server(config=f"accounts {{ {account} }}\nno_auth_user: a\n")
    wire = await open_wire(server.url, sender=b"few", clock=SystemClock(), ids=SystemIds())
    async with contextlib.aclosing(wire):
        journal = JetStreamJournal(wire)
        for _ in range(2):  # made, then found
            await journal.ensure_stream(StreamConfig(name="few", subjects=("few.>",)))
            bucket = await journal.bucket(BucketConfig(name="few"))
        assert 1 == (await journal.append("few.a", b"1")).sequence
        assert 1 == await bucket.put("a", b"1")


async def test_compare_and_set_against_nats_py(wire: NatsWire, oracle: Client, name: str) -> None:
    """Both sides' compare-and-set see each other's writes."""
    journal, js, subject = JetStreamJournal(wire), oracle.jetstream(), f"{name}.a"
    await journal.ensure_stream(StreamConfig(name=name, subjects=(f"{name}.>",)))
    header = "Nats-Expected-Last-Subject-Sequence"
    await js.publish(subject, b"1", headers={header: "0"})
    with pytest.raises(WrongSequenceError):
        await journal.append(subject, b"2", expected_sequence=0)
    await journal.append(subject, b"2", expected_sequence=1)
    with pytest.raises(nats.js.errors.APIError):
        await js.publish(subject, b"3", headers={header: "1"})
    assert 3 == (await js.publish(subject, b"3", headers={header: "2"})).seq


async def test_their_stream(wire: NatsWire, oracle: Client, name: str) -> None:
    """A stream of nats-py's is ours once ensured, and keeps its records and other settings."""
    js, journal = oracle.jetstream(), JetStreamJournal(wire)
    await js.add_stream(name=name, subjects=[f"{name}.>"], description="theirs", max_consumers=9)
    for i in range(5):
        await js.publish(f"{name}.{i}", b"%d" % i)
    await journal.ensure_stream(StreamConfig(name=name, subjects=(f"{name}.>",)))
    info = await js.stream_info(name)
    assert ("theirs", 9) == (info.config.description, info.config.max_consumers)
    records = [record async for record in journal.read(name, f"{name}.*", from_sequence=3)]
    assert [(3, b"2"), (4, b"3"), (5, b"4")] == [(r.sequence, r.payload) for r in records]


async def test_our_bucket_as_nats_py_sees_it(wire: NatsWire, oracle: Client, name: str) -> None:
    """nats-py reads, writes, lists and watches a bucket that we made."""
    bucket = await JetStreamJournal(wire).bucket(BucketConfig(name=name, ttl_s=60))
    await bucket.put("a.b", b"1")
    theirs = await oracle.jetstream().key_value(name)
    status = await theirs.status()
    assert (1, 60) == (status.history, status.ttl)
    entry = await theirs.get("a.b")
    assert b"1" == entry.value
    revision = await theirs.update("a.b", b"2", last=entry.revision)
    ours = await bucket.get("a.b")
    assert ours is not None
    assert (b"2", revision) == (ours.value, ours.revision)
    await theirs.put("c", b"3")
    assert ["a.b", "c"] == await theirs.keys()
    await bucket.delete("c")
    with pytest.raises(nats.js.errors.KeyNotFoundError):
        await theirs.get("c")
    assert ["a.b"] == await theirs.keys()
    await theirs.create("c", b"4")
    await theirs.delete("a.b")
    assert ["c"] == [each.key for each in await bucket.snapshot()]
    await bucket.create("a.b", b"5")
    await theirs.purge("c")
    await bucket.create("c", b"6")
    watcher = await theirs.watchall()
    seen = [await watcher.updates(), await watcher.updates()]
    assert ["a.b", "c"] == [each.key for each in seen if each is not None]
    assert None is await watcher.updates()
    await bucket.delete("c")
    update = await watcher.updates()
    assert update is not None
    assert ("c", KV_PURGE) == (update.key, update.operation)
    await watcher.stop()


async def test_their_bucket(wire: NatsWire, oracle: Client, name: str) -> None:
    """We read, write and follow a bucket that nats-py made, and it keeps its history."""
    theirs = await oracle.jetstream().create_key_value(
        KeyValueConfig(bucket=name, history=3, description="theirs")
    )
    for value in (b"1", b"2", b"3"):
        await theirs.put("k", value)
    await theirs.put("gone", b"x")
    await theirs.delete("gone")
    bucket = await JetStreamJournal(wire).bucket(BucketConfig(name=name))
    assert 3 == (await theirs.status()).history
    assert [("k", b"3")] == [(each.key, each.value) for each in await bucket.snapshot()]
    async with bucket.follow() as changes:
        snapshot = await anext(changes)
        assert isinstance(snapshot, Snapshot)
        assert [("k", b"3")] == [(each.key, each.value) for each in snapshot.entries]
        await bucket.create("gone", b"y")
        await theirs.delete("k")
        await theirs.purge("gone")
        told = [await asyncio.wait_for(anext(changes), 5) for _ in range(3)]
        kinds = [(each.kind, each.key) for each in told if isinstance(each, Change)]
        assert [("put", "gone"), ("delete", "k"), ("delete", "gone")] == kinds


async def test_expiry_as_nats_py_sees_it(wire: NatsWire, oracle: Client, name: str) -> None:
    """nats-py's watcher hears of an expiry in our bucket, and ours of one that it made."""
    bucket = await JetStreamJournal(wire).bucket(BucketConfig(name=name))
    theirs = await oracle.jetstream().key_value(name)
    watcher = await theirs.watchall()
    assert None is await watcher.updates()
    async with bucket.follow() as changes:
        await anext(changes)
        await bucket.create("ours", b"1", ttl_s=1)
        await theirs.create("theirs", b"2", msg_ttl=1)
        told = [await asyncio.wait_for(anext(changes), 5) for _ in range(4)]
        kinds = [(each.kind, each.key) for each in told if isinstance(each, Change)]
        assert [("put", "ours"), ("put", "theirs")] == kinds[:2]
        assert {("expire", "ours"), ("expire", "theirs")} == set(kinds[2:])
    updates = [await watcher.updates() for _ in range(4)]
    operations = [each.operation for each in updates if each is not None]
    assert [None, None] == operations[:2]
    assert {KV_PURGE} == set(operations[2:])
    assert KV_DEL != KV_PURGE
    await watcher.stop()
