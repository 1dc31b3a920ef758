"""What every journal tells of a stream, and of one record in it."""

from __future__ import annotations

import msgspec

from agent99.errors import PayloadTooLargeError, StreamNotFoundError, UsageError
from agent99.journal import StreamConfig
from agent99.testing._journal_world import MakeJournal, equal, records, refused


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
