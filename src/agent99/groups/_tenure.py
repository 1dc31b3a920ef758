"""One partition, owned: its entry, written by compare-and-set from the claim to the release."""

from __future__ import annotations

import asyncio
from collections.abc import Container

from agent99.errors import LeaseLostError, WrongSequenceError
from agent99.groups._place import (
    Place,
    Progress,
    claimed,
    committed,
    decode,
    encode,
    is_same_tenure,
    released,
)
from agent99.groups._view import Known
from agent99.journal import Bucket

_TRIES_MAX = 3
"""An entry that was read may be a moment old, where the bucket has replicas."""


class Tenure:
    """A partition in the hands of one member.

    All methods raise `JournalError`, `DeadlineExceededError`, `TransportError`,
    `RemoteProtocolError` and `ClosedError`; then the outcome is unknown, and the next call finds
    out.

    Invariant: once lost, nothing is written any more.
    """

    def __init__(self, bucket: Bucket, key: str, place: Place, revision: int) -> None:
        self._bucket = bucket
        self._key = key
        self.revision = revision
        """Of the entry as it was last written."""
        self._lock = asyncio.Lock()
        self.place = place
        """As it was last written."""
        self.is_lost = False
        """Another member has claimed it, or it was released."""

    def __repr__(self) -> str:
        return f"Tenure({self._key!r}, {self.place!r}, revision={self.revision})"

    @property
    def epoch(self) -> int:
        """Of the claim."""
        return self.place.epoch

    async def commit(self, progress: Progress, suspect: int = 0) -> None:
        """Say how far the partition is.

        Args:
            suspect: As `committed` takes it.

        Raises:
            LeaseLostError: another member has claimed it: nothing more of it is ours.
        """
        async with self._lock:
            await self._write(committed(self.place, progress, suspect))

    async def release(self, progress: Progress) -> None:
        """Say how far it is, and give it up.

        Raises:
            LeaseLostError: another member has claimed it.
        """
        async with self._lock:
            await self._write(released(self.place, progress))
            self.is_lost = True

    async def _write(self, place: Place) -> None:
        for _ in range(_TRIES_MAX):
            if self.is_lost:
                break
            try:
                self.revision = await self._bucket.update(
                    self._key, encode(place), revision=self.revision
                )
            except WrongSequenceError:
                if await self._was_written(place):
                    return
            else:
                self.place = place
                return
        self.is_lost = True
        raise LeaseLostError(f"another member has claimed {self._key!r} since epoch {self.epoch}")

    async def _was_written(self, place: Place) -> bool:
        """Find out who wrote: ourselves, by a write whose receipt was lost, or another member."""
        entry = await self._bucket.get(self._key)
        found = None if entry is None else decode(entry.value, Place)
        if entry is not None and found == place:
            self.revision, self.place = entry.revision, place
            return True
        if entry is not None and is_same_tenure(found, self.place):
            self.revision = entry.revision
        else:
            self.is_lost = True
        return False


async def claim(
    bucket: Bucket, key: str, known: Known, member: str, alive: Container[str] = ()
) -> Tenure | None:
    """Claim a partition whose entry was last seen as `known`; None: somebody wrote it since.

    Args:
        alive: The members that are there.

    Raises:
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError: it
            may be claimed, then by a tenure that nobody uses: claim it again.
    """
    place = claimed(known.place, member, alive)
    try:
        if known.revision:
            revision = await bucket.update(key, encode(place), revision=known.revision)
        else:
            revision = await bucket.create(key, encode(place))
    except WrongSequenceError:
        return None
    return Tenure(bucket, key, place, revision)
