"""What every journal's consumers are: where they start, how they change, and how they end."""

from __future__ import annotations

import asyncio

from agent99.errors import (
    InvalidNameError,
    JournalError,
    StreamNotFoundError,
    UsageError,
)
from agent99.journal import ConsumerConfig, Deliveries, Delivery
from agent99.testing._journal_world import (
    WAIT_S_MAX,
    JournalWorld,
    MakeJournal,
    all_of,
    delivered,
    equal,
    nothing,
    records,
    refused,
)


async def check_start(make: MakeJournal) -> None:
    """A consumer starts with the first message, the next new one, a sequence or a time."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2")
        await world.elapse(0.05)
        await world.fill("3")
        third = (await records(world.journal, world.name))[2]
        for name, expected, changes in (
            ("first", [1, 2, 3, 4], {}),
            ("new", [4], {"start": "new"}),
            ("sequence", [2, 3, 4], {"from_sequence": 2}),
            ("later", [], {"from_sequence": 9}),
            ("time", [3, 4], {"from_us": third.stored_us}),
        ):
            config = world.consumer(name=name, **changes)
            async with world.journal.consume(config):
                state = await world.state(name)
            equal(config, state.config, f"{name}: the server has it as it was asked for")
            equal(len(expected), state.pending + state.in_flight + (4 in expected), name)
        await world.fill("4")
        for name, expected in (("first", [1, 2, 3, 4]), ("new", [4]), ("sequence", [2, 3, 4])):
            equal(expected, await _sequences(world, world.consumer(name=name), expected), name)
        equal([3, 4], await _sequences(world, world.consumer(name="time"), [3, 4]), "a time")


async def check_filter(make: MakeJournal) -> None:
    """A consumer delivers what falls under its subjects, and no more."""
    async with make() as world:
        await world.stream()
        await world.fill("a", "b.x", "a.y", "b.z", "c")
        name = world.name
        config = world.consumer(subjects=(f"{name}.b.*", f"{name}.c"))
        async with world.journal.consume(config) as deliveries:
            seen = await all_of(deliveries, 3)
            await nothing(world, deliveries, 0.2, "nothing else")
            for each in seen:
                await each.ack()
        equal([b"b.x", b"b.z", b"c"], [each.record.payload for each in seen], "what it wants")
        equal((0, 5), await _place(world), "and nothing is pending")


async def check_work(make: MakeJournal) -> None:
    """Work leaves its stream when it is acknowledged or given up, and not before."""
    async with make() as world:
        await world.stream(retention="work")
        await world.fill("1", "2", "3")
        async with world.journal.consume(world.consumer()) as deliveries:
            first, second, third = await all_of(deliveries, 3)
            await first.ack()
            await second.terminate("no")
            await third.retry(0.2)
            await _holds(world, [3])
            await world.elapse(0.5)
            await (await delivered(deliveries)).ack()
            await _holds(world, [])
            await world.fill("4")
            equal(4, (await delivered(deliveries)).record.sequence, "sequences go on")
        state = await world.journal.stream_state(world.name)
        equal(("work", 1, 4), (state.config.retention, state.messages, state.last_sequence), "")


async def check_permanent(make: MakeJournal) -> None:
    """Nothing of a permanent stream can be deleted, also when somebody wants it otherwise."""
    async with make() as world:
        await world.stream(is_permanent=True)
        await world.fill("1", "2")
        await refused(JournalError, world.journal.delete(world.name, 1), "it is permanent")
        await world.stream()
        await refused(JournalError, world.journal.delete(world.name, 2), "it stays permanent")
        state = await world.journal.stream_state(world.name)
        equal((True, 2), (state.config.is_permanent, state.messages), "and says so")


async def check_work_has_one_consumer(make: MakeJournal) -> None:
    """Of a stream for work each message has one consumer, which begins with the first one."""
    async with make() as world:
        await world.stream(retention="work")
        name = world.name
        consume = world.journal.consume
        async with consume(world.consumer(subjects=(f"{name}.a.*",))):
            for config in (
                world.consumer(name="d"),
                world.consumer(name="d", subjects=(f"{name}.a.>", f"{name}.b")),
                world.consumer(name="d", subjects=(f"{name}.b",), start="new"),
                world.consumer(name="d", subjects=(f"{name}.b",), from_sequence=1),
            ):
                await refused(JournalError, consume(config).__aenter__(), repr(config))
            async with consume(world.consumer(name="d", subjects=(f"{name}.b",))):
                pass
        other = world.stream(retention="limits")
        await refused(JournalError, other, "the retention cannot be changed")


async def check_deliveries_max(make: MakeJournal) -> None:
    """After `deliveries_max` deliveries a message stays where it is."""
    async with make() as world:
        await world.stream(retention="work")
        await world.fill("1", "2")
        config = world.consumer(deliveries_max=2, subjects=(f"{world.name}.>",))
        async with world.journal.consume(config) as deliveries:
            for each in await all_of(deliveries, 2):
                equal(1, each.attempt, "the first attempt")
                await each.retry()
            seen = {each.record.sequence: each for each in await all_of(deliveries, 2)}
            equal([2, 2], [each.attempt for each in seen.values()], "the second one")
            await seen[1].retry()
            await seen[2].ack()
            await nothing(world, deliveries, 0.3, "no third delivery")
            await _holds(world, [1])


async def check_in_flight_max(make: MakeJournal) -> None:
    """With `in_flight_max` messages in flight nobody gets another one; it can be raised."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2", "3", "4")
        config = world.consumer(in_flight_max=2)
        async with world.journal.consume(config) as one, world.other.consume(config) as two:
            held = await _of_both(one, two, 2)
            await asyncio.gather(
                nothing(world, one, 0.3, "none more"), nothing(world, two, 0.0, "nor for another")
            )
            await held[0].ack()
            held += await _of_both(one, two, 1)
            async with world.journal.consume(world.consumer(in_flight_max=-1)):
                held += await _of_both(one, two, 1)
        equal([1, 2, 3, 4], sorted(each.record.sequence for each in held), "all of them")


