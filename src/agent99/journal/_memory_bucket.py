"""One bucket of the memory journal: the rules of `BucketConfig`, on a dictionary."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Literal, Self

import msgspec

from agent99.clock import Clock, TimerHandle
from agent99.errors import (
    PayloadTooLargeError,
    StreamFullError,
    StreamNotFoundError,
    WrongSequenceError,
)
from agent99.journal._changes import ChangeQueue
from agent99.journal._grammar import (
    check_key,
    check_key_pattern,
    check_sequence,
    matches,
    whole_seconds,
)
from agent99.journal._port_buckets import BucketConfig, Change, Entry, Snapshot


class _Kept(msgspec.Struct, frozen=True):
    entry: Entry
    expires_s: float
    """Monotonic; infinity: never."""


class BucketStore:
    """What one bucket holds, and who follows it.

    Invariant: `_bytes` is the size of all keys and values; the timer, if set, is set for the
    earliest expiry that is known.
    """

    def __init__(self, config: BucketConfig, clock: Clock) -> None:
        self.config = config
        self.deleted = False
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._expiries: list[tuple[float, int, str]] = []
        self._timer: TimerHandle | None = None
        self._timer_s = 0.0
        self._bytes = 0
        self._revision = 0
        self._followers: dict[MemoryFollower, str] = {}

    def __repr__(self) -> str:
        return f"BucketStore({self.config.name!r}, entries={len(self._kept)})"

    def get(self, key: str) -> Entry | None:
        """Return the live entry."""
        self.expire()
        kept = self._kept.get(key)
        return None if kept is None else kept.entry

    def entries(self, pattern: str) -> tuple[Entry, ...]:
        """Return the live entries that match, oldest revision first."""
        self.expire()
        found = [kept.entry for key, kept in self._kept.items() if matches(pattern, key)]
        return tuple(sorted(found, key=lambda entry: entry.revision))

    def write(self, key: str, value: bytes, ttl_s: float) -> int:
        """Store a value; `ttl_s` 0 means the bucket's own."""
        old = self.get(key)
        size = len(value) if old is not None else len(key) + len(value)
        freed = len(old.value) if old is not None else 0
        if self.config.bytes_max != -1 and self._bytes + size - freed > self.config.bytes_max:
            raise StreamFullError(f"bucket {self.config.name!r}: maximum bytes exceeded")
        self._bytes += size - freed
        self._revision += 1
        lives_s = min(ttl_s or float("inf"), self.config.ttl_s or float("inf"))
        expires_s = self._clock.monotonic_s() + lives_s
        self._kept[key] = _Kept(Entry(key, value, self._revision), expires_s)
        if lives_s != float("inf"):
            heapq.heappush(self._expiries, (expires_s, self._revision, key))
            self._set_timer()
        self._tell(Change("put", key, value, self._revision))
        return self._revision

    def remove(self, key: str, kind: Literal["delete", "expire"]) -> None:
        """Remove an entry, if it is there."""
        self._revision += 1
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= len(key) + len(kept.entry.value)
            self._tell(Change(kind, key, b"", self._revision))

    def expire(self) -> None:
        """Remove what is past its time."""
        now = self._clock.monotonic_s()
        while self._expiries and self._expiries[0][0] <= now:
            _, revision, key = heapq.heappop(self._expiries)
            kept = self._kept.get(key)
            if kept is not None and kept.entry.revision == revision:
                self.remove(key, "expire")

    def follow(self, follower: MemoryFollower, pattern: str) -> None:
        """Tell `follower` of each change to the keys that match."""
        self._followers[follower] = pattern

    def unfollow(self, follower: MemoryFollower) -> None:
        """Tell it no more."""
        self._followers.pop(follower, None)

    def end(self) -> None:
        """The bucket is deleted: followers learn of it, later calls are refused."""
        self.deleted = True
        for follower in self._followers:
            follower.changes.wake()

    def _tell(self, change: Change) -> None:
        for follower, pattern in self._followers.items():
            if matches(pattern, change.key):
                follower.changes.put_change(change)

    def _set_timer(self) -> None:
        due_s = self._expiries[0][0]
        if self._timer is not None:
            if self._timer_s <= due_s:
                return
            self._timer.cancel()
        self._timer_s = due_s
        delay_s = max(0.0, due_s - self._clock.monotonic_s())
        self._timer = self._clock.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.expire()
        if self._expiries:
            self._set_timer()


