"""What every journal's streams do."""

from __future__ import annotations

import asyncio

from agent99.errors import (
    InvalidNameError,
    JournalError,
    StreamFullError,
    StreamNotFoundError,
    UsageError,
    WrongSequenceError,
)
from agent99.journal import StreamConfig
from agent99.testing._journal_world import MakeJournal, equal, records, refused

_READ_MANY = 2_500
_RACERS = 16


async def check_append_numbers(make: MakeJournal) -> None:
    """Sequences start at 1 and grow by one, over all subjects of a stream."""
    async with make() as world:
        stream = await world.stream()
        for sequence in (1, 2, 3):
            stored = await world.journal.append(f"{world.name}.s{sequence % 2}", b"x")
            equal((stream, sequence, False), (stored.stream, stored.sequence, stored.duplicate), "")


async def check_append_nowhere(make: MakeJournal) -> None:
    """A subject that no stream takes is refused, and soon."""
    async with make() as world:
        async with asyncio.timeout(2):
            await refused(
                StreamNotFoundError, world.journal.append(f"{world.name}.a", b""), "no stream"
            )


async def check_message_id(make: MakeJournal) -> None:
    """The same message id is stored once; the repeat's receipt has the first sequence."""
    async with make() as world:
        stream = await world.stream()
        await world.journal.append(f"{world.name}.a", b"0")
        first = await world.journal.append(f"{world.name}.a", b"1", message_id="id-1")
        again = await world.other.append(f"{world.name}.b", b"2", message_id="id-1")
        equal((2, False), (first.sequence, first.duplicate), "the first is stored")
        equal((2, True), (again.sequence, again.duplicate), "the repeat is a duplicate")
        equal(2, len(await records(world.journal, stream)), "nothing else is stored")


async def check_duplicate_window(make: MakeJournal) -> None:
    """A message id is forgotten after the stream's duplicate window."""
    async with make() as world:
        await world.stream(duplicate_window_s=0.2)
        await world.journal.append(f"{world.name}.a", b"1", message_id="id")
        await world.elapse(0.9)
        again = await world.journal.append(f"{world.name}.a", b"2", message_id="id")
        equal((2, False), (again.sequence, again.duplicate), "past the window it is stored")


async def check_compare_and_set(make: MakeJournal) -> None:
    """An append with an expected sequence happens only if the subject is still at it."""
    async with make() as world:
        await world.stream()
        a, b = f"{world.name}.a", f"{world.name}.b"
        await world.journal.append(b, b"")
        first = await world.journal.append(a, b"1", expected_sequence=0)
        second = await world.journal.append(a, b"2", expected_sequence=first.sequence)
        for expected in (0, first.sequence, second.sequence + 5):
            error = await refused(
                WrongSequenceError,
                world.other.append(a, b"3", expected_sequence=expected),
                "compare-and-set",
            )
            equal((a, expected), (error.subject, error.expected), "the error tells")
            equal(second.sequence, error.actual, "and the actual sequence")
        last = await world.journal.last(world.name, a)
        equal(b"2", None if last is None else last.payload, "nothing was stored")


async def check_last_of_a_pattern(make: MakeJournal) -> None:
    """The last record of a subject is found, and of all subjects that a pattern stands for."""
    async with make() as world:
        await world.stream()
        a, b = f"{world.name}.a", f"{world.name}.b"
        for subject in (a, b, a, b):
            stored = await world.journal.append(subject, b"")
        for asked, found in ((a, a), (b, b), (f"{world.name}.*", b), (">", b)):
            last = await world.other.last(world.name, asked)
            assert last is not None, asked
            equal((found, stored.sequence - (found == a)), (last.subject, last.sequence), asked)
        equal(None, await world.journal.last(world.name, f"{world.name}.c.>"), "there is none")


