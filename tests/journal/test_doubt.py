"""A stream that takes messages and says nothing: which of three reasons it is."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from agent99.errors import (
    DeadlineExceededError,
    JournalError,
    StreamFullError,
    StreamNotFoundError,
)
from agent99.journal import BucketConfig
from agent99.journal._doubt import Doubts
from agent99.wire import Message
from tests.journal._actor import INFO, Actor, Line, acting, refusal

_ACK = b'{"stream":"S","seq":7}'
_REFUSED = (
    b'{"stream":"S","seq":0,'
    b'"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 6"}}'
)


def _info(replicas: int) -> bytes:
    return msgspec.json.encode({"config": {"num_replicas": replicas, "allow_direct": True}})


def _asked(actor: Actor) -> list[bool]:
    """Return of each message to the stream whether it was an append; else it asked for a no."""
    return [bool(payload) for what, payload in actor.heard if what == "s.a"]


@pytest.mark.parametrize("message_id", ["", "m"])
async def test_full_disk(message_id: str) -> None:
    """An append that a stream swallows is told as such, on the first attempt, within seconds."""
    async with acting() as actor:
        actor.plays("s.a", [None], [_REFUSED])
        actor.plays("$JS.API.STREAM.INFO.S", [_info(1)])
        began_s = actor.clock.monotonic_s()
        with pytest.raises(StreamFullError, match="restart"):
            await actor.within(3, actor.journal.append("s.a", b"x", message_id=message_id))
        assert actor.clock.monotonic_s() - began_s < 2
        assert [True, False] == _asked(actor)


@pytest.mark.parametrize(
    ("age_s", "error"), [(0.5, StreamNotFoundError), (3_600, StreamFullError)], ids=["new", "old"]
)
async def test_a_stream_that_was_made_anew(age_s: float, error: type[JournalError]) -> None:
    """Where the stream is younger than the append, it was another one that has taken it."""
    said = msgspec.json.decode(_info(1)) | {
        "created": "2026-03-01T09:00:00.5Z",
        "ts": f"2026-03-01T{9 + int(age_s // 3_600):02}:00:{0.5 + age_s % 3_600:09.6f}Z",
    }
    async with acting() as actor:
        actor.plays("s.a", [None], [_REFUSED])
        actor.plays("$JS.API.STREAM.INFO.S", [msgspec.json.encode(said)])
        with pytest.raises(error):
            await actor.within(3, actor.journal.append("s.a", b"x"))


async def test_full_disk_of_a_bucket() -> None:
    """A put that a bucket swallows is told as such."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.CREATE.KV_b", [INFO])
        actor.plays("$KV.b.k", [None], [_REFUSED])
        actor.plays("$JS.API.STREAM.INFO.S", [_info(1)])
        bucket = await actor.within(1, actor.journal.bucket(BucketConfig(name="b")))
        with pytest.raises(StreamFullError):
            await actor.within(3, bucket.put("k", b"x"))


async def test_slow_stream() -> None:
    """A receipt that is late comes before the no that is asked for, and all is well."""
    async with acting() as actor:
        actor.plays("s.a", [None], [_REFUSED])
        actor.plays("$JS.API.STREAM.INFO.S", [None])
        append = asyncio.ensure_future(actor.journal.append("s.a", b"x"))
        await actor.clock.advance(1.1)
        inbox = next(iter(actor.wire._inbox._waiting))
        actor._stage.publish(actor.wire._inbox.prefix + inbox, _ACK)
        assert 7 == (await actor.within(1, append)).sequence


_OTHER_NO = _REFUSED.replace(b"10071", b"10077")


@pytest.mark.parametrize("no", [b"junk", _OTHER_NO, _ACK])
async def test_no_conclusion(no: bytes) -> None:
    """Where the answer is another one than expected, the append ends as it would have."""
    async with acting() as actor:
        actor.plays("s.a", [None], [no])
        actor.plays("$JS.API.STREAM.INFO.S", [_info(1)])
        with pytest.raises(DeadlineExceededError):
            await actor.within(6, actor.journal.append("s.a", b"x"))
        assert [True, False] == _asked(actor)


