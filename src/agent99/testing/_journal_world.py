"""What a journal's contract suite is given, and how it says what it expects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import msgspec

from agent99.journal import (
    Bucket,
    BucketConfig,
    Change,
    ConsumerConfig,
    ConsumerState,
    Deliveries,
    Delivery,
    Journal,
    Record,
    Snapshot,
    StreamConfig,
)

WAIT_S_MAX = 15.0
"""Nothing that a check waits for may take longer."""

ErrorT = TypeVar("ErrorT", bound=BaseException)


class JournalWorld(msgspec.Struct, frozen=True):
    """A store, two clients of it, and its time."""

    journal: Journal
    other: Journal
    """Another client of the same store; may be the same object."""
    elapse: Callable[[float], Awaitable[None]]
    """Lets so many seconds pass for the store: advances a manual clock, or really waits."""
    name: str
    """Letters and digits that no other check uses: names and subjects begin with it."""
    replicas: int = 1
    """Of each stream and bucket."""

    async def stream(self, **changes: object) -> str:
        """Make a stream that takes `{name}.>`, and return its name."""
        config = StreamConfig(name=self.name, subjects=(f"{self.name}.>",), replicas=self.replicas)
        await self.journal.ensure_stream(msgspec.structs.replace(config, **changes))
        return self.name

    async def fill(self, *tokens: str) -> None:
        """Append a record under `{name}.{token}` for each; its payload is the token."""
        for token in tokens:
            await self.journal.append(f"{self.name}.{token}", token.encode())

    def consumer(self, **changes: object) -> ConsumerConfig:
        """Return the configuration of consumer `c` of the stream of `stream`."""
        config = ConsumerConfig(stream=self.name, name="c", ack_wait_s=5)
        return msgspec.structs.replace(config, **changes)

    async def state(self, name: str = "c") -> ConsumerState:
        """Return how far a consumer of the stream is; there must be one."""
        state = await self.journal.consumer_state(self.name, name)
        if state is None:
            raise AssertionError(f"there is no consumer {name!r}")
        return state

    async def bucket(self, **changes: object) -> Bucket:
        """Make a bucket."""
        config = BucketConfig(name=self.name, bytes_max=16 * 1024 * 1024, replicas=self.replicas)
        return await self.journal.bucket(msgspec.structs.replace(config, **changes))


MakeJournal = Callable[[], AbstractAsyncContextManager[JournalWorld]]
"""Makes a world for one check, and takes it down."""
Check = Callable[[MakeJournal], Awaitable[None]]


def equal(expected: object, actual: object, rule: str) -> None:
    """Raise `AssertionError` that names the rule unless the two are equal."""
    if expected != actual:
        raise AssertionError(f"{rule}: expected {expected!r}, got {actual!r}")


async def refused(kind: type[ErrorT], call: Awaitable[object], rule: str) -> ErrorT:
    """Return the error of `kind` that `call` raises; it must raise one."""
    try:
        result = await call
    except kind as error:
        return error
    raise AssertionError(f"{rule}: expected {kind.__name__}, got {result!r}")


async def records(journal: Journal, stream: str, *args: str, start: int = 1) -> list[Record]:
    """Return all that `read` yields."""
    return [record async for record in journal.read(stream, *args, from_sequence=start)]


async def following(changes: AsyncIterator[Snapshot | Change]) -> Snapshot | Change:
    """Return what a follower is told next."""
    async with asyncio.timeout(WAIT_S_MAX):
        return await anext(changes)


async def told(changes: AsyncIterator[Snapshot | Change]) -> tuple[str, str, bytes]:
    """Return kind, key and value of the next change; a snapshot is none."""
    change = await following(changes)
    if isinstance(change, Snapshot):
        raise AssertionError(f"expected a change, got {change!r}")  # noqa: TRY004 - a failed check
    return change.kind, change.key, change.value


async def snapshot_of(changes: AsyncIterator[Snapshot | Change]) -> dict[str, bytes]:
    """Return the entries of the snapshot that must come next."""
    snapshot = await following(changes)
    if isinstance(snapshot, Change):
        raise AssertionError(f"expected a snapshot, got {snapshot!r}")  # noqa: TRY004 - as above
    return {entry.key: entry.value for entry in snapshot.entries}


async def delivered(deliveries: Deliveries) -> Delivery:
    """Return the next delivery, which must come."""
    async with asyncio.timeout(WAIT_S_MAX):
        return await anext(deliveries)


async def all_of(deliveries: Deliveries, count: int) -> list[Delivery]:
    """Return so many deliveries, none of them finished."""
    return [await delivered(deliveries) for _ in range(count)]


async def nothing(world: JournalWorld, deliveries: Deliveries, seconds: float, rule: str) -> None:
    """Raise `AssertionError` if something is delivered while so much time passes."""
    waiting = asyncio.ensure_future(anext(deliveries))
    try:
        await world.elapse(seconds)
        if waiting.done():
            raise AssertionError(f"{rule}: expected nothing, got {waiting.result()!r}")
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