async def check_repeated_compare_and_set(make: MakeJournal) -> None:
    """A repeat of a compare-and-set append that won is a duplicate, whoever wrote since."""
    async with make() as world:
        await world.stream()
        subject = f"{world.name}.a"
        append = world.journal.append
        first = await append(subject, b"1", message_id="a", expected_sequence=0)
        again = await append(subject, b"1", message_id="a", expected_sequence=0)
        equal((first.sequence, True), (again.sequence, again.duplicate), "at once")
        await append(subject, b"2", message_id="b", expected_sequence=first.sequence)
        again = await append(subject, b"1", message_id="a", expected_sequence=0)
        equal((first.sequence, True), (again.sequence, again.duplicate), "after another append")
        await refused(
            WrongSequenceError,
            append(subject, b"3", message_id="c", expected_sequence=0),
            "one that did not win is refused",
        )


async def check_race(make: MakeJournal) -> None:
    """Of many appends that expect the same sequence exactly one wins."""
    async with make() as world:
        stream = await world.stream()
        journals = (world.journal, world.other)
        outcomes = await asyncio.gather(
            *(
                journals[i % 2].append(f"{world.name}.a", b"%d" % i, expected_sequence=0)
                for i in range(_RACERS)
            ),
            return_exceptions=True,
        )
        lost = [each for each in outcomes if isinstance(each, WrongSequenceError)]
        equal(_RACERS - 1, len(lost), "all but one lose")
        equal(1, len(await records(world.journal, stream)), "one is stored")


async def check_full(make: MakeJournal) -> None:
    """A full stream refuses, keeps what it has, and takes more when its bound is raised."""
    async with make() as world:
        stream = await world.stream(messages_max=2)
        for i in range(2):
            await world.journal.append(f"{world.name}.a", b"%d" % i)
        await refused(StreamFullError, world.journal.append(f"{world.name}.a", b"2"), "messages")
        equal([b"0", b"1"], [r.payload for r in await records(world.journal, stream)], "kept")
        await world.stream(messages_max=3, bytes_max=100_000)
        await world.journal.append(f"{world.name}.a", b"2")
        await world.stream(bytes_max=100_000)
        big = b"x" * 60_000
        await world.journal.append(f"{world.name}.a", big)
        await refused(StreamFullError, world.journal.append(f"{world.name}.a", big), "bytes")


async def check_ensure_stream(make: MakeJournal) -> None:
    """Ensuring a stream again keeps its records; two streams never take the same subject."""
    async with make() as world:
        stream = await world.stream()
        await world.journal.append(f"{world.name}.a", b"x")
        await world.stream()
        await world.stream(subjects=(f"{world.name}.>", f"{world.name}-more.*"))
        equal(1, len(await records(world.journal, stream)), "records stay")
        stored = await world.journal.append(f"{world.name}-more.x", b"y")
        equal((stream, 2), (stored.stream, stored.sequence), "the new subject is taken")
        other = StreamConfig(name=f"{world.name}-2", subjects=(f"{world.name}.a.*",))
        await refused(JournalError, world.journal.ensure_stream(other), "overlap")


async def check_delete_stream(make: MakeJournal) -> None:
    """A deleted stream is gone; deleting none is no error."""
    async with make() as world:
        stream = await world.stream()
        await world.journal.append(f"{world.name}.a", b"x")
        await world.journal.delete_stream(stream)
        await world.journal.delete_stream(stream)
        await refused(StreamNotFoundError, world.journal.append(f"{world.name}.a", b""), "append")
        await refused(StreamNotFoundError, records(world.journal, stream), "read")
        await refused(StreamNotFoundError, world.journal.last(stream, f"{world.name}.a"), "last")


async def check_last(make: MakeJournal) -> None:
    """The last record of a subject is found, whole; of an unused subject there is none."""
    async with make() as world:
        stream = await world.stream()
        equal(None, await world.journal.last(stream, f"{world.name}.a"), "none yet")
        await world.journal.append(f"{world.name}.a", b"1")
        await world.journal.append(f"{world.name}.a", b"2", message_id="with-a-header")
        await world.journal.append(f"{world.name}.a.b", b"3")
        last = await world.other.last(stream, f"{world.name}.a")
        found = None if last is None else (last.subject, last.sequence, last.payload)
        equal((f"{world.name}.a", 2, b"2"), found, "the last one")