async def check_consumer_changes(make: MakeJournal) -> None:
    """A consumer is changed to fit who consumes by it, but keeps its place and its start."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2", "3")
        async with world.journal.consume(world.consumer(), prefetch_max=1) as deliveries:
            await (await delivered(deliveries)).ack()
        changed = world.consumer(
            ack_wait_s=9, deliveries_max=4, in_flight_max=5, subjects=(f"{world.name}.*",)
        )
        async with world.journal.consume(
            ConsumerConfig(
                stream=changed.stream,
                name=changed.name,
                subjects=changed.subjects,
                start="new",
                ack_wait_s=9,
                deliveries_max=4,
                in_flight_max=5,
            )
        ) as deliveries:
            equal([2, 3], [d.record.sequence for d in await all_of(deliveries, 2)], "its place")
        equal(changed, (await world.state()).config, "what it is now")
        async with world.journal.consume(world.consumer()):
            equal(world.consumer(), (await world.state()).config, "and back")


async def check_consumer_states(make: MakeJournal) -> None:
    """Consumers are found by name and by what their names begin with; what is not there is not."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2", "3", "4")
        journal = world.journal
        for name in ("work-b", "work-a", "other"):
            async with journal.consume(world.consumer(name=name), prefetch_max=2) as deliveries:
                await (await delivered(deliveries)).retry(30)
                await (await delivered(deliveries)).ack()
        names = [state.config.name for state in await journal.consumers(world.name)]
        equal(["other", "work-a", "work-b"], names, "all, by name")
        some = await journal.consumers(world.name, "work-")
        equal(["work-a", "work-b"], [state.config.name for state in some], "by a prefix")
        state = await world.state("other")
        equal((2, 1), (state.pending + state.in_flight - 1, 1), "pending, or given back")
        equal(0, state.acknowledged_sequence, "the first one is not done")
        await journal.delete_consumer(world.name, "other")
        await journal.delete_consumer(world.name, "other")
        equal(None, await journal.consumer_state(world.name, "other"), "deleted")
        equal(2, len(await journal.consumers(world.name)), "the others stay")
        gone = f"{world.name}-gone"
        await journal.delete_consumer(gone, "c")
        await refused(StreamNotFoundError, journal.consumers(gone), "no stream")
        await refused(StreamNotFoundError, journal.consumer_state(gone, "c"), "no stream")
        config = world.consumer(stream=gone)
        await refused(StreamNotFoundError, journal.consume(config).__aenter__(), "no stream")


