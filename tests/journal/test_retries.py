"""What the journal makes of a server that is not ready, lies, stops halfway or is cut off."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from agent99.errors import (
    DeadlineExceededError,
    JournalError,
    RemoteProtocolError,
    StreamNotFoundError,
    WrongSequenceError,
)
from agent99.journal import Backlog, BucketConfig, Record, StreamConfig
from agent99.journal._follow import JetStreamFollower
from tests.journal._actor import INFO, Actor, acting, batched, end_of_batch, refusal

_CONFIG = StreamConfig(name="S", subjects=("s.>",))
_ACK = b'{"stream":"S","seq":7}'


async def _read(actor: Actor) -> list[int]:
    return [record.sequence async for record in actor.journal.read("S")]


async def test_not_ready_is_asked_again() -> None:
    """An answer that says "not yet" is asked for again, with growing pauses, until it is ready."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.CREATE.S", [refusal(10008)], [refusal(10039)], [INFO])
        await actor.within(2, actor.journal.ensure_stream(_CONFIG))
        assert 3 == len(actor.heard)


async def test_never_ready_is_told_by_the_deadline() -> None:
    """A server that never gets ready ends the call, in time, with its own words."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.CREATE.S", [refusal(10008, words="unavailable")])
        with pytest.raises(JournalError, match="unavailable"):
            await actor.within(5, actor.journal.ensure_stream(_CONFIG))
        assert 5 <= len(actor.heard) <= 20


async def test_nobody_takes_it_yet() -> None:
    """An append that nobody takes, though a stream for it is known, is tried again."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.NAMES", [b'{"streams":["S"]}'])
        append = asyncio.ensure_future(actor.journal.append("s.a", b"x"))
        await actor.clock.advance(0.2)
        actor.plays("s.a", [_ACK])
        assert 7 == (await actor.within(2, append)).sequence


async def test_nobody_takes_it() -> None:
    """An append that nobody takes, and no stream is known for, is refused at once."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.NAMES", [b'{"streams":null}'])
        with pytest.raises(StreamNotFoundError):
            await actor.within(0.2, actor.journal.append("s.a", b"x"))


async def test_names_are_refused() -> None:
    """When even the question who takes it is refused, the refusal is raised."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.NAMES", [refusal(10002, 500, "broken")])
        with pytest.raises(JournalError, match="broken"):
            await actor.within(0.2, actor.journal.append("s.a", b"x"))


@pytest.mark.parametrize("junk", [b"+OK", b"", b"{}", b'{"stream":""}'])
async def test_not_a_stream(junk: bytes) -> None:
    """A receipt that no stream gives is no receipt."""
    async with acting() as actor:
        actor.plays("s.a", [junk])
        with pytest.raises(RemoteProtocolError):
            await actor.within(0.2, actor.journal.append("s.a", b"x"))


async def test_stream_not_ready() -> None:
    """A stream that says "not yet" to an append is asked again, id or not: nothing was stored."""
    async with acting() as actor:
        actor.plays("s.a", [refusal(10118)], [_ACK])
        assert 7 == (await actor.within(1, actor.journal.append("s.a", b"x"))).sequence


async def test_lost_receipt() -> None:
    """A receipt that does not come is asked for again only where a message id makes that safe."""
    async with acting() as actor:
        actor.plays("s.a", [None], [b'{"stream":"S","seq":7,"duplicate":true}'])
        actor.plays("s.b", [None])
        stored = await actor.within(3, actor.journal.append("s.a", b"x", message_id="m"))
        assert stored.duplicate
        with pytest.raises(DeadlineExceededError):
            await actor.within(6, actor.journal.append("s.b", b"x"))
        # What has no payload asks only whether the stream hears at all.
        assert ["s.a", "s.a", "s.b"] == [what for what, payload in actor.heard if payload]


async def test_cut_link() -> None:
    """When the link goes away, what may be repeated is asked again as soon as it is back."""
    async with acting() as actor:
        actor.plays("s.a", [None], [_ACK])
        append = asyncio.ensure_future(actor.journal.append("s.a", b"x", message_id="m"))
        await actor.clock.advance(0.01)
        actor.wire.cut()
        await actor.clock.advance(0.2)
        actor.wire.restore()
        assert 7 == (await actor.within(0.1, append)).sequence


