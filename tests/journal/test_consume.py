"""What consuming on a real server does when things break, and how soon it ends when told to."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial

import msgspec
import pytest
from nats.aio.client import Client

from agent99.errors import ClosedError, JournalError
from agent99.journal import ConsumerConfig, Deliveries, Delivery, JetStreamJournal, StreamConfig
from agent99.testing import ChaosProxy
from agent99.wire import NatsWire
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually
from tests.journal.conftest import connect

StartNatsServer = Callable[..., NatsServer]


@asynccontextmanager
async def _journal(url: str, **options: float) -> AsyncIterator[JetStreamJournal]:
    async with aclosing(await connect(url)) as wire:
        yield JetStreamJournal(wire, **options)


async def _fill(journal: JetStreamJournal, name: str, *payloads: bytes) -> None:
    await journal.ensure_stream(StreamConfig(name=name, subjects=(f"{name}.>",)))
    for payload in payloads:
        await journal.append(f"{name}.a", payload)


async def _next(deliveries: Deliveries) -> Delivery:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(deliveries)


async def test_a_link_that_breaks(nats_server: NatsServer, wire: NatsWire, name: str) -> None:
    """After a reset consuming goes on; what is in hand can be acknowledged over the new link."""
    journal = JetStreamJournal(wire)
    await _fill(journal, name, b"1", b"2")
    config = ConsumerConfig(stream=name, name="c")
    async with (
        ChaosProxy(nats_server.port) as proxy,
        _journal(f"nats://127.0.0.1:{proxy.port}") as behind,
        behind.consume(config) as deliveries,
    ):
        first, second = await _next(deliveries), await _next(deliveries)
        proxy.reset()
        await first.ack()
        await _fill(journal, name, b"3")
        third = await _next(deliveries)
        assert (b"3", 1) == (third.record.payload, third.attempt)
        await second.ack()
        await third.ack()
        assert {"link_lost": 1} == deliveries.statistics().interruptions
    state = await journal.consumer_state(name, "c")
    assert state is not None
    assert (0, 3) == (state.in_flight, state.acknowledged_sequence)


async def test_a_link_that_is_dead(nats_server: NatsServer, wire: NatsWire, name: str) -> None:
    """Messages that get lost, or the request for them, are missed, and asked for again."""
    journal = JetStreamJournal(wire)
    await _fill(journal, name)
    config = ConsumerConfig(stream=name, name="c", ack_wait_s=1)
    async with (
        ChaosProxy(nats_server.port) as proxy,
        _journal(f"nats://127.0.0.1:{proxy.port}", heartbeat_s=0.2) as behind,
        behind.consume(config) as deliveries,
    ):
        proxy.lose("to_client")
        await _fill(journal, name, b"1", b"2")
        reading = asyncio.ensure_future(_next(deliveries))
        await eventually(lambda: deliveries.statistics().interruptions.get("silence"))
        proxy.heal()
        proxy.reset()
        found = [await reading, await _next(deliveries)]
        assert [b"1", b"2"] == sorted(each.record.payload for each in found)


async def test_acknowledged_while_it_is_deleted(wire: NatsWire, oracle: Client, name: str) -> None:
    """To acknowledge to a consumer that is gone says so at once, even before the reader knows."""
    journal = JetStreamJournal(wire)
    await _fill(journal, name, b"1")
    config = ConsumerConfig(stream=name, name="c")
    async with journal.consume(config, prefetch_max=1) as deliveries:
        delivery = await _next(deliveries)
        await oracle.jetstream().delete_consumer(name, "c")
        began_s = time.monotonic()
        with pytest.raises(JournalError, match="deleted"):
            await delivery.ack()
        assert time.monotonic() - began_s < 1
        again = await _next(deliveries)
        await again.ack()
        assert {"consumer_deleted": 1} == deliveries.statistics().interruptions


async def test_new_form_of_acknowledgements(start_nats_server: StartNatsServer) -> None:
    """A server that sends the new form of reply subjects is understood."""
    server = start_nats_server(config="feature_flags { js_ack_fc_v2: true }")
    async with _journal(server.url) as journal:
        await _fill(journal, "s", b"1", b"2")
        async with journal.consume(ConsumerConfig(stream="s", name="c")) as deliveries:
            first, second = await _next(deliveries), await _next(deliveries)
            assert first.place.count(b".") > 8  # type: ignore[attr-defined] - what is inside
            await first.ack()
            await second.retry()
            again = await _next(deliveries)
            assert (2, 2) == (again.record.sequence, again.attempt)
            await again.ack()
        state = await journal.consumer_state("s", "c")
        assert state is not None
        assert (0, 2) == (state.in_flight, state.acknowledged_sequence)


async def _cancel(task: asyncio.Future[object]) -> float:
    """Cancel, and return how long it took to end."""
    began_s = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return time.monotonic() - began_s


async def test_cancelled_at_once(start_nats_server: StartNatsServer) -> None:
    """Whatever a consumer waits for, cancellation ends it within 50 ms; nothing else is broken."""
    server = start_nats_server()
    config = ConsumerConfig(stream="s", name="c")
    async with _journal(server.url, heartbeat_s=0.2) as journal:
        await _fill(journal, "s", b"1", b"2", b"3")
        async with journal.consume(config, prefetch_max=2) as deliveries:
            first, _ = await _next(deliveries), await _next(deliveries)
            assert await _cancel(asyncio.ensure_future(anext(deliveries))) < 0.05
            server.stop()
            acknowledging = asyncio.ensure_future(first.ack())
            entering = asyncio.ensure_future(journal.consume(config).__aenter__())
            await asyncio.wait([acknowledging, entering], timeout=0.1)
            assert await _cancel(acknowledging) < 0.05
            assert await _cancel(entering) < 0.05
            server.cont()
            await first.ack()
            third = await _next(deliveries)
            assert b"3" == third.record.payload


@pytest.mark.parametrize("wait_s", [0.1, 1.0])
async def test_cancelled_consumer_leaves_at_once(
    start_nats_server: StartNatsServer, wait_s: float
) -> None:
    """A task that consumes ends soon after its cancellation, also while the server is silent."""
    server = start_nats_server()
    async with _journal(server.url, heartbeat_s=0.2) as journal:
        await _fill(journal, "s", b"1", b"2", b"3")
        held: list[Delivery] = []

        async def consume() -> None:
            async with journal.consume(ConsumerConfig(stream="s", name="c")) as deliveries:
                async for each in deliveries:
                    held.append(each)  # noqa: PERF401 - one by one: it never ends

        consuming = asyncio.ensure_future(consume())
        await eventually(lambda: len(held) == 3)
        server.stop()
        await asyncio.wait([consuming], timeout=wait_s)
        assert await _cancel(consuming) < 0.05 + 0.04
        server.cont()


async def test_leaving_is_bounded(start_nats_server: StartNatsServer) -> None:
    """Leaving ends within its bound when the server is silent, and when the wire is closed."""
    server = start_nats_server()
    config = ConsumerConfig(stream="s", name="c")
    async with _journal(server.url) as journal:
        await _fill(journal, "s", b"1", b"2")
        async with journal.consume(config) as deliveries:
            await _next(deliveries)
            server.stop()
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 2.3
        server.cont()
    async with aclosing(await connect(server.url)) as wire:
        new = ConsumerConfig(stream="s", name="new", start="new")
        async with JetStreamJournal(wire).consume(new) as deliveries:
            waiting = asyncio.ensure_future(_next(deliveries))
            await wire.flush()
            await wire.aclose()
            with pytest.raises(ClosedError):
                await waiting


async def test_hands_are_never_too_full(
    nats_server: NatsServer, wire: NatsWire, oracle: Client, name: str, seed: int
) -> None:
    """Whatever becomes of deliveries and links, no more than `prefetch_max` are in hand."""
    draw = random.Random(seed)
    journal = JetStreamJournal(wire)
    await _fill(journal, name, *(b"%d" % number for number in range(400)))
    config = ConsumerConfig(stream=name, name="c", ack_wait_s=0.5)
    done: set[int] = set()
    async with (
        ChaosProxy(nats_server.port) as proxy,
        _journal(f"nats://127.0.0.1:{proxy.port}", heartbeat_s=0.2) as behind,
        behind.consume(config, prefetch_max=9) as deliveries,
    ):
        while len(done) < 400:
            assert deliveries.statistics().held <= 9
            delivery = await _next(deliveries)
            chance = draw.random()
            if chance < 0.005:
                proxy.reset()
            elif chance < 0.1:
                await delivery.retry(draw.choice([0, 0.1]))
            elif chance < 0.12:
                pass  # forgotten: it lapses
            else:
                await delivery.ack()
                done.add(delivery.record.sequence)
    state = await journal.consumer_state(name, "c")
    assert state is not None
    assert (0, 400) == (state.pending, len(done))


@pytest.mark.slow
@pytest.mark.fault("F4", "kill -9 of the server four times under a consumer, restarted at once")
@pytest.mark.parametrize("retention", ["limits", "work"])
async def test_consumer_survives_kill(
    start_nats_server: StartNatsServer, retention: str, seed: int, fault: Fault
) -> None:
    """Everything is delivered and acknowledged; acknowledged work is forgotten by nobody."""
    draw = random.Random(seed)
    server = start_nats_server()
    log = _Log()
    stop = asyncio.Event()
    async with _journal(server.url) as journal, _journal(server.url) as writer:
        stream = StreamConfig(name="s", subjects=("s.>",))
        await journal.ensure_stream(msgspec.structs.replace(stream, retention=retention))
        appending = asyncio.ensure_future(_append(writer, stop))
        consuming = asyncio.ensure_future(_consume(journal, log))
        for _ in range(4):
            enough = len(log.handled) + draw.randrange(50, 300)
            await eventually(partial(lambda count: len(log.handled) > count, enough))
            log.killed_s.append(time.monotonic())
            await asyncio.to_thread(server.restart)
        stop.set()
        count = await appending
        await eventually(lambda: len(log.acknowledged_s) == count)
        await _cancel(consuming)
    is_work = retention == "work"
    fault.report(
        Figure("appended", count),
        Figure("delivered", len(log.handled), at_least=count, at_most=count),
        Figure("handled again", sum(log.handled.values()) - count),
        Figure("of them, after its acknowledgement", log.again, at_most=0 if is_work else None),
        Figure("acknowledged before the kill by", log.forgotten_s, "s", at_most=0.5),
    )


class _Log:
    """What a consumer did."""

    def __init__(self) -> None:
        self.handled: Counter[int] = Counter()
        self.acknowledged_s: dict[int, float] = {}
        self.killed_s: list[float] = []
        self.again = 0
        """How many came again after their acknowledgement."""
        self.forgotten_s = 0.0
        """The longest time before a kill that one of them had been acknowledged."""

    async def work(self, delivery: Delivery) -> None:
        number = int(delivery.record.payload)
        self.handled[number] += 1
        if number in self.acknowledged_s:
            self.again += 1
            done_s = self.acknowledged_s[number]
            killed_s = next((each for each in self.killed_s if each > done_s), done_s)
            self.forgotten_s = max(self.forgotten_s, killed_s - done_s)
        try:
            await delivery.ack()
        except JournalError:
            return  # it comes again
        self.acknowledged_s[number] = time.monotonic()


async def _append(journal: JetStreamJournal, stop: asyncio.Event) -> int:
    number = 0
    while not stop.is_set():
        await journal.append("s.a", b"%d" % number, message_id=f"m{number}")
        number += 1
    return number


async def _consume(journal: JetStreamJournal, log: _Log) -> None:
    config = ConsumerConfig(stream="s", name="c", ack_wait_s=2)
    async with (
        journal.consume(config, prefetch_max=32) as deliveries,
        asyncio.TaskGroup() as group,
    ):
        async for each in deliveries:
            group.create_task(log.work(each))
