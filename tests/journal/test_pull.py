"""What a consumer asks a server for, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from agent99.errors import DeadlineExceededError, JournalError, StreamNotFoundError
from agent99.journal import ConsumerConfig
from agent99.journal._consume import JetStreamDeliveries
from agent99.journal._reply import read_reply
from agent99.wire import Message
from tests.journal._actor import INFO, Actor, Line, acting, refusal

_CONFIG = ConsumerConfig(stream="S", name="c")
_PLACE = msgspec.json.encode(
    {
        "name": "c",
        "ack_floor": {"stream_seq": 6},
        "delivered": {"consumer_seq": 99, "stream_seq": 99},
    }
)
_CREATE, _FIND = "$JS.API.CONSUMER.CREATE.S.c", "$JS.API.CONSUMER.INFO.S.c"
_NEXT = "$JS.API.CONSUMER.MSG.NEXT.S.c"


def _status(words: str, **fields: int) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"NATS/1.0 {words}\r\n{lines}\r\n".encode()


def _asked(actor: Actor) -> list[int]:
    """Return for how many messages the server was asked, request by request."""
    return [msgspec.json.decode(body)["batch"] for what, body in actor.heard if what == _NEXT]


def _said(actor: Actor) -> list[bytes]:
    """Return what the server was told of deliveries."""
    return [body for what, body in actor.heard if what.startswith("$JS.ACK")]


def _inbox(deliveries: JetStreamDeliveries) -> bytes:
    assert deliveries._pull is not None
    return deliveries._pull._inbox


@asynccontextmanager
async def _consuming(
    actor: Actor, prefetch_max: int = 10, *, acks: tuple[list[Line], ...] = ([b""],)
) -> AsyncIterator[JetStreamDeliveries]:
    actor.plays("$JS.API.STREAM.INFO.S", [INFO])
    actor.plays(_CREATE, [_PLACE])
    actor.plays(_FIND, [_PLACE])
    actor.plays(_NEXT, [None])
    actor.plays("$JS.ACK.>", *acks)
    consumer = actor.journal.consume(_CONFIG, prefetch_max=prefetch_max)
    assert isinstance(consumer, JetStreamDeliveries)
    await actor.within(1, consumer.__aenter__())
    await actor.clock.advance(0.01)
    try:
        yield consumer
    finally:
        await actor.within(5, consumer.__aexit__(None, None, None))


async def test_asks_before_it_runs_dry() -> None:
    """It asks for as much as it may hold, and again when half of that is free."""
    async with acting() as actor, _consuming(actor) as deliveries:
        assert [10] == _asked(actor)
        actor.delivers(_inbox(deliveries), *range(1, 9))
        await actor.clock.advance(0.01)
        held = [await anext(deliveries) for _ in range(8)]
        for each in held[:4]:
            await actor.within(1, each.ack())
        assert [10] == _asked(actor)
        await actor.within(1, held[4].ack())
        await actor.clock.advance(0.01)
        assert [10, 5] == _asked(actor)


async def test_asks_for_little_rather_than_for_nothing() -> None:
    """When the server owes nothing, even one free place is asked for."""
    async with acting() as actor, _consuming(actor) as deliveries:
        actor.delivers(_inbox(deliveries), *range(1, 11))
        await actor.clock.advance(0.01)
        held = [await anext(deliveries) for _ in range(10)]
        await actor.within(1, held[0].ack())
        await actor.clock.advance(0.01)
        await actor.within(1, held[1].ack())
        await actor.clock.advance(0.01)
        assert [10, 1] == _asked(actor)
        actor.delivers(_inbox(deliveries), 11)
        await actor.clock.advance(0.01)
        assert [10, 1, 1] == _asked(actor)


async def test_asks_for_heartbeats_and_an_end() -> None:
    """A request expires, tells of heartbeats that come more than twice as often, and is bounded."""
    async with acting() as actor, _consuming(actor):
        (request,) = [msgspec.json.decode(body) for what, body in actor.heard if what == _NEXT]
        assert request["expires"] > 2 * request["idle_heartbeat"] > 0
        assert request["max_bytes"] >= 2 * actor.wire.payload_bytes_max


@pytest.mark.parametrize("words", ["408 Request Timeout", "409 Message Size Exceeds MaxBytes"])
async def test_request_that_ends_is_made_again(words: str) -> None:
    """A request that expired, or brought as many bytes as it may, is followed by another one."""
    async with acting() as actor, _consuming(actor) as deliveries:
        actor.delivers(_inbox(deliveries), 1, 2)
        actor.tells(_inbox(deliveries), _status(words, Nats_Pending_Messages=8))
        await actor.clock.advance(0.01)
        assert [10, 8] == _asked(actor)
        assert {} == deliveries.statistics().interruptions


async def test_large_messages_are_asked_for_in_parts() -> None:
    """While more bytes are in hand than the bound allows, no more are asked for."""
    async with acting() as actor, _consuming(actor, 100) as deliveries:
        deliveries._hands.bytes += 17 * 1024 * 1024
        inbox = _inbox(deliveries)
        actor.delivers(inbox, 1)
        actor.tells(inbox, _status("409 Message Size Exceeds MaxBytes", Nats_Pending_Messages=99))
        await actor.clock.advance(0.01)
        assert [100] == _asked(actor)
        deliveries._hands.bytes -= 17 * 1024 * 1024
        delivery = await anext(deliveries)
        await actor.within(1, delivery.ack())
        await actor.clock.advance(0.01)
        assert [100, 100] == _asked(actor)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (_status("409 Leadership Change"), "leader_changed"),
        (_status("503"), "no_responders"),
        (_status("409 Something New"), "refused"),
    ],
)
async def test_request_that_is_given_up_is_made_anew(status: bytes, reason: str) -> None:
    """When the server gives up a request, the consumer is looked for, and a new inbox opened."""
    async with acting() as actor, _consuming(actor) as deliveries:
        told: list[str] = []
        deliveries.on_interruption(told.append)
        inbox = _inbox(deliveries)
        actor.delivers(inbox, 1, 2)
        actor.tells(inbox, status)
        await actor.clock.advance(0.01)
        assert [1, 2] == [(await anext(deliveries)).record.sequence for _ in range(2)]
        waiting = asyncio.ensure_future(anext(deliveries))
        await actor.clock.advance(1.0)
        assert [reason] == told
        assert [10, 8] == _asked(actor)
        assert inbox != _inbox(deliveries)
        actor.delivers(inbox, 3)
        actor.delivers(_inbox(deliveries), 4)
        assert 4 == (await actor.within(1, waiting)).record.sequence
        assert {reason: 1} == deliveries.statistics().interruptions


async def test_silent_server_is_asked_anew() -> None:
    """A server that owes messages and sends neither them nor heartbeats is asked anew."""
    async with acting() as actor, _consuming(actor) as deliveries:
        waiting = asyncio.ensure_future(anext(deliveries))
        for _ in range(4):
            await actor.clock.advance(1.0)
            actor.tells(_inbox(deliveries), _status("100 Idle Heartbeat"))
        assert [10] == _asked(actor)
        await actor.clock.advance(4.0)
        assert {"silence": 1} == deliveries.statistics().interruptions
        assert [10, 10] == _asked(actor)
        actor.delivers(_inbox(deliveries), 1)
        await actor.within(1, waiting)


async def test_full_hands_need_no_heartbeats() -> None:
    """A server that owes nothing may be silent."""
    async with acting() as actor, _consuming(actor, 1) as deliveries:
        actor.delivers(_inbox(deliveries), 1)
        await actor.clock.advance(10.0)
        assert {} == deliveries.statistics().interruptions


async def test_cut_link() -> None:
    """When the link goes away the server is asked anew; what is in hand stays there."""
    async with acting() as actor, _consuming(actor) as deliveries:
        actor.delivers(_inbox(deliveries), 1, 2)
        await actor.clock.advance(0.01)
        first = await anext(deliveries)
        actor.wire.cut()
        acknowledging = asyncio.ensure_future(first.ack())
        await actor.clock.advance(0.2)
        assert 2 == (await anext(deliveries)).record.sequence
        waiting = asyncio.ensure_future(anext(deliveries))
        await actor.clock.advance(0.2)
        actor.wire.restore()
        await actor.within(2, acknowledging)
        await actor.clock.advance(1.0)
        assert {"link_lost": 1} == deliveries.statistics().interruptions
        assert [10, 9] == _asked(actor)
        actor.delivers(_inbox(deliveries), 3)
        assert 3 == (await actor.within(1, waiting)).record.sequence


async def test_never_right() -> None:
    """A request that can never be right ends the reading with the server's words."""
    async with acting() as actor, _consuming(actor) as deliveries:
        actor.tells(_inbox(deliveries), _status("400 Bad Request - no such thing"))
        with pytest.raises(JournalError, match="no such thing"):
            await actor.within(1, anext(deliveries))