async def test_direct_read_not_ready() -> None:
    """A direct read that nobody answers is explained: it may pass, or it never will."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.INFO.S", [INFO], [b'{"config":{}}'])
        actor.plays("$JS.API.STREAM.INFO.T", [refusal(10059, 404)])
        with pytest.raises(JournalError, match="does not allow"):
            await actor.within(1, actor.journal.last("S", "s.a"))
        with pytest.raises(StreamNotFoundError):
            await actor.within(1, actor.journal.last("T", "s.a"))


async def test_direct_read_answers_oddly() -> None:
    """A direct read that is answered by a status is tried again."""
    async with acting() as actor:
        odd = (b"NATS/1.0 408 Bad Request\r\n\r\n", b"")
        actor.plays("$JS.API.DIRECT.GET.S.>", [odd], [None], [batched(7, 0)])
        record = await actor.within(3, actor.journal.last("S", "s.a"))
        assert record == Record("s.a", 7, b"7", 1_767_323_045_000_000)


async def test_read_with_holes() -> None:
    """Batches that break off, have a hole or never come are asked for again: each record once."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.INFO.S", [INFO])
        actor.plays(
            "$JS.API.DIRECT.GET.S",
            [batched(1, 0), batched(3, 2)],  # 2 is lost
            [None],  # silence
            [batched(2, 0), (b"NATS/1.0\r\n\r\n", b"junk"), end_of_batch(2, 4)],
            [batched(3, 0)],  # the end is lost
            [batched(4, 0), end_of_batch(5)],  # 5 is lost
            [end_of_batch(0, 2)],  # nothing, though there is more
            [batched(5, 0), batched(6, 5), batched(7, 6), end_of_batch(7)],  # 7 came too late
        )
        assert [1, 2, 3, 4, 5, 6] == await actor.within(8, _read(actor))
        asked = [each for what, each in actor.heard if "DIRECT" in what]
        assert [1, 2, 2, 3, 4, 5, 5] == [msgspec.json.decode(each)["seq"] for each in asked]


async def test_read_of_a_lagging_replica() -> None:
    """A replica that knows less than the leader does not end the reading."""
    async with acting() as actor:
        info = {"config": {"num_replicas": 3}, "state": {"last_seq": 3}}
        actor.plays("$JS.API.STREAM.INFO.S", [msgspec.json.encode(info)])
        actor.plays(
            "$JS.API.DIRECT.GET.S",
            [batched(1, 0), end_of_batch(1)],
            [batched(2, 0), end_of_batch(2)],
        )
        actor.plays(
            "$JS.API.STREAM.MSG.GET.S",
            [b'{"message":{"subject":"s.a","seq":2}}'],
            [b'{"message":{"subject":"s.a","seq":4}}'],
        )
        assert [1, 2] == await actor.within(2, _read(actor))


async def test_read_without_an_answer() -> None:
    """A reader that hears nothing gives up after its time."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.INFO.S", [INFO])
        actor.plays("$JS.API.DIRECT.GET.S", [None])
        with pytest.raises(DeadlineExceededError):
            await actor.within(8, _read(actor))


async def test_read_where_nobody_answers() -> None:
    """A reader that nobody answers says why."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.INFO.S", [INFO])
        with pytest.raises(JournalError, match="not ready"):
            await actor.within(8, _read(actor))


async def test_backlog_of_a_server_that_stammers() -> None:
    """A count that breaks off, comes without its first message, or never, is asked for again."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.INFO.S", [INFO])
        actor.plays(
            "$JS.API.DIRECT.GET.S",
            [None],  # silence
            [batched(3, 0, pending=4)],  # the end is lost
            [end_of_batch(0, 5)],  # nothing, though there is more
            [end_of_batch(3, 4)],  # the message is lost
            [batched(3, 0, pending=4), end_of_batch(3, 4)],
        )
        found = await actor.within(8, actor.journal.backlog("S", from_sequence=2))
        assert Backlog(5, 1_767_323_045_000_000) == found
        asked = [msgspec.json.decode(each) for what, each in actor.heard if "DIRECT" in what]
        assert [(2, 1)] * 5 == [(each["seq"], each["batch"]) for each in asked]


async def test_backlog_without_an_answer() -> None:
    """A count that is not answered ends in an error, in time."""
    async with acting() as actor:
        actor.plays("$JS.API.DIRECT.GET.S", [None])
        with pytest.raises(DeadlineExceededError):
            await actor.within(8, actor.journal.backlog("S", from_sequence=1))


async def test_create_that_always_comes_too_late() -> None:
    """A create whose key is deleted and written by others again and again gives up in the end."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.CREATE.KV_b", [INFO])
        actor.plays("$KV.b.k", [refusal(10071, 400, "wrong last sequence: 9")])
        actor.plays("$JS.API.STREAM.MSG.GET.KV_b", [refusal(10037, 404)])
        bucket = await actor.within(1, actor.journal.bucket(BucketConfig(name="b")))
        with pytest.raises(WrongSequenceError) as caught:
            await actor.within(3, bucket.create("k", b"x"))
        assert None is caught.value.actual