async def check_consumer_deleted(make: MakeJournal) -> None:
    """A consumer that is deleted under its readers is made again where it was, and that is told."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2")
        told: list[str] = []
        async with world.journal.consume(world.consumer()) as deliveries:
            deliveries.on_interruption(told.append)
            for each in await all_of(deliveries, 2):
                await each.ack()
        async with world.journal.consume(world.consumer()) as deliveries:
            deliveries.on_interruption(told.append)
            await world.fill("3", "4", "5")
            third, fourth = await all_of(deliveries, 2)
            await third.ack()
            await world.other.delete_consumer(world.name, "c")
            await refused(JournalError, fourth.ack(), "its consumer is gone")
            again = [await delivered(deliveries)]
            while again[-1].record.sequence < 5:
                again.append(await delivered(deliveries))
            seen = [each.record.sequence for each in again]
            equal([3, 4, 5][-max(2, len(seen)) :], seen, "from where all was known to be done")
            for each in again:
                await each.ack()
            await world.fill("6")
            await (await delivered(deliveries)).ack()
            equal({"consumer_deleted": 1}, deliveries.statistics().interruptions, "counted")
        equal(["consumer_deleted"], told, "and told")
        equal((0, 6), await _place(world), "its place")


async def check_new_consumer_deleted(make: MakeJournal) -> None:
    """One that began with new messages loses none when it is deleted under its readers."""
    async with make() as world:
        await world.stream()
        await world.fill("old", "old")
        async with world.journal.consume(world.consumer(start="new")) as deliveries:
            await world.fill("3")
            held = await delivered(deliveries)
            await world.other.delete_consumer(world.name, "c")
            await world.fill("4")
            again = await all_of(deliveries, 2)
            equal([b"3", b"4"], [each.record.payload for each in again], "none is lost")
            await refused(JournalError, held.ack(), "its consumer is gone")


async def check_stream_of_consumer_gone(make: MakeJournal) -> None:
    """Who consumes a stream that is deleted is told so; of a new one everything is new."""
    async with make() as world:
        await world.stream()
        await world.fill("1", "2", "3")
        async with world.journal.consume(world.consumer(start="new")) as deliveries:
            await world.journal.delete_stream(world.name)
            async with asyncio.timeout(WAIT_S_MAX):
                await refused(StreamNotFoundError, anext(deliveries), "the stream is gone")
            await world.stream()
            await world.fill("again")
            found = await delivered(deliveries)
            equal((1, b"again"), (found.record.sequence, found.record.payload), "a new stream")


async def check_inactive(make: MakeJournal) -> None:
    """A consumer that nobody uses for `inactive_s` is removed; one that is used stays."""
    async with make() as world:
        await world.stream()
        idle = world.consumer(name="idle", inactive_s=0.3)
        async with world.journal.consume(world.consumer(name="used", inactive_s=0.3)):
            async with world.journal.consume(idle):
                equal(0.3, (await world.state("idle")).config.inactive_s, "as it was asked for")
            tries = 20
            while tries and await world.journal.consumer_state(world.name, "idle") is not None:
                await world.elapse(0.2)
                tries -= 1
            names = [state.config.name for state in await world.journal.consumers(world.name)]
            equal(["used"], names, "only the one that is used")


async def check_consumer_names(make: MakeJournal) -> None:
    """Configurations of consumers that make no sense are refused before anything is sent."""
    async with make() as world:
        await world.stream()
        name = world.name
        unnamed: tuple[dict[str, object], ...] = (
            {"name": ""},
            {"name": "a.b"},
            {"stream": "*"},
            {"subjects": (f"{name}.",)},
        )
        for changes in unnamed:
            _refuse_config(world, InvalidNameError, **changes)
        wrong: tuple[dict[str, object], ...] = (
            {"subjects": (f"{name}.a", f"{name}.>")},
            {"start": "last"},
            {"start": "new", "from_sequence": 2},
            {"from_sequence": 2, "from_us": 5},
            {"from_sequence": 0},
            {"from_us": -1},
            {"ack_wait_s": 0},
            {"ack_wait_s": float("inf")},
            {"ack_wait_s": float("nan")},
            {"deliveries_max": 0},
            {"in_flight_max": -2},
            {"inactive_s": 0.01},
            {"inactive_s": float("nan")},
        )
        for changes in wrong:
            _refuse_config(world, UsageError, **changes)
        for prefetch_max in (0, -1, 10_001):
            try:
                world.journal.consume(world.consumer(), prefetch_max=prefetch_max)
            except UsageError:
                continue
            raise AssertionError(f"prefetch_max {prefetch_max} was not refused")


def _refuse_config(world: JournalWorld, kind: type[UsageError], **changes: object) -> None:
    try:
        world.journal.consume(world.consumer(**changes))
    except kind:
        return
    raise AssertionError(f"{changes} was not refused")


async def _sequences(world: JournalWorld, config: ConsumerConfig, expected: list[int]) -> list[int]:
    """Return the sequences of what is delivered, acknowledged."""
    async with world.journal.consume(config) as deliveries:
        seen = await all_of(deliveries, len(expected))
        await nothing(world, deliveries, 0.1, "no more")
        for each in seen:
            await each.ack()
    return sorted(each.record.sequence for each in seen)


async def _of_both(one: Deliveries, two: Deliveries, count: int) -> list[Delivery]:
    """Return so many deliveries, whoever of the two gets them."""
    found: list[Delivery] = []
    while len(found) < count:
        reading = [asyncio.ensure_future(anext(each)) for each in (one, two)]
        await asyncio.wait(reading, timeout=WAIT_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        for each in reading:
            each.cancel()  # does nothing to one that is done
        ended = await asyncio.gather(*reading, return_exceptions=True)
        arrived = [each for each in ended if not isinstance(each, BaseException)]
        equal(1, min(len(arrived), 1), "something is delivered")
        found += arrived
    return found


async def _place(world: JournalWorld) -> tuple[int, int]:
    state = await world.state()
    return state.pending, state.acknowledged_sequence


async def _holds(world: JournalWorld, expected: list[int]) -> None:
    """Raise `AssertionError` unless the stream comes to hold these sequences."""
    held: list[int] = []
    for _ in range(20):
        held = [record.sequence for record in await records(world.journal, world.name)]
        if held == expected:
            return
        await world.elapse(0.05)
    equal(expected, held, "what the stream holds")
