"""What every journal's consumers deliver, and what becomes of it."""

from __future__ import annotations

import asyncio

from agent99.errors import UsageError
from agent99.journal import Deliveries, DeliveriesStatistics
from agent99.testing._journal_world import (
    MakeJournal,
    all_of,
    delivered,
    equal,
    nothing,
    records,
    refused,
)

_MANY = 500


async def check_consume(make: MakeJournal) -> None:
    """A consumer delivers what is stored and what comes, in order, each once when acknowledged."""
    async with make() as world:
        await world.stream()
        await world.journal.append(f"{world.name}.a", b"one", message_id="id-1")
        await world.journal.append(f"{world.name}.b.c", b"")
        async with world.journal.consume(world.consumer(ack_wait_s=0.5)) as deliveries:
            first, second = await all_of(deliveries, 2)
            stored = await records(world.other, world.name)
            equal(stored, [first.record, second.record], "the records as they are stored")
            equal((1, 1), (first.attempt, second.attempt), "the first attempt")
            equal(("id-1", ""), (first.message_id, second.message_id), "message ids")
            await second.ack()
            await first.ack()
            await world.journal.append(f"{world.name}.a", b"three")
            third = await delivered(deliveries)
            equal((3, b"three"), (third.record.sequence, third.record.payload), "what comes")
            await third.ack()
            await nothing(world, deliveries, 1.5, "what was acknowledged does not come again")
        state = await world.state()
        equal((0, 0, 0), (state.pending, state.in_flight, state.redelivered), "all is done")
        equal((3, 3), (state.delivered_sequence, state.acknowledged_sequence), "its place")
        equal(3, len(await records(world.journal, world.name)), "the stream keeps it all")


async def check_consume_again(make: MakeJournal) -> None:
    """Who comes back goes on where all was finished; what was not read was given back at once."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2", "3", "4", "5")
        config = world.consumer(ack_wait_s=30)
        async with world.journal.consume(config) as deliveries:
            first, second = await all_of(deliveries, 2)
            await first.ack()
        async with (
            asyncio.timeout(config.ack_wait_s / 2),
            world.other.consume(config) as deliveries,
        ):
            again = await all_of(deliveries, 3)
            equal([3, 4, 5], sorted(each.record.sequence for each in again), "the unread")
            await second.retry()
            last = await delivered(deliveries)
            equal((2, 2), (last.record.sequence, last.attempt), "what was read, once given back")
            for each in (*again, last):
                await each.ack()
        equal(5, (await world.state()).acknowledged_sequence, "all is done")


async def check_retry(make: MakeJournal) -> None:
    """What is given back comes again after its delay, with a higher attempt; others go on."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2")
        async with world.journal.consume(world.consumer(), prefetch_max=2) as deliveries:
            first, second = await all_of(deliveries, 2)
            await first.retry(1.0)
            await second.retry()
            again = await delivered(deliveries)
            equal((2, 2), (again.record.sequence, again.attempt), "without a delay at once")
            await again.ack()
            await world.fill("3", "4", "5")
            for sequence in (3, 4, 5):
                other = await delivered(deliveries)
                equal(sequence, other.record.sequence, "a delayed one holds nobody up")
                await other.ack()
            state = await world.state()
            equal((1, 0), (state.in_flight, state.pending), "it waits for its retry")
            await nothing(world, deliveries, 0.4, "not before its delay")
            await world.elapse(0.7)
            again = await delivered(deliveries)
            equal((1, 2), (again.record.sequence, again.attempt), "after its delay")
            await again.retry(0.1)
            await world.elapse(0.3)
            again = await delivered(deliveries)
            equal((1, 3), (again.record.sequence, again.attempt), "and again")
            equal(1, (await world.state()).redelivered, "it is counted")
            await again.ack()


async def check_ack_wait(make: MakeJournal) -> None:
    """What nobody finishes comes again after `ack_wait_s`, unless it is kept; its place is free."""
    async with make() as world:
        await world.stream()
        await world.fill("kept", "lost", "next")
        config = world.consumer(ack_wait_s=0.8)
        async with world.journal.consume(config, prefetch_max=2) as deliveries:
            kept, lost = await all_of(deliveries, 2)
            for _ in range(3):
                await world.elapse(0.4)
                kept.progress()
            again = await delivered(deliveries)
            equal(1, deliveries.statistics().lapsed, "the one that nobody kept is counted")
            await kept.ack()
            after = await delivered(deliveries)
            found = sorted((each.record.payload, each.attempt) for each in (again, after))
            equal([(b"lost", 2), (b"next", 1)], found, "it comes again, and its place was free")
            await again.ack()
            await after.ack()
            await lost.ack()
            await nothing(world, deliveries, 1.0, "all is done")
            equal(0, deliveries.statistics().held, "nothing is in hand")


