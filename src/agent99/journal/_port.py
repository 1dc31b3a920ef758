"""The port: bytes that last. Implementations are held to `agent99.testing.check_journal`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol

import msgspec


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream keeps. A full one refuses (`StreamFullError`); it never drops what it holds."""

    name: str
    subjects: tuple[str, ...]
    messages_max: int = -1
    """-1: no bound of its own."""
    bytes_max: int = -1
    age_s_max: float = 0
    """Seconds; 0 keeps for ever."""
    duplicate_window_s: float = 120
    """How long a message id is remembered."""
    replicas: int = 1


class Record(msgspec.Struct, frozen=True):
    """One stored message."""

    subject: str
    sequence: int
    """Its place in the stream; starts at 1."""
    payload: bytes
    stored_us: int
    """When the server stored it, microseconds since the epoch, UTC."""


class Stored(msgspec.Struct, frozen=True):
    """The server's receipt: the message is in the stream."""

    stream: str
    sequence: int
    duplicate: bool = False
    """It was there already, under the same message id; `sequence` is the first one's."""


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


class Journal(Protocol):
    """Streams and buckets. Every call ends by its deadline (5 s) with a result or a typed error.

    Besides what each method names, all raise `UsageError` or `InvalidNameError` (nothing was sent),
    `JournalError`, `DeadlineExceededError`, `TransportError`, `RemoteProtocolError` and
    `ClosedError` (of the wire).
    """

    async def ensure_stream(self, config: StreamConfig) -> None:
        """Create the stream, or change it to fit `config`. Idempotent."""
        ...

    async def delete_stream(self, name: str) -> None:
        """Delete a stream and all that it holds; deleting none is no error."""
        ...

    async def append(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str = "",
        expected_sequence: int | None = None,
    ) -> Stored:
        """Store a message. Returned = stored (and replicated, where the stream has replicas).

        Args:
            message_id: The same id within the stream's duplicate window is stored once.
            expected_sequence: The subject's last sequence must be this one (0: no message yet).

        Delivery: on an error other than the first three the outcome is unknown; repeat with the
            same `message_id`.

        Raises:
            WrongSequenceError: somebody wrote first.
            StreamNotFoundError: no stream takes this subject.
            StreamFullError: at its bound.
            PayloadTooLargeError, JournalError, DeadlineExceededError, TransportError
        """
        ...

    async def last(self, stream: str, subject: str) -> Record | None:
        """Return the subject's last record, or None."""
        ...

    def read(
        self, stream: str, subject: str = ">", *, from_sequence: int = 1
    ) -> AsyncIterator[Record]:
        """Yield what the stream holds now for `subject` (wildcards too), in order, then end.

        Delivery: each record once, across restarts of the server too.

        Raises:
            StreamNotFoundError
        """
        ...

    async def bucket(self, config: BucketConfig) -> Bucket:
        """Return the bucket: created if it is not there, changed where it does not fit `config`."""
        ...
