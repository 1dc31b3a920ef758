"""The bounded queue between a bucket and its follower's reader."""

from __future__ import annotations

import asyncio

from agent99.journal import Change, Snapshot
from agent99.journal._changes import ChangeQueue


def _put(number: int, size: int = 0) -> Change:
    return Change("put", f"k{number}", b"x" * size, number)


def test_order() -> None:
    """What went in first comes out first; a snapshot does not count against the bound."""
    queue = ChangeQueue(changes_max=3)
    queue.put_snapshot(Snapshot(()))
    assert queue.put_change(_put(1))
    assert queue.put_change(_put(2))
    assert [Snapshot(()), _put(1), _put(2)] == [queue.pop() for _ in range(len(queue))]


def test_overflow_by_count() -> None:
    """At its bound the queue throws everything away and takes nothing until it is cleared."""
    queue = ChangeQueue(changes_max=2)
    assert [True, True, False, False] == [queue.put_change(_put(i)) for i in range(4)]
    assert queue.overflowed
    assert 0 == len(queue)
    queue.clear()
    assert queue.put_change(_put(5))


def test_overflow_by_bytes() -> None:
    """Bytes are bounded too, and what was read is given back."""
    queue = ChangeQueue(bytes_max=100)
    for i in range(10):
        assert queue.put_change(_put(i, 90))
        queue.pop()
    assert queue.put_change(_put(11, 90))
    assert not queue.put_change(_put(12, 90))
    assert queue.overflowed


async def test_wake() -> None:
    """A waiting reader is woken by a change, an overflow, and `wake`; a cancelled one is not."""
    queue = ChangeQueue(changes_max=1)
    for wake in (lambda: queue.put_change(_put(1)), lambda: queue.put_change(_put(2)), queue.wake):
        waiting = asyncio.ensure_future(queue.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        wake()
        await asyncio.wait_for(waiting, 1)
    cancelled = asyncio.ensure_future(queue.wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    queue.wake()
    assert cancelled.cancelled()
    assert "unread=0" in repr(queue)