async def check_read(make: MakeJournal) -> None:
    """Reading gives what matches, in order, from the sequence asked for, and ends."""
    async with make() as world:
        stream = await world.stream()
        equal([], await records(world.journal, stream), "an empty stream")
        for i in range(1, 10):
            await world.journal.append(f"{world.name}.{i % 3}.x", b"%d" % i, message_id=f"m{i}")
        every = await records(world.other, stream)
        equal(list(range(1, 10)), [record.sequence for record in every], "all, in order")
        equal([b"%d" % i for i in range(1, 10)], [record.payload for record in every], "payloads")
        times = [record.stored_us for record in every]
        equal(sorted(times), times, "stored in order")
        one = await records(world.journal, stream, f"{world.name}.1.x")
        equal([1, 4, 7], [record.sequence for record in one], "one subject")
        wild = await records(world.journal, stream, f"{world.name}.*.x", start=8)
        equal([8, 9], [record.sequence for record in wild], "a pattern, from the middle")
        equal([], await records(world.journal, stream, f"{world.name}.7.x"), "nothing matches")
        equal([], await records(world.journal, stream, start=10), "from past the end")


async def check_read_from_time(make: MakeJournal) -> None:
    """Reading from a time begins with the first record stored then or later."""
    async with make() as world:
        stream = await world.stream()
        await world.fill("1", "2")
        await world.elapse(0.01)
        await world.fill("3", "4")
        times = [record.stored_us for record in await records(world.journal, stream)]

        async def since(from_us: int, *patterns: str) -> list[int]:
            found = world.journal.read(stream, *patterns, from_us=from_us)
            return [record.sequence async for record in found]

        equal([1, 2, 3, 4], await since(0), "everything")
        equal([3, 4], await since(times[2]), "its own time")
        equal([3, 4], await since(times[1] + 1), "between two")
        equal([4], await since(times[2], f"{world.name}.4"), "one subject")
        equal([], await since(times[3] + 3_600_000_000), "in the future")
        for bad in (-1, 10**18):
            await refused(UsageError, since(bad), f"time {bad}")
        both = world.journal.read(stream, from_sequence=2, from_us=5)
        await refused(UsageError, anext(both), "a sequence and a time")


async def check_compare_a_pattern(make: MakeJournal) -> None:
    """The expected sequence may be that of all subjects under a pattern, and is told by it."""
    async with make() as world:
        name = await world.stream()
        one, two, pattern = f"{name}.1.k.x", f"{name}.2.k.y", f"{name}.*.k.>"
        append = world.journal.append
        await append(f"{name}.1.other.x", b"")
        first = await append(one, b"1", expected_sequence=0, expected_pattern=pattern)
        error = await refused(
            WrongSequenceError,
            append(two, b"2", expected_sequence=0, expected_pattern=pattern),
            "another subject under it was written to",
        )
        found = (error.subject, error.expected, error.actual)
        equal((pattern, 0, first.sequence), found, "the error tells")
        second = await append(
            two, b"2", message_id="b", expected_sequence=first.sequence, expected_pattern=pattern
        )
        await append(one, b"3", expected_sequence=second.sequence, expected_pattern=pattern)
        again = await append(
            two, b"2", message_id="b", expected_sequence=first.sequence, expected_pattern=pattern
        )
        equal((second.sequence, True), (again.sequence, again.duplicate), "a repeat of the winner")
        for bad in (
            append(one, b"", expected_pattern=pattern),
            append(f"{name}.1.j.x", b"", expected_sequence=0, expected_pattern=pattern),
            append(one, b"", expected_sequence=0, expected_pattern="a..b"),
        ):
            await refused(UsageError, bad, "no sense")


