"""What a follower has yet to read: a bounded queue that would rather start over than grow.

Both implementations of the port use it, so that a sluggish reader sees the same of both.
"""

from __future__ import annotations

from collections import deque

from agent99.journal._port_buckets import Change, Snapshot
from agent99.journal._waiter import Waiter

CHANGES_MAX = 8192
"""More unread changes than this are thrown away, and a fresh snapshot takes their place."""
CHANGES_BYTES_MAX = 16 * 1024 * 1024


class ChangeQueue:
    """Changes between one writer and one reader, on one event loop.

    Invariant: never more than `CHANGES_MAX` changes nor `CHANGES_BYTES_MAX` bytes of values; once
    `overflowed`, empty until `clear`.
    """

    def __init__(
        self, *, changes_max: int = CHANGES_MAX, bytes_max: int = CHANGES_BYTES_MAX
    ) -> None:
        self._items: deque[Snapshot | Change] = deque()
        self._changes_max = changes_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._waiter = Waiter()
        self.overflowed = False
        """Changes were thrown away: the reader needs a fresh snapshot."""

    def __repr__(self) -> str:
        return f"ChangeQueue(unread={len(self._items)}, overflowed={self.overflowed})"

    def __len__(self) -> int:
        return len(self._items)

    def put_snapshot(self, snapshot: Snapshot) -> None:
        """Add a snapshot; its size is the bucket's, so it does not count."""
        self._items.append(snapshot)
        self.wake()

    def put_change(self, change: Change) -> bool:
        """Add a change; returns False when it, and all before it, were thrown away."""
        if self.overflowed:
            return False
        self._bytes += len(change.value)
        if len(self._items) >= self._changes_max or self._bytes > self._bytes_max:
            self.clear()
            self.overflowed = True
            self.wake()
            return False
        self._items.append(change)
        self._waiter.wake()
        return True

    def pop(self) -> Snapshot | Change:
        """Take the oldest; there must be one."""
        item = self._items.popleft()
        if type(item) is Change:
            self._bytes -= len(item.value)
        return item

    def clear(self) -> None:
        """Throw everything away and start over."""
        self._items.clear()
        self._bytes = 0
        self.overflowed = False

    def wake(self) -> None:
        """Let the reader look again, whether something came or the world changed."""
        self._waiter.wake()

    async def wait(self) -> None:
        """Wait until `wake`."""
        await self._waiter.wait()
