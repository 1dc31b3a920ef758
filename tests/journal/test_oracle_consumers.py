"""nats-py and we consume by the same consumers, and tell the same of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import (
    AckPolicy,
    DeliverPolicy,
    RetentionPolicy,
)
from nats.js.api import (
    ConsumerConfig as TheirConfig,
)

from agent99.journal import ConsumerConfig, Delivery, JetStreamJournal, StreamConfig
from agent99.wire import NatsWire
from tests._wait import PATIENCE_S


async def _journal(wire: NatsWire, name: str, count: int) -> JetStreamJournal:
    journal = JetStreamJournal(wire)
    await journal.ensure_stream(StreamConfig(name=name, subjects=(f"{name}.>",)))
    for number in range(1, count + 1):
        await journal.append(f"{name}.{number % 2}", b"%d" % number, message_id=f"m{number}")
    return journal


async def test_our_consumer_as_nats_py_sees_it(wire: NatsWire, oracle: Client, name: str) -> None:
    """A consumer that we make is configured as we say, and nats-py goes on where we were."""
    journal, js = await _journal(wire, name, 6), oracle.jetstream()
    config = ConsumerConfig(
        stream=name,
        name="c",
        subjects=(f"{name}.0", f"{name}.1"),
        from_sequence=2,
        ack_wait_s=7,
        deliveries_max=3,
        in_flight_max=50,
        inactive_s=60,
    )
    async with journal.consume(config, prefetch_max=2) as deliveries:
        held = [await anext(deliveries), await anext(deliveries)]
        info = await js.consumer_info(name, "c")
        theirs = info.config
        assert ("c", [f"{name}.0", f"{name}.1"]) == (theirs.durable_name, theirs.filter_subjects)
        assert (AckPolicy.EXPLICIT, DeliverPolicy.BY_START_SEQUENCE) == (
            theirs.ack_policy,
            theirs.deliver_policy,
        )
        assert (2, 7, 3, 50, 60) == (
            theirs.opt_start_seq,
            theirs.ack_wait,
            theirs.max_deliver,
            theirs.max_ack_pending,
            theirs.inactive_threshold,
        )
        await held[0].ack()
        await held[1].retry()
    subscription = await js.pull_subscribe_bind("c", name)
    messages = await subscription.fetch(5, timeout=5)
    found = {message.metadata.sequence.stream: message for message in messages}
    assert {3, 4, 5, 6} == found.keys()
    assert found[3].metadata.num_delivered > 1
    for message in messages:
        await message.ack_sync()
    state = await journal.consumer_state(name, "c")
    assert state is not None
    assert config == state.config
    assert (0, 0, 6) == (state.pending, state.in_flight, state.acknowledged_sequence)


async def test_their_consumer(wire: NatsWire, oracle: Client, name: str) -> None:
    """A consumer of nats-py's is ours once we consume by it; it keeps its place and its start."""
    journal, js = await _journal(wire, name, 6), oracle.jetstream()
    await js.add_consumer(
        name,
        TheirConfig(
            durable_name="c",
            description="theirs",
            deliver_policy=DeliverPolicy.NEW,
            ack_policy=AckPolicy.EXPLICIT,
            filter_subject=f"{name}.0",
            max_deliver=4,
        ),
    )
    await journal.append(f"{name}.0", b"7", message_id="m7")
    await journal.append(f"{name}.0", b"8")
    subscription = await js.pull_subscribe_bind("c", name)
    (message,) = await subscription.fetch(1)
    await message.nak()
    config = ConsumerConfig(stream=name, name="c", subjects=(f"{name}.0",))
    async with journal.consume(config) as deliveries:
        found = sorted([await anext(deliveries), await anext(deliveries)], key=_sequence)
        assert [(7, 2, "m7"), (8, 1, "")] == [
            (each.record.sequence, each.attempt, each.message_id) for each in found
        ]
        for each in found:
            await each.ack()
    info = await js.consumer_info(name, "c")
    assert ("theirs", -1, DeliverPolicy.NEW) == (
        info.config.description,
        info.config.max_deliver,
        info.config.deliver_policy,
    )
    assert 0 == info.num_ack_pending