async def test_junk_in_the_inbox() -> None:
    """What a stranger sends to a consumer's inbox is ignored, and is not counted as owed."""
    async with acting() as actor, _consuming(actor) as deliveries:
        inbox = _inbox(deliveries)
        for reply in (b"", b"somewhere", b"$JS.ACK.S.other.1.1.1.1.0", b"$JS.ACK.S.c.a.b.c.d.e"):
            actor.tells(inbox, b"", reply=reply)
        actor.tells(inbox, b"NATS/1.0\r\nA: b\r\n\r\n")
        assert deliveries._pull is not None
        deliveries._pull._receive(Message(inbox, b"", b"", b"NATS/1.0 100"))
        await actor.clock.advance(0.01)
        assert deliveries._pull is not None
        assert 10 == deliveries._pull.owed
        assert 0 == deliveries.statistics().held


async def test_lost_answer_of_an_acknowledgement() -> None:
    """An acknowledgement whose answer is lost is sent again, and then it is done."""
    async with acting() as actor, _consuming(actor, acks=([None], [b""])) as deliveries:
        actor.delivers(_inbox(deliveries), 1)
        await actor.clock.advance(0.01)
        await actor.within(3, (await anext(deliveries)).ack())
        assert [b"+ACK", b"+ACK"] == _said(actor)
        assert 0 == deliveries.statistics().held


