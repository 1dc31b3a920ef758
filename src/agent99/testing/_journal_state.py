"""What every journal tells of a stream, and of one record in it."""

from __future__ import annotations

import asyncio

import msgspec

from agent99.errors import (
    InvalidNameError,
    PayloadTooLargeError,
    StreamNotFoundError,
    UsageError,
)
from agent99.journal import Backlog, StreamConfig
from agent99.testing._journal_world import JournalWorld, MakeJournal, equal, records, refused


async def check_get_the_largest(make: MakeJournal) -> None:
    """The largest message that is taken can be looked up again, by sequence, subject and time."""
    async with make() as world:
        stream, subject = await world.stream(bytes_max=8 * 1024**2), f"{world.name}.a"
        payload = bytes(1024 * 1024 - 256)
        stored = await world.journal.append(subject, payload)
        for pattern in (subject, f"{world.name}.*"):
            last = await world.journal.last(stream, pattern)
            equal(payload, None if last is None else last.payload, pattern)
        found = await world.journal.get(stream, stored.sequence)
        equal(payload, None if found is None else found.payload, "by its sequence")
        since = [each async for each in world.journal.read(stream, from_us=1)]
        equal([payload], [each.payload for each in since], "by a time")


async def check_get(make: MakeJournal) -> None:
    """A record is found by its sequence; what was deleted, or is not there yet, is none."""
    async with make() as world:
        stream = await world.stream()
        await world.fill("1", "2", "3")
        every = await records(world.other, stream)
        equal(every, [await world.journal.get(stream, n) for n in (1, 2, 3)], "as they are stored")
        equal(None, await world.journal.get(stream, 4), "not yet")
        await world.journal.delete(stream, 2)
        equal(None, await world.journal.get(stream, 2), "deleted")
        await refused(UsageError, world.journal.get(stream, 0), "sequence 0")
        await refused(StreamNotFoundError, world.journal.get(f"{stream}-x", 1), "no stream")


async def check_delete(make: MakeJournal) -> None:
    """A deleted record is gone, the others stay; to delete none is fine."""
    async with make() as world:
        stream = await world.stream()
        await world.fill("a", "b", "a", "b")
        for sequence in (4, 1, 1, 9):
            await world.journal.delete(stream, sequence)
        equal([2, 3], [r.sequence for r in await records(world.journal, stream)], "the others")
        last = await world.journal.last(stream, f"{world.name}.b")
        equal(2, 0 if last is None else last.sequence, "the last of its subject")
        await world.fill("c")
        equal(5, (await world.journal.stream_state(stream)).last_sequence, "sequences go on")
        await refused(UsageError, world.journal.delete(stream, 0), "sequence 0")
        await refused(StreamNotFoundError, world.journal.delete(f"{stream}-x", 1), "no stream")


async def check_stream_state(make: MakeJournal) -> None:
    """A stream tells what it holds and how it is kept; streams are found by their names."""
    async with make() as world:
        changes: dict[str, object] = {
            "messages_max": 50,
            "bytes_max": 100_000,
            "message_bytes_max": 1_000,
            "age_s_max": 3_600.0,
            "duplicate_window_s": 9.0,
        }
        name = await world.stream(**changes)
        config = StreamConfig(name=name, subjects=(f"{name}.>",), replicas=world.replicas)
        state = await world.journal.stream_state(name)
        equal(msgspec.structs.replace(config, **changes), state.config, "its configuration")
        equal((0, 1, 0), (state.messages, state.first_sequence, state.last_sequence), "empty")
        await world.fill("1", "2", "3")
        await world.journal.delete(name, 1)
        state = await world.journal.stream_state(name)
        equal((2, 2, 3), (state.messages, state.first_sequence, state.last_sequence), "counts")
        equal(1, (0 < state.bytes) + (state.bytes > 1_000), "bytes")
        other = StreamConfig(name=f"{name}-b", subjects=(f"{name}-b.>",), retention="work")
        await world.journal.ensure_stream(other)
        await world.bucket()
        found = await world.other.streams(name)
        equal([name, f"{name}-b"], [each.config.name for each in found], "by their names")
        equal(["limits", "work"], [each.config.retention for each in found], "retention")
        equal([], [*await world.journal.streams(f"{name}-c")], "none")
        equal([], [*await world.journal.streams(f"KV_{name}")], "a bucket is no stream")
        await world.journal.delete_stream(f"{name}-b")
        await refused(StreamNotFoundError, world.journal.stream_state(f"{name}-b"), "no stream")


