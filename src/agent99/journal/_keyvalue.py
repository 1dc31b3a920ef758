"""Buckets on JetStream: a stream that keeps the last message of each subject."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from agent99.errors import WrongSequenceError
from agent99.journal._api import WRONG_SEQUENCE, error_of
from agent99.journal._client import JetStreamClient
from agent99.journal._follow import JetStreamFollower
from agent99.journal._grammar import (
    check_key,
    check_key_pattern,
    check_sequence,
    whole_seconds,
)
from agent99.journal._headers import marker_of, number_of
from agent99.journal._port_buckets import Change, Entry, Snapshot
from agent99.journal._read import read_batches
from agent99.journal._streams import MARKER_TTL_S

_CREATE_TRIES_MAX = 8
_EXPECT = b"Nats-Expected-Last-Subject-Sequence: %d\r\n"
_TTL = b"Nats-TTL: %ds\r\n"
# A purge and not a mere delete: the server lets a purge's notice go in silence when its time is up,
# and tells of an expiry when a delete's does.
_REMOVE = b"KV-Operation: PURGE\r\nNats-Rollup: sub\r\n" + _TTL % MARKER_TTL_S


class JetStreamBucket:
    """A bucket that any client's key-value can read and write."""

    def __init__(self, client: JetStreamClient, name: str, *, heartbeat_s: float) -> None:
        self._client = client
        self._name = name
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."
        self._heartbeat_s = heartbeat_s

    def __repr__(self) -> str:
        return f"JetStreamBucket({self._name!r})"

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._name

    async def get(self, key: str) -> Entry | None:
        """Return the entry, or None. With replicas it may be a moment old.

        Raises:
            InvalidNameError: nothing was sent.
            StreamNotFoundError: the bucket is gone.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_key(key)
        message = await self._client.direct_get(self._stream, self._prefix + key)
        if message is None or marker_of(message.headers) != "put":
            return None
        return Entry(key, message.payload, number_of(message.headers, b"Nats-Sequence"))

    async def put(self, key: str, value: bytes) -> int:
        """Write whatever is there before; returns the revision. Returned = stored.

        Delivery: on any error but StreamFullError the outcome is unknown; repeat it.

        Raises:
            InvalidNameError, PayloadTooLargeError: nothing was sent.
            StreamNotFoundError: the bucket is gone.
            StreamFullError: it is at its bound.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_key(key)
        return await self._write(key, value, b"", None, self._client.deadline_s())

    async def create(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        """Write only if there is no entry (nor a deleted or expired one); returns the revision.

        Args:
            ttl_s: Whole seconds, at least 1, after which the entry expires unless written again.

        Raises:
            WrongSequenceError: there is one.
            UsageError, and as `put`.
        """
        check_key(key)
        extra = b"" if ttl_s is None else _TTL % whole_seconds("ttl_s", ttl_s)
        deadline_s = self._client.deadline_s()
        expected = 0
        for _ in range(_CREATE_TRIES_MAX):
            try:
                return await self._write(key, value, extra, expected, deadline_s)
            except WrongSequenceError:
                expected = await self._revision_of_nothing(key, deadline_s)
        raise WrongSequenceError(key, 0, None)

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """Write only if the entry is still at `revision`; returns the new one.

        Raises:
            WrongSequenceError: somebody wrote first, or it expired.
            UsageError, and as `put`.
        """
        check_key(key)
        check_sequence("revision", revision, 1)
        return await self._write(key, value, b"", revision, self._client.deadline_s())

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Remove the entry; with `revision` only if it is still at it. To remove nothing is fine.

        Raises:
            WrongSequenceError: `revision` was given and somebody wrote first.
            UsageError, and as `put`.
        """
        check_key(key)
        if revision is not None:
            check_sequence("revision", revision, 1)
        await self._write(key, b"", _REMOVE, revision, self._client.deadline_s())

    async def snapshot(self, pattern: str = ">") -> tuple[Entry, ...]:
        """Return all entries whose keys match, oldest revision first.

        Raises:
            InvalidNameError: nothing was sent.
            StreamNotFoundError: the bucket is gone.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_key_pattern(pattern)
        subjects = self._prefix + pattern
        start = len(self._prefix)
        entries: dict[str, Entry] = {}
        async for batch in read_batches(self._client, self._stream, subjects, from_sequence=1):
            for each in batch:
                key = each.subject[start:]
                # A key that is written during the scan comes again, further on: the last one holds.
                entries.pop(key, None)
                if marker_of(each.headers) == "put":
                    entries[key] = Entry(key, each.payload, each.sequence)
        return tuple(entries.values())

    def follow(
        self, pattern: str = ">"
    ) -> AbstractAsyncContextManager[AsyncIterator[Snapshot | Change]]:
        """Follow the keys that match: first a `Snapshot`, then each `Change`, none missed between.

        A fresh `Snapshot` comes after a reconnect, when the server lost the follower, and when more
        than 8,192 changes or 16 MiB were waiting to be read.

        Entering and reading raise:
            StreamNotFoundError: the bucket is gone.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_key_pattern(pattern)
        return JetStreamFollower(
            self._client,
            self._stream,
            prefix=self._prefix,
            pattern=pattern,
            heartbeat_s=self._heartbeat_s,
        )

    async def _write(
        self, key: str, value: bytes, extra: bytes, expected: int | None, deadline_s: float
    ) -> int:
        if expected is not None:
            extra += _EXPECT % expected
        headers = b"NATS/1.0\r\n" + extra + b"\r\n" if extra else b""
        subject = (self._prefix + key).encode()
        ack = await self._client.publish(subject, value, deadline_s=deadline_s, headers=headers)
        if ack.error is None:
            return ack.seq
        what = key if ack.error.err_code in WRONG_SEQUENCE else f"bucket {self._name!r}"
        raise error_of(ack.error, what, expected)

    async def _revision_of_nothing(self, key: str, deadline_s: float) -> int:
        """Return the revision to expect where there is no entry; raise if there is one."""
        request: dict[str, object] = {"last_by_subj": self._prefix + key}
        last = await self._client.leader_get(self._stream, request, deadline_s=deadline_s)
        if last is None:
            return 0
        if marker_of(last.hdrs) == "put":
            raise WrongSequenceError(key, 0, last.seq)
        return last.seq