async def test_delivery_that_the_server_has_forgotten() -> None:
    """A verdict on what a killed server forgot ends soon: it comes again, unless it has left."""
    async with acting() as actor, _consuming(actor, acks=([None],)) as deliveries:
        actor.delivers(_inbox(deliveries), 100)
        await actor.clock.advance(0.01)
        delivery = await anext(deliveries)
        actor.plays("$JS.API.STREAM.MSG.GET.S", [b'{"message":{"subject":"s.a","seq":100}}'])
        with pytest.raises(JournalError, match="forgotten"):
            await actor.within(3, delivery.ack())
        assert 0 == deliveries.statistics().held


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(msgspec.json.decode(_PLACE), id="a leader that has not caught up"),
        pytest.param({"name": "d"}, id="a replica that has just restarted"),
    ],
)
async def test_replicas_forget_nothing(told: dict[str, object]) -> None:
    """Where a consumer has replicas nothing is forgotten: the verdict is told until it is noted."""
    async with acting() as actor, _consuming(actor, acks=([None], [None], [b""])) as deliveries:
        actor.delivers(_inbox(deliveries), 100)
        await actor.clock.advance(0.01)
        delivery = await anext(deliveries)
        deliveries._config = msgspec.structs.replace(_CONFIG, stream="T", name="d")
        actor.plays("$JS.API.CONSUMER.INFO.T.d", [msgspec.json.encode(told)])
        actor.plays("$JS.API.STREAM.INFO.T", [b'{"config":{"num_replicas":3}}'])
        actor.plays("$JS.API.STREAM.MSG.GET.T", [b'{"message":{"subject":"s.a","seq":100}}'])
        await actor.within(8, delivery.ack())
        assert 3 == len(_said(actor))


async def test_acknowledged_work_that_the_server_has_forgotten() -> None:
    """A verdict on a message that has left its stream was noted, though nobody says so."""
    async with acting() as actor, _consuming(actor, acks=([None],)) as deliveries:
        actor.delivers(_inbox(deliveries), 100)
        await actor.clock.advance(0.01)
        delivery = await anext(deliveries)
        actor.plays("$JS.API.STREAM.MSG.GET.S", [refusal(10037, 404)])
        await actor.within(3, delivery.ack())
        assert 0 == deliveries.statistics().held


async def test_what_is_said_of_deliveries() -> None:
    """Each verdict is told to the delivery's own reply subject, in the server's words."""
    async with acting() as actor, _consuming(actor) as deliveries:
        actor.delivers(_inbox(deliveries), 1, 2, 3, 4)
        await actor.clock.advance(0.01)
        one, two, three, four = [await anext(deliveries) for _ in range(4)]
        one.progress()
        await actor.within(1, one.ack())
        await actor.within(1, two.retry())
        await actor.within(1, three.retry(2.5))
        await actor.within(1, four.terminate("no use"))
        expected = [b"+WPI", b"+ACK", b"-NAK", b'-NAK {"delay": 2500000000}', b"+TERM no use"]
        assert expected == _said(actor)
        told = [what.split(".")[5] for what, _ in actor.heard if what.startswith("$JS.ACK")]
        assert ["1", "1", "2", "3", "4"] == told


