"""The port of buckets: the last value of each key, and changes to follow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec


class BucketConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A key-value bucket: the last value of each key."""

    name: str
    ttl_s: float = 0
    """Seconds without a write after which a key expires; 0: never. Whole seconds, at least 1."""
    bytes_max: int = 256 * 1024 * 1024
    replicas: int = 1


class Entry(msgspec.Struct, frozen=True):
    """A key's value."""

    key: str
    value: bytes
    revision: int
    """Grows with every write to the bucket; for compare-and-set."""


class Change(msgspec.Struct, frozen=True):
    """What happened to a key."""

    kind: Literal["put", "delete", "expire"]
    key: str
    value: bytes
    """Empty unless `put`."""
    revision: int


class Snapshot(msgspec.Struct, frozen=True):
    """Everything in the bucket at one moment: what is not in it is gone.

    The first thing that following yields, and again after each reconnect.
    """

    entries: tuple[Entry, ...]


class Bucket(Protocol):
    """A key-value bucket. Keys are letters, digits, `-`, `_`, `=`, `/`, and `.` between tokens.

    Besides what each method names, all raise `InvalidNameError` (nothing was sent),
    `StreamNotFoundError` (the bucket is gone), `JournalError`, `DeadlineExceededError`,
    `TransportError`, `RemoteProtocolError` and `ClosedError` (of the wire); those that write also
    `PayloadTooLargeError` and `StreamFullError`.
    """

    @property
    def name(self) -> str:
        """The bucket's name."""
        ...

    async def get(self, key: str) -> Entry | None:
        """Return the entry, or None when there is none (never was, deleted, expired)."""
        ...

    async def put(self, key: str, value: bytes) -> int:
        """Write whatever is there before; returns the revision. Returned = stored."""
        ...

    async def create(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        """Write only if there is no entry (nor a deleted or expired one); returns the revision.

        Raises:
            WrongSequenceError: there is one.
        """
        ...

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """Write only if the entry is still at `revision`; returns the new one.

        Raises:
            WrongSequenceError: somebody wrote first.
        """
        ...

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Remove the entry; with `revision` only if it is still at it. To remove nothing is fine.

        Raises:
            WrongSequenceError: `revision` was given and somebody wrote first.
        """
        ...

    async def snapshot(self, pattern: str = ">") -> tuple[Entry, ...]:
        """Return all entries whose keys match."""
        ...

    def follow(
        self, pattern: str = ">"
    ) -> AbstractAsyncContextManager[AsyncIterator[Snapshot | Change]]:
        """Follow the keys that match: a `Snapshot`, then each `Change`, none missed between.

        A value that is overwritten before the follower was told of it may be skipped: the last
        state of each key always comes, its history does not.

        After a reconnect, or when the server lost the follower, a fresh `Snapshot` comes, within
        2 s of the link's return and with jitter, and changes go on from there. Never ends by
        itself.
        """
        ...