async def check_unread_lapses(make: MakeJournal) -> None:
    """What was taken back before anybody read it is not read twice."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2", "3")
        async with world.journal.consume(world.consumer(ack_wait_s=0.5)) as deliveries:
            await (await delivered(deliveries)).ack()
            await world.elapse(1.2)
            seen = await all_of(deliveries, 2)
            for each in seen:
                await each.ack()
            equal([2, 3], sorted(each.record.sequence for each in seen), "each once")
            equal([True, True], [each.attempt > 1 for each in seen], "the newest delivery")
            await nothing(world, deliveries, 0.7, "all is done")


async def check_terminate(make: MakeJournal) -> None:
    """What is given up does not come again, and stays in the stream."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2")
        async with world.journal.consume(world.consumer(ack_wait_s=0.5)) as deliveries:
            first, second = await all_of(deliveries, 2)
            await first.terminate("no such order: 7")
            await second.ack()
            await nothing(world, deliveries, 1.2, "given up")
        equal(2, (await world.state()).acknowledged_sequence, "it is finished")
        equal(2, len(await records(world.journal, world.name)), "the stream keeps it")


async def check_prefetch(make: MakeJournal) -> None:
    """Never more than `prefetch_max` are in hand; each that is finished makes place for one."""
    async with make() as world:
        await world.stream()
        await world.fill(*(str(number) for number in range(12)))
        async with world.journal.consume(world.consumer(), prefetch_max=4) as deliveries:
            held = await all_of(deliveries, 4)
            await nothing(world, deliveries, 0.3, "its hands are full")
            equal(4, (await world.state()).in_flight, "the server gave no more")
            await held[0].ack()
            await held[1].retry(60)
            await held[2].terminate("x")
            more = await all_of(deliveries, 3)
            equal([5, 6, 7], [each.record.sequence for each in more], "place for three")
            await nothing(world, deliveries, 0.3, "full again")
            equal((4, 0), _counts(deliveries.statistics()), "held and unread")


async def check_finished_once(make: MakeJournal) -> None:
    """A delivery is finished once; what makes no sense is refused."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2")
        async with world.journal.consume(world.consumer()) as deliveries:
            first, second = await all_of(deliveries, 2)
            await first.ack()
            await refused(UsageError, first.ack(), "twice")
            await refused(UsageError, first.retry(), "after an ack")
            await refused(UsageError, first.terminate("x"), "after an ack")
            first.progress()
            for delay_s in (-1, float("nan"), float("inf")):
                await refused(UsageError, second.retry(delay_s), f"delay {delay_s}")
            for reason in ("ü", "a\nb", "x" * 257):
                await refused(UsageError, second.terminate(reason), f"reason {reason!r}")
            equal(1, deliveries.statistics().held, "it is still in hand")
            await second.ack()


async def check_shared(make: MakeJournal) -> None:
    """Who consumes by the same consumer shares its messages; each consumer has all of them."""
    async with make() as world:
        await world.stream()
        one = world.journal.consume(world.consumer(), prefetch_max=5)
        two = world.other.consume(world.consumer(), prefetch_max=5)
        other = world.other.consume(world.consumer(name="d"))
        async with one as left, two as right, other as apart:
            await world.fill(*(str(number) for number in range(10)))
            mine, others = await all_of(left, 5), await all_of(right, 5)
            sequences = [each.record.sequence for each in (*mine, *others)]
            equal(list(range(1, 11)), sorted(sequences), "each to one of them")
            for each in (*mine, *others):
                await each.ack()
            every = [each.record.sequence for each in await all_of(apart, 10)]
            equal(list(range(1, 11)), every, "another consumer has them all")


async def check_one_reader(make: MakeJournal) -> None:
    """One task reads; a second one is told so."""
    async with make() as world:
        await world.stream()
        async with world.journal.consume(world.consumer()) as deliveries:
            waiting = asyncio.ensure_future(anext(deliveries))
            await asyncio.sleep(0)
            await refused(UsageError, anext(deliveries), "a second reader")
            await world.fill("1")
            equal(1, (await waiting).record.sequence, "the first one reads on")


async def check_leaving_ends_reading(make: MakeJournal) -> None:
    """Reading ends when the consumer is left."""
    async with make() as world:
        await world.stream()
        seen: list[int] = []

        async def read(deliveries: Deliveries) -> None:
            seen.extend([each.record.sequence async for each in deliveries])

        async with world.journal.consume(world.consumer()) as deliveries:
            reading = asyncio.ensure_future(read(deliveries))
            await world.fill("1", "2")
            await world.elapse(0.2)
        async with asyncio.timeout(5):
            await reading
        equal([1, 2], seen, "what it read")


async def check_consume_many(make: MakeJournal) -> None:
    """Many messages, some of them given back while others are appended: each is done once."""
    async with make() as world:
        await world.stream()

        async def append() -> None:
            for number in range(_MANY):
                await world.other.append(f"{world.name}.{number % 7}", b"%d" % number)

        appending = asyncio.ensure_future(append())
        async with world.journal.consume(world.consumer(), prefetch_max=16) as deliveries:
            done = await _work_off(deliveries, _MANY)
        await appending
        equal(list(range(_MANY)), sorted(done), "each once")


async def _work_off(deliveries: Deliveries, count: int) -> list[int]:
    """Acknowledge so many, each fifth of them only when it comes again; return their payloads."""
    done: list[int] = []
    while len(done) < count:
        delivery = await delivered(deliveries)
        if delivery.record.sequence % 5 == 0 and delivery.attempt == 1:
            await delivery.retry()
        else:
            await delivery.ack()
            done.append(int(delivery.record.payload))
    return done


def _counts(statistics: DeliveriesStatistics) -> tuple[int, int]:
    return statistics.held, statistics.unread