async def test_acknowledging_to_nobody() -> None:
    """An acknowledgement that nobody takes is tried for long, and then it is told."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.INFO.S", [INFO])
        actor.plays(_CREATE, [_PLACE])
        actor.plays(_FIND, [_PLACE])
        actor.plays(_NEXT, [None])
        consumer = actor.journal.consume(_CONFIG)
        assert isinstance(consumer, JetStreamDeliveries)
        deliveries = await actor.within(1, consumer.__aenter__())
        actor.delivers(_inbox(deliveries), 1)
        await actor.clock.advance(0.01)
        delivery = await anext(deliveries)
        began_s = actor.clock.monotonic_s()
        with pytest.raises(JournalError, match="not ready"):
            await actor.within(20, delivery.ack())
        assert 12 < actor.clock.monotonic_s() - began_s <= 15.1
        actor.plays("$JS.ACK.>", [None], [None], [b""])
        await actor.within(10, delivery.ack())
        await actor.within(5, consumer.__aexit__(None, None, None))


async def test_acknowledging_in_a_stream_that_is_gone() -> None:
    """An acknowledgement in a stream that is gone says so, and not only after its time."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.INFO.S", [INFO])
        actor.plays(_CREATE, [_PLACE])
        actor.plays(_FIND, [refusal(10008)], [refusal(10059, 404)])
        actor.plays(_NEXT, [None])
        consumer = actor.journal.consume(_CONFIG)
        assert isinstance(consumer, JetStreamDeliveries)
        deliveries = await actor.within(1, consumer.__aenter__())
        actor.delivers(_inbox(deliveries), 1)
        await actor.clock.advance(0.01)
        delivery = await anext(deliveries)
        with pytest.raises(StreamNotFoundError):
            await actor.within(5, delivery.ack())
        await actor.within(5, consumer.__aexit__(None, None, None))


async def test_acknowledgement_that_is_never_answered() -> None:
    """An acknowledgement that is never answered ends by its deadline; the outcome is unknown."""
    async with acting() as actor, _consuming(actor) as deliveries:
        actor.delivers(_inbox(deliveries), 1)
        await actor.clock.advance(0.01)
        delivery = await anext(deliveries)
        actor.wire.cut()
        with pytest.raises(DeadlineExceededError):
            await actor.within(20, delivery.ack())
        actor.wire.restore()
        await actor.within(1, delivery.ack())