async def check_read_ends(make: MakeJournal) -> None:
    """What is appended while a reader reads is not its business."""
    async with make() as world:
        stream = await world.stream()
        for i in range(3):
            await world.journal.append(f"{world.name}.a", b"%d" % i)
        seen = 0
        async for _ in world.journal.read(stream):
            await world.other.append(f"{world.name}.a", b"more")
            seen += 1
        equal(3, seen, "what it held at the start")


async def check_read_many(make: MakeJournal) -> None:
    """A long stream of large records is read whole, each record once, whatever the batches are."""
    async with make() as world:
        stream = await world.stream()
        for start in range(0, _READ_MANY, 500):
            await asyncio.gather(
                *(
                    world.journal.append(f"{world.name}.{i % 7}", b"%d:" % i + b"x" * 2_000)
                    for i in range(start, start + 500)
                )
            )
        every = await records(world.journal, stream)
        equal(list(range(1, _READ_MANY + 1)), [record.sequence for record in every], "sequences")
        numbers = sorted(int(record.payload.split(b":")[0]) for record in every)
        equal(list(range(_READ_MANY)), numbers, "payloads")
        some = await records(world.journal, stream, f"{world.name}.3")
        equal([r for r in every if r.subject == f"{world.name}.3"], some, "one subject")


async def check_age(make: MakeJournal) -> None:
    """Records past their age are gone."""
    async with make() as world:
        stream = await world.stream(age_s_max=0.5, duplicate_window_s=0.2)
        await world.journal.append(f"{world.name}.a", b"old")
        await world.elapse(1.5)
        await world.journal.append(f"{world.name}.a", b"new")
        payloads = [record.payload for record in await records(world.journal, stream)]
        equal([b"new"], payloads, "only the young")


async def check_stream_names(make: MakeJournal) -> None:
    """Names, subjects and bounds that make no sense are refused before anything is sent."""
    async with make() as world:
        journal = world.journal
        for bad in (
            "",
            ".a",
            "a.",
            "a..b",
            "a.*",
            "a.>",
            "a b",
            "a\r\nb",
            "ä",
            "$JS.API.X",
            "x" * 2000,
        ):
            await refused(InvalidNameError, journal.append(bad, b""), f"subject {bad!r}")
            if bad not in ("a.*", "a.>", "$JS.API.X"):
                await refused(InvalidNameError, records(journal, "s", bad), f"pattern {bad!r}")
        for bad in ("", "a.b", "a b", "*", ">", "ü", "x" * 201, "a/b"):
            config = StreamConfig(name=bad, subjects=("a",))
            await refused(InvalidNameError, journal.ensure_stream(config), f"stream {bad!r}")
            await refused(InvalidNameError, journal.delete_stream(bad), f"stream {bad!r}")
            await refused(InvalidNameError, journal.last(bad, "a"), f"stream {bad!r}")
        for bad in ("a b", "a\r\nb", "é", "x" * 257):
            call = journal.append("a", b"", message_id=bad)
            await refused(InvalidNameError, call, f"message id {bad!r}")
        await refused(UsageError, journal.append("a", b"", expected_sequence=-1), "sequence")
        for config in (
            StreamConfig(name="s", subjects=()),
            StreamConfig(name="s", subjects=("a",), messages_max=0),
            StreamConfig(name="s", subjects=("a",), bytes_max=-2),
            StreamConfig(name="s", subjects=("a",), age_s_max=-1),
            StreamConfig(name="s", subjects=("a",), age_s_max=0.01),
            StreamConfig(name="s", subjects=("a",), duplicate_window_s=0),
            StreamConfig(name="s", subjects=("a",), replicas=0),
            StreamConfig(name="s", subjects=("a",), message_bytes_max=0),
        ):
            await refused(UsageError, journal.ensure_stream(config), repr(config))