class MemoryFollower:
    """Follows a bucket: a snapshot, then each change."""

    def __init__(self, store: BucketStore, pattern: str) -> None:
        self._store = store
        self._pattern = pattern
        self._closed = False
        self.changes = ChangeQueue()

    def __repr__(self) -> str:
        return f"MemoryFollower({self._store.config.name!r}, {self._pattern!r})"

    async def __aenter__(self) -> Self:
        _check_there(self._store)
        self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closed = True
        self._store.unfollow(self)
        self.changes.wake()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Snapshot | Change:
        while not self._closed:
            if self.changes.overflowed:
                self._start()
            if self.changes:
                return self.changes.pop()
            _check_there(self._store)
            await self.changes.wait()
        raise StopAsyncIteration

    def _start(self) -> None:
        self.changes.clear()
        self.changes.put_snapshot(Snapshot(self._store.entries(self._pattern)))
        self._store.follow(self, self._pattern)


class MemoryBucket:
    """A bucket of a `MemoryJournal`: one of many handles to the same entries."""

    def __init__(self, store: BucketStore, clock: Clock, payload_bytes_max: int) -> None:
        self._store = store
        self._clock = clock
        self._payload_bytes_max = payload_bytes_max

    def __repr__(self) -> str:
        return f"MemoryBucket({self.name!r})"

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._store.config.name

    async def get(self, key: str) -> Entry | None:
        """Return the entry, or None; raises `InvalidNameError`, `StreamNotFoundError`."""
        check_key(key)
        await self._turn()
        return self._store.get(key)

    async def put(self, key: str, value: bytes) -> int:
        """Write whatever is there before; returns the revision.

        Raises:
            InvalidNameError, PayloadTooLargeError, StreamFullError, StreamNotFoundError
        """
        await self._begin(key, value)
        return self._store.write(key, value, 0)

    async def create(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        """Write only if there is no entry; returns the revision.

        Raises:
            WrongSequenceError: there is one.
            UsageError: `ttl_s` is no whole number of seconds.
            InvalidNameError, PayloadTooLargeError, StreamFullError, StreamNotFoundError
        """
        ttl = 0 if ttl_s is None else whole_seconds("ttl_s", ttl_s)
        await self._begin(key, value)
        entry = self._store.get(key)
        if entry is not None:
            raise WrongSequenceError(key, 0, entry.revision)
        return self._store.write(key, value, ttl)

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """Write only if the entry is still at `revision`; returns the new one.

        Raises:
            WrongSequenceError: somebody wrote first.
            UsageError, InvalidNameError, PayloadTooLargeError, StreamFullError, StreamNotFoundError
        """
        check_sequence("revision", revision, 1)
        await self._begin(key, value)
        self._compare(key, revision)
        return self._store.write(key, value, 0)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Remove the entry; with `revision` only if it is still at it.

        Raises:
            WrongSequenceError: `revision` was given and somebody wrote first.
            UsageError, InvalidNameError, StreamNotFoundError
        """
        if revision is not None:
            check_sequence("revision", revision, 1)
        await self._begin(key, b"")
        if revision is not None:
            self._compare(key, revision)
        self._store.remove(key, "delete")

    async def snapshot(self, pattern: str = ">") -> tuple[Entry, ...]:
        """Return all entries whose keys match, oldest revision first."""
        check_key_pattern(pattern)
        await self._turn()
        return self._store.entries(pattern)

    def follow(
        self, pattern: str = ">"
    ) -> AbstractAsyncContextManager[AsyncIterator[Snapshot | Change]]:
        """Follow the keys that match: first a `Snapshot`, then each `Change`."""
        check_key_pattern(pattern)
        return MemoryFollower(self._store, pattern)

    async def _begin(self, key: str, value: bytes) -> None:
        check_key(key)
        if len(value) > self._payload_bytes_max:
            raise PayloadTooLargeError("value", len(value), self._payload_bytes_max)
        await self._turn()
        self._store.expire()

    async def _turn(self) -> None:
        """Give others a turn before the effect, as a server would."""
        await self._clock.sleep(0)
        _check_there(self._store)

    def _compare(self, key: str, expected: int) -> None:
        entry = self._store.get(key)
        actual = 0 if entry is None else entry.revision
        if entry is None or actual != expected:
            raise WrongSequenceError(key, expected, actual)


def _check_there(store: BucketStore) -> None:
    if store.deleted:
        raise StreamNotFoundError(f"bucket {store.config.name!r} does not exist")