async def test_deleted_stream_is_waited_for_a_while() -> None:
    """A stream that is gone may come back within the journal's time; then its reader is told."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.INFO.S", [INFO], [refusal(10059, 404)])
        actor.plays(_CREATE, [_PLACE])
        actor.plays(_FIND, [refusal(10059, 404)])
        actor.plays(_NEXT, [None])
        consumer = actor.journal.consume(_CONFIG)
        assert isinstance(consumer, JetStreamDeliveries)
        deliveries = await actor.within(1, consumer.__aenter__())
        actor.tells(_inbox(deliveries), _status("409 Consumer Deleted"))
        began_s = actor.clock.monotonic_s()
        with pytest.raises(StreamNotFoundError):
            await actor.within(10, anext(deliveries))
        assert 4 <= actor.clock.monotonic_s() - began_s <= 6
        await actor.within(5, consumer.__aexit__(None, None, None))


@pytest.mark.parametrize(
    ("config", "stream", "expected"),
    [
        (_CONFIG, {}, {"deliver_policy": "by_start_sequence", "opt_start_seq": 7}),
        (
            msgspec.structs.replace(_CONFIG, start="new"),
            {},
            {"deliver_policy": "by_start_sequence", "opt_start_seq": 7},
        ),
        # The stream is shorter than it was: what comes next has a sequence that it had before.
        (
            _CONFIG,
            {"state": {"last_seq": 4}},
            {"deliver_policy": "by_start_sequence", "opt_start_seq": 5},
        ),
        (_CONFIG, {"created": "another"}, {"deliver_policy": "all"}),
        (
            msgspec.structs.replace(_CONFIG, start="new"),
            {"created": "another"},
            {"deliver_policy": "by_start_sequence", "opt_start_seq": 1},
        ),
        (_CONFIG, {"config": {"retention": "workqueue"}}, {"deliver_policy": "all"}),
    ],
)
async def test_where_a_deleted_consumer_begins(
    config: ConsumerConfig, stream: dict[str, object], expected: dict[str, object]
) -> None:
    """A consumer that was deleted is made again behind what was acknowledged, and loses nothing."""
    async with acting() as actor:
        now = {"config": {}, "created": "one", "state": {"last_seq": 9}} | stream
        first = {"config": {}, "created": "one", "state": {"last_seq": 9}}
        actor.plays(
            "$JS.API.STREAM.INFO.S", [msgspec.json.encode(first)], [msgspec.json.encode(now)]
        )
        actor.plays(_CREATE, [_PLACE])
        actor.plays(_FIND, [refusal(10014, 404)])
        actor.plays(_NEXT, [None])
        consumer = actor.journal.consume(config)
        assert isinstance(consumer, JetStreamDeliveries)
        deliveries = await actor.within(1, consumer.__aenter__())
        actor.tells(_inbox(deliveries), _status("409 Consumer Deleted"))
        waiting = asyncio.ensure_future(anext(deliveries))
        await actor.clock.advance(1.0)
        made = [
            msgspec.json.decode(body)["config"] for what, body in actor.heard if what == _CREATE
        ]
        start = {name: made[1].get(name) for name in expected}
        assert expected == start
        waiting.cancel()
        await actor.within(5, consumer.__aexit__(None, None, None))


async def test_floor_is_asked_for_now_and_then() -> None:
    """Up to where all is acknowledged is asked for every 30 s: there one would begin again."""
    async with acting() as actor:
        actor.plays("$JS.API.STREAM.INFO.S", [INFO])
        actor.plays(_CREATE, [_PLACE])
        actor.plays(
            _FIND,
            [b"junk"],
            [refusal(10014, 404)],
            [None],
            [msgspec.json.encode({"delivered": {"consumer_seq": 9}})],
            [msgspec.json.encode({"delivered": {"consumer_seq": 0, "stream_seq": 20}})],
        )
        actor.plays(_NEXT, [None])
        consumer = actor.journal.consume(_CONFIG)
        assert isinstance(consumer, JetStreamDeliveries)
        deliveries = await actor.within(1, consumer.__aenter__())
        for number in range(5):
            assert 6 == deliveries._floor
            for _ in range(32):
                actor.tells(_inbox(deliveries), _status("100 Idle Heartbeat"))
                await actor.clock.advance(1.0)
            assert number + 1 == sum(what == _FIND for what, _ in actor.heard)
        assert 20 == deliveries._floor
        await actor.within(5, consumer.__aexit__(None, None, None))


async def test_leaving_gives_back() -> None:
    """What was not read is given back on leaving, and so is what comes while leaving."""
    async with acting() as actor:
        async with _consuming(actor) as deliveries:
            inbox = _inbox(deliveries)
            actor.delivers(inbox, 1, 2, 3)
            await actor.clock.advance(0.01)
            read = await anext(deliveries)
        late = b"$JS.ACK.S.c.1.4.4.1767323045000000000.0"
        deliveries.take(Message(b"s.a", late, b""), read_reply(late))
        await actor.clock.advance(0.01)
        backs = {what.split(".")[5] for what, body in actor.heard if body == b"-NAK"}
        assert {"2", "3", "4"} == backs
        await actor.within(1, read.ack())
        with pytest.raises(StopAsyncIteration):
            await anext(deliveries)


async def test_shown() -> None:
    """A consumer says what it is and where it stands."""
    async with acting() as actor:
        async with _consuming(actor, 3) as deliveries:
            assert "JetStreamDeliveries('c', consuming, Hands(held=0, held_max=3))" == repr(
                deliveries
            )
            assert "Pull('c', owed=3)" == repr(deliveries._pull)
            actor.delivers(_inbox(deliveries), 5)
            await actor.clock.advance(0.01)
            delivery = await anext(deliveries)
            assert "5, attempt=1)" in repr(delivery)
        assert "closed" in repr(deliveries)
        assert "Retry(" in repr(_retry(actor))


def _retry(actor: Actor) -> object:
    from agent99.journal._client import Retry

    return Retry(actor.journal._client, 1.0)
