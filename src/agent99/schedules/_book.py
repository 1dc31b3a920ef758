"""The schedules of a mesh as they are stored: a bucket with one entry for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from agent99.errors import JournalError, StreamNotFoundError, UsageError, WrongSequenceError
from agent99.journal import Bucket, BucketConfig, Change, Journal, Snapshot
from agent99.schedules._schedule import Schedule, decode, encode

BYTES_MAX = 64 * 1024**2
"""Of all schedules of a mesh."""
_CREATE_TRIES_MAX = 5

T = TypeVar("T")


class Book:
    """Writes and reads schedules.

    All methods raise `JournalError`, `DeadlineExceededError`, `TransportError`,
    `RemoteProtocolError` and `ClosedError`; those that write also `StreamFullError`.
    """

    def __init__(self, journal: Journal, mesh: str, *, replicas: int) -> None:
        self._journal = journal
        self._config = BucketConfig(
            name=f"a99_{mesh}_schedules", bytes_max=BYTES_MAX, replicas=replicas
        )
        self._bucket: Bucket | None = None

    def __repr__(self) -> str:
        return f"Book({self._config.name!r})"

    async def open(self) -> None:
        """Have the bucket."""
        await self._open()

    async def create(
        self, schedule: Schedule, is_same: Callable[[Schedule, Schedule], bool]
    ) -> None:
        """Store a schedule, unless the same one is there.

        Raises:
            UsageError: another one of its id is.
        """
        for _ in range(_CREATE_TRIES_MAX):
            try:
                await self._on(lambda bucket: bucket.create(schedule.id, encode(schedule)))
            except WrongSequenceError:
                entry = await self._on(lambda bucket: bucket.get(schedule.id))
                if entry is None:
                    continue  # it was cancelled just now
                known = decode(entry.value)
                if known is None or not is_same(schedule, known):
                    raise UsageError(
                        f"schedule {schedule.id!r} is there already, and says something else:"
                        " cancel it first"
                    ) from None
            return
        raise JournalError(f"schedule {schedule.id!r} could not be created")

    async def get(self, schedule_id: str) -> tuple[Schedule, int] | None:
        """Return a schedule and its revision; None: there is none that can be read."""
        entry = await self._on(lambda bucket: bucket.get(schedule_id))
        schedule = decode(entry.value) if entry is not None else None
        return (schedule, entry.revision) if entry is not None and schedule is not None else None

    async def every(self) -> list[Schedule]:
        """Return all schedules that can be read, in no order."""
        entries = await self._on(lambda bucket: bucket.snapshot())
        found = (decode(entry.value) for entry in entries)
        return [schedule for schedule in found if schedule is not None]

    async def update(self, schedule: Schedule, *, revision: int) -> int:
        """Write a schedule, and return its new revision.

        Raises:
            WrongSequenceError: somebody wrote first.
        """
        value = encode(schedule, revision)
        return await self._on(lambda bucket: bucket.update(schedule.id, value, revision=revision))

    async def remove(self, schedule_id: str, *, revision: int) -> None:
        """Remove a schedule.

        Raises:
            WrongSequenceError: somebody wrote first.
        """
        await self._on(lambda bucket: bucket.delete(schedule_id, revision=revision))

    async def follow(self) -> AbstractAsyncContextManager[AsyncIterator[Snapshot | Change]]:
        """Return what follows all schedules, to be entered."""
        self._bucket = None  # it may have been deleted
        return (await self._open()).follow()

    async def _open(self) -> Bucket:
        if self._bucket is None:
            self._bucket = await self._journal.bucket(self._config)
        return self._bucket

    async def _on(self, ask: Callable[[Bucket], Awaitable[T]]) -> T:
        """Ask the bucket; one that was deleted is made again."""
        try:
            return await ask(await self._open())
        except StreamNotFoundError:
            self._bucket = None
            return await ask(await self._open())
