"""What every journal's tails do: go on for ever, in order, from where they are told to begin."""

from __future__ import annotations

import asyncio

from agent99.errors import ClosedError, InvalidNameError, StreamNotFoundError, UsageError
from agent99.journal import Record, Tail
from agent99.testing._journal_world import WAIT_S_MAX, JournalWorld, MakeJournal, equal, refused


async def check_tail(make: MakeJournal) -> None:
    """A tail gives what is there from its sequence on, then what comes, in order."""
    async with make() as world:
        await world.stream()
        await world.fill("a", "b", "c")
        async with world.journal.tail(world.name, from_sequence=2) as tail:
            equal([2, 3], await _sequences(tail, 2), "what is there")
            await world.fill("d", "e")
            equal([4, 5], await _sequences(tail, 2), "what comes")
            waiting = asyncio.ensure_future(tail.read(9))
            await world.elapse(0.1)
            equal("pending", _state(waiting), "there is no more")
            await world.fill("f")
            (record,) = await _soon(waiting)
            told = (record.subject, record.sequence, record.payload)
            equal((f"{world.name}.f", 6, b"f"), told, "who waits is told")
            equal(1, min(1, record.stored_us), "it says when it was stored")


async def check_tail_filter(make: MakeJournal) -> None:
    """A tail gives what falls under its subjects, and no more."""
    async with make() as world:
        await world.stream()
        await world.fill("a", "b.x", "a.y", "b.z", "c")
        subjects = (f"{world.name}.b.*", f"{world.name}.c")
        async with world.journal.tail(world.name, subjects) as tail:
            equal([2, 4, 5], await _sequences(tail, 3), "what it wants")
            await world.fill("d", "c")
            equal([7], await _sequences(tail, 1), "and what comes of it")


async def check_tail_ahead(make: MakeJournal) -> None:
    """A tail may begin ahead of what the stream holds."""
    async with make() as world:
        await world.stream()
        await world.fill("a")
        async with world.journal.tail(world.name, from_sequence=3) as tail:
            await world.fill("b", "c")
            equal([3], await _sequences(tail, 1), "the first that it wants")


async def check_tail_in_batches(make: MakeJournal) -> None:
    """A tail gives no more at once than is wanted, and all of many."""
    async with make() as world:
        await world.stream()
        count = 700
        await asyncio.gather(*(world.journal.append(f"{world.name}.x", b"") for _ in range(count)))
        async with world.journal.tail(world.name, prefetch_max=50) as tail:
            seen: list[int] = []
            while len(seen) < count:
                batch = await _soon(asyncio.ensure_future(tail.read(30)))
                equal(len(batch), min(max(len(batch), 1), 30), "one at least, 30 at most")
                seen += [record.sequence for record in batch]
            equal(list(range(1, count + 1)), seen, "each once, in order")


async def check_tail_without_deleted(make: MakeJournal) -> None:
    """What was deleted before a tail came to it is left out."""
    async with make() as world:
        await world.stream()
        await world.fill("a", "b", "c")
        await world.journal.delete(world.name, 2)
        async with world.journal.tail(world.name) as tail:
            equal([1, 3], await _sequences(tail, 2), "without the deleted one")


async def check_tails_are_many(make: MakeJournal) -> None:
    """Two tails of one stream know nothing of each other."""
    async with make() as world:
        await world.stream()
        await world.fill("a", "b")
        one, two = world.journal.tail(world.name), world.other.tail(world.name)
        async with one as first, two as second:
            equal([1, 2], await _sequences(first, 2), "the one")
            equal([1, 2], await _sequences(second, 2), "the other")


async def check_tail_ends(make: MakeJournal) -> None:
    """Leaving ends a read; a stream that is not there, or a wrong call, is an error."""
    async with make() as world:
        missing = world.journal.tail(world.name)
        await refused(StreamNotFoundError, missing.__aenter__(), "no stream")
        await world.stream()
        tails = world.journal.tail(world.name)
        async with tails as tail:
            waiting = asyncio.ensure_future(tail.read(1))
            await world.elapse(0.05)
            await refused(UsageError, tail.read(1), "one task reads")
        await refused(ClosedError, _soon(waiting), "leaving ends the read")
        await refused(ClosedError, tail.read(1), "nothing comes afterwards")
        for kind, wrong in (
            (InvalidNameError, {"stream": "no name"}),
            (InvalidNameError, {"subjects": ("a..b",)}),
            (UsageError, {"subjects": ("a.*", "a.b")}),
            (UsageError, {"from_sequence": 0}),
            (UsageError, {"prefetch_max": 0}),
        ):
            await refused(kind, _tail_of(world, **wrong), repr(wrong))


async def _tail_of(world: JournalWorld, **how: object) -> object:
    given: dict[str, object] = {"stream": world.name, **how}
    return world.journal.tail(**given)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - wrong by purpose


def _state(future: asyncio.Future[tuple[Record, ...]]) -> str:
    return "done" if future.done() else "pending"


async def _sequences(tail: Tail, count: int) -> list[int]:
    """Return the sequences of the next so many records, which must come."""
    seen: list[int] = []
    while len(seen) < count:
        batch = await _soon(asyncio.ensure_future(tail.read(count - len(seen))))
        seen += [record.sequence for record in batch]
    return seen


async def _soon(reading: asyncio.Future[tuple[Record, ...]]) -> tuple[Record, ...]:
    async with asyncio.timeout(WAIT_S_MAX):
        return await reading