async def check_message_bound(make: MakeJournal) -> None:
    """A message over the stream's bound for one is refused, and the bound is named."""
    async with make() as world:
        await world.stream(message_bytes_max=1_000)
        await world.journal.append(f"{world.name}.a", bytes(900))
        big = world.journal.append(f"{world.name}.a", bytes(2_000))
        error = await refused(PayloadTooLargeError, big, "too large")
        equal((2_000, 1_000), (error.size_bytes, error.size_bytes_max), "the error tells")


async def check_backlog(make: MakeJournal) -> None:
    """A backlog counts what matches from a sequence on, and tells when its oldest was stored."""
    async with make() as world:
        stream = await world.stream()
        equal(Backlog(0, None), await _backlog(world, 1), "an empty stream")
        await world.fill("a.1", "b.1", "a.2", "c", "b.2")
        a, b = f"{world.name}.a.*", f"{world.name}.b.*"
        times = {each.sequence: each.stored_us for each in await records(world.journal, stream)}
        equal(Backlog(5, times[1]), await _backlog(world, 1), "everything")
        equal(Backlog(2, times[1]), await _backlog(world, 1, a), "one pattern")
        equal(Backlog(1, times[3]), await _backlog(world, 2, a), "from a sequence on")
        equal(Backlog(2, times[3]), await _backlog(world, 3, b, a), "the oldest of two patterns")
        equal(Backlog(1, times[4]), await _backlog(world, 1, f"{world.name}.c"), "one subject")
        equal(Backlog(0, None), await _backlog(world, 4, a), "nothing since")
        equal(Backlog(0, None), await _backlog(world, 99), "ahead of the stream")


async def check_backlog_that_goes_away(make: MakeJournal) -> None:
    """What is deleted does not count, and may be deleted while one counts; the stream must stay."""
    async with make() as world:
        stream = await world.stream()
        await world.fill(*"aaaa")
        times = {each.sequence: each.stored_us for each in await records(world.journal, stream)}
        for sequence in (1, 3):
            await world.journal.delete(stream, sequence)
        equal(Backlog(2, times[2]), await _backlog(world, 1), "without the deleted ones")
        going = asyncio.gather(*(world.other.delete(stream, sequence) for sequence in (2, 4)))
        while not going.done():
            found = await world.journal.backlog(stream, from_sequence=1)
            equal(found.count == 0, found.oldest_us is None, "an oldest where there is one")
        await going
        equal(Backlog(0, None), await _backlog(world, 1), "all are gone")
        await world.journal.delete_stream(stream)
        missing = world.journal.backlog(stream, from_sequence=1)
        await refused(StreamNotFoundError, missing, "no stream")


async def check_backlog_names(make: MakeJournal) -> None:
    """A backlog of what makes no sense is refused before anything is sent."""
    async with make() as world:
        backlog = world.journal.backlog
        for call in (backlog("no name", from_sequence=1), backlog("s", ("a..b",), from_sequence=1)):
            await refused(InvalidNameError, call, "names")
        for call in (backlog("s", from_sequence=0), backlog("s", ("a.*", "a.b"), from_sequence=1)):
            await refused(UsageError, call, "a sequence, and patterns that overlap")


async def _backlog(world: JournalWorld, from_sequence: int, *subjects: str) -> Backlog:
    if world.replicas > 1:
        await world.elapse(0.2)  # one that lags may be asked
    return await world.other.backlog(world.name, subjects, from_sequence=from_sequence)