async def test_leader_read_is_refused() -> None:
    """An error of the leader's that is no "not found" is raised."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.CREATE.KV_b", [INFO])
        actor.plays("$KV.b.k", [refusal(10071, 400, "wrong last sequence: 9")])
        actor.plays("$JS.API.STREAM.MSG.GET.KV_b", [refusal(10059, 404)])
        bucket = await actor.within(1, actor.journal.bucket(BucketConfig(name="b")))
        with pytest.raises(StreamNotFoundError):
            await actor.within(3, bucket.create("k", b"x"))


async def test_bucket_that_cannot_be_made() -> None:
    """A refusal to make a bucket, or to change one, is raised."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.CREATE.KV_b", [refusal(10052, 400, "bad")], [refusal(10058)])
        actor.plays("$JS.API.STREAM.INFO.KV_b", [INFO])
        actor.plays("$JS.API.STREAM.UPDATE.KV_b", [refusal(10052, 400, "worse")])
        with pytest.raises(JournalError, match="bad"):
            await actor.within(1, actor.journal.bucket(BucketConfig(name="b")))
        with pytest.raises(JournalError, match="worse"):
            await actor.within(1, actor.journal.bucket(BucketConfig(name="b")))


async def test_flow_control_is_answered() -> None:
    """Flow control and stalled heartbeats are answered; a stalled heartbeat ends no snapshot."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.CREATE.KV_b", [INFO])
        actor.plays("$JS.API.CONSUMER.CREATE.KV_b.*", [b'{"num_pending":5}'])
        actor.plays("$JS.FC.>", [None])
        bucket = await actor.within(1, actor.journal.bucket(BucketConfig(name="b")))
        async with bucket.follow() as changes:
            assert isinstance(changes, JetStreamFollower)
            assert changes._subscription is not None
            inbox = changes._subscription.subject
            actor.tells(inbox, b"NATS/1.0 100 FlowControl Request\r\n\r\n", reply=b"$JS.FC.one")
            actor.tells(
                inbox,
                b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 0\r\n"
                b"Nats-Consumer-Stalled: $JS.FC.two\r\n\r\n",
            )
            waiting = asyncio.ensure_future(anext(changes))
            await actor.clock.advance(0.1)
            assert not waiting.done()
            assert ["$JS.FC.one", "$JS.FC.two"] == [what for what, _ in actor.heard[-2:]]
            idle = b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 0\r\n\r\n"
            actor.tells(inbox, idle)
            await actor.within(1, waiting)


async def test_follower_of_a_silent_server() -> None:
    """A follower starts afresh when the server is silent, and its tries come ever more slowly."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.CREATE.KV_b", [INFO])
        actor.plays(
            "$JS.API.CONSUMER.CREATE.KV_b.*", [b"{}"], [refusal(10026, 400)], [None], [b"{}"]
        )
        actor.plays("$JS.API.CONSUMER.DELETE.KV_b.*", [None])
        bucket = await actor.within(1, actor.journal.bucket(BucketConfig(name="b")))
        async with bucket.follow() as changes:
            await anext(changes)
            await actor.within(30, anext(changes))
            made = [what.rsplit(".", 1)[1] for what, _ in actor.heard if "CONSUMER.CREATE" in what]
            gone = [what.rsplit(".", 1)[1] for what, _ in actor.heard if "CONSUMER.DELETE" in what]
            assert len(made) >= 4
            assert set(made) - {made[-1]} == set(gone)


async def test_follower_is_refused() -> None:
    """A bucket that cannot be followed says so on entering, and leaves nothing behind."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.CREATE.KV_b", [INFO])
        actor.plays("$JS.API.CONSUMER.CREATE.KV_b.*", [refusal(10026, 400, "too many")])
        bucket = await actor.within(1, actor.journal.bucket(BucketConfig(name="b")))
        follower = bucket.follow()
        with pytest.raises(JournalError, match="too many"):
            await actor.within(1, follower.__aenter__())
        assert "closed" in repr(follower)


async def test_shown() -> None:
    """Everything public says what it is."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.CREATE.KV_b", [INFO])
        bucket = await actor.within(1, actor.journal.bucket(BucketConfig(name="b")))
        assert "JetStreamJournal(timeout_s=5.0)" == repr(actor.journal)
        assert "JetStreamBucket('b')" == repr(bucket)
        assert "JetStreamFollower('$KV.b.a.*', new)" == repr(bucket.follow("a.*"))
        assert "JetStreamClient(timeout_s=5.0)" == repr(actor.journal._client)