async def test_the_same_counts(wire: NatsWire, oracle: Client, name: str) -> None:
    """We tell of a consumer, and of its stream, what nats-py tells."""
    journal, js = await _journal(wire, name, 9), oracle.jetstream()
    await journal.delete(name, 9)
    await js.delete_msg(name, 1)
    async with journal.consume(ConsumerConfig(stream=name, name="c"), prefetch_max=5) as deliveries:
        held = [await anext(deliveries) for _ in range(5)]
        await held[0].ack()
        await held[2].retry(60)
        theirs, before = await js.consumer_info(name, "c"), None
        while before != (ours := await journal.consumer_state(name, "c")):
            # What was let go makes room for more, which may come between two looks.
            before, theirs = ours, await js.consumer_info(name, "c")
        assert ours is not None
        assert theirs.delivered is not None
        assert theirs.ack_floor is not None
        assert (
            theirs.num_pending,
            theirs.num_ack_pending,
            theirs.num_redelivered,
            theirs.delivered.stream_seq,
            theirs.ack_floor.stream_seq,
        ) == (
            ours.pending,
            ours.in_flight,
            ours.redelivered,
            ours.delivered_sequence,
            ours.acknowledged_sequence,
        )
    state, info = await journal.stream_state(name), (await js.stream_info(name)).state
    assert (info.messages, info.bytes, info.first_seq, info.last_seq) == (
        state.messages,
        state.bytes,
        state.first_sequence,
        state.last_sequence,
    )


async def test_work_as_nats_py_sees_it(wire: NatsWire, oracle: Client, name: str) -> None:
    """A stream for work is nats-py's work queue: what either side acknowledges has left it."""
    journal, js = JetStreamJournal(wire), oracle.jetstream()
    await journal.ensure_stream(
        StreamConfig(name=name, subjects=(f"{name}.>",), retention="work", message_bytes_max=99)
    )
    config = (await js.stream_info(name)).config
    assert (RetentionPolicy.WORK_QUEUE, 99) == (config.retention, config.max_msg_size)
    for number in range(4):
        await js.publish(f"{name}.a", b"%d" % number)
    async with journal.consume(ConsumerConfig(stream=name, name="c"), prefetch_max=1) as ours:
        await (await anext(ours)).ack()
        held = await anext(ours)
        theirs = await js.pull_subscribe_bind("c", name)
        (message,) = await theirs.fetch(1)
        assert b"2" == message.data
        await message.ack_sync()
        await held.terminate("no use")
    state = await journal.stream_state(name)
    assert (1, 4) == (state.messages, state.first_sequence)


async def test_advisories_tell_what_we_gave_up(wire: NatsWire, oracle: Client, name: str) -> None:
    """What is terminated, or was delivered too often, is told by the server to whoever listens."""
    journal = await _journal(wire, name, 2)
    told = await oracle.subscribe(f"$JS.EVENT.ADVISORY.CONSUMER.*.{name}.c")
    await oracle.flush()
    config = ConsumerConfig(stream=name, name="c", deliveries_max=1)
    async with journal.consume(config) as deliveries:
        await (await anext(deliveries)).terminate("no such order")
        await (await anext(deliveries)).retry()
        seen = [await told.next_msg(timeout=5) for _ in range(4)]
    kinds = {message.subject.split(".")[4]: message.data for message in seen}
    assert {"CREATED", "MSG_TERMINATED", "MSG_NAKED", "MAX_DELIVERIES"} == kinds.keys()
    assert b'"reason":"no such order"' in kinds["MSG_TERMINATED"]
    assert b'"stream_seq":2' in kinds["MAX_DELIVERIES"]


async def test_half_and_half(wire: NatsWire, oracle: Client, name: str) -> None:
    """nats-py and we consume by one consumer at once: each message is done by one of us."""
    journal, js = await _journal(wire, name, 60), oracle.jetstream()
    done: list[int] = []

    async def ours() -> None:
        async for each in deliveries:
            await each.ack()
            done.append(each.record.sequence)

    async def theirs(messages: list[Msg]) -> None:
        for message in messages:
            await message.ack_sync()
            done.append(message.metadata.sequence.stream)

    async with journal.consume(ConsumerConfig(stream=name, name="c"), prefetch_max=4) as deliveries:
        consuming = asyncio.ensure_future(ours())
        subscription = await js.pull_subscribe_bind("c", name)
        async with asyncio.timeout(PATIENCE_S):
            while len(done) < 60:
                with suppress(nats.errors.TimeoutError):  # we were quicker
                    await theirs(await subscription.fetch(3, timeout=0.3))
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)
    assert list(range(1, 61)) == sorted(done)


def _sequence(delivery: Delivery) -> int:
    return delivery.record.sequence