@pytest.mark.parametrize("info", [_info(3), refusal(10059, 404), b"junk"])
async def test_replicas_may_be_missing(info: bytes) -> None:
    """A stream with replicas may only wait for them: it is waited for, too."""
    async with acting() as actor:
        actor.plays("s.a", [None], [_REFUSED], [None], [_REFUSED], [None], [_REFUSED])
        actor.plays("$JS.API.STREAM.INFO.S", [info])
        with pytest.raises(DeadlineExceededError):
            await actor.within(6, actor.journal.append("s.a", b"x", message_id="m", timeout_s=5))


async def test_lost_link() -> None:
    """What was sent over a link that is gone may be lost with it: nothing is concluded."""
    async with acting() as actor:
        actor.plays("s.a", [None], [_REFUSED])
        actor.plays("$JS.API.STREAM.INFO.S", [_info(1)])
        append = asyncio.ensure_future(actor.journal.append("s.a", b"x"))
        await actor.clock.advance(0.5)
        actor.wire.cut()
        await actor.clock.advance(0.1)
        actor.wire.restore()
        with pytest.raises(DeadlineExceededError):
            await actor.within(6, append)
        assert [True] == _asked(actor)


async def test_nothing_is_asked_in_vain() -> None:
    """An append that is answered in time is not looked after, and nothing is left of it."""
    async with acting() as actor:
        actor.plays("s.a", [_ACK])
        for number in range(3):
            await actor.within(1, actor.journal.append("s.a", b"x", message_id=f"m{number}"))
        assert "Doubts(appends=0)" == repr(actor.journal._client._doubts)
        await actor.clock.advance(5)
        assert [True, True, True] == _asked(actor)


async def test_receipt_at_the_last_moment() -> None:
    """A receipt that comes while its stream's configuration is asked for ends the doubt."""
    async with acting() as actor:
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        answer.set_result(Message(b"x", b"", _ACK))
        actor.journal._client._doubts._end(Message(b"x", b"", _info(1)), "S", 0.0, answer)
        assert _ACK == (await answer).payload


async def test_closed_wire() -> None:
    """A doubt about an append whose wire is closed harms nobody."""
    async with acting() as actor:
        doubts = Doubts(actor.wire, clock=actor.clock, after_s=1)
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        doubts.watch(b"s.a", answer)  # type: ignore[arg-type] - never answered
        await actor.wire.aclose()
        await actor.clock.advance(2)
        assert not answer.done()


_NOT_YET: list[list[Line]] = [[refusal(code)] for code in (10008, 10158, 10118)]


async def test_append_with_an_id_is_patient() -> None:
    """An append with an id goes on for 15 s, an election long; one without for 5 s."""
    async with acting() as actor:
        actor.plays("s.a", *_NOT_YET, *[[None]] * 8, [_ACK])
        actor.plays("s.b", [refusal(10008)])
        began_s = actor.clock.monotonic_s()
        with pytest.raises(JournalError):
            await actor.within(20, actor.journal.append("s.b", b"x"))
        assert 3 < actor.clock.monotonic_s() - began_s < 5.1
        began_s = actor.clock.monotonic_s()
        stored = await actor.within(20, actor.journal.append("s.a", b"x", message_id="m"))
        assert 7 == stored.sequence
        assert 5 < actor.clock.monotonic_s() - began_s < 15.1


async def test_append_ends_when_it_is_told_to() -> None:
    """`timeout_s` bounds an append, with an id and without."""
    async with acting() as actor:
        actor.plays("s.a", [None])
        for message_id in ("", "m"):
            began_s = actor.clock.monotonic_s()
            append = actor.journal.append("s.a", b"x", message_id=message_id, timeout_s=0.8)
            with pytest.raises(DeadlineExceededError):
                await actor.within(3, append)
            assert 0.4 < actor.clock.monotonic_s() - began_s < 1


async def test_nobody_knows_the_names() -> None:
    """An append that nobody takes does not wait for who knows all streams: the stream is asked."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.NAMES", [None])
        append = asyncio.ensure_future(actor.journal.append("s.a", b"x", message_id="m"))
        await actor.clock.advance(1.0)
        actor.plays("s.a", [_ACK])
        assert 7 == (await actor.within(2, append)).sequence
