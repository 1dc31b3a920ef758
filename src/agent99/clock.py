"""The one user of time: a port, the real clock, and deadlines that share a timer.

The deterministic twin is `agent99.testing.ManualClock`; both pass `agent99.testing.check_clock`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")

_NO_INDEX = -1  # of a slot that is in no table
_TIMER_S_MAX = 3_600.0  # a later deadline is looked at again every hour: loops bound their timers


class TimerHandle(Protocol):
    """A call that was put off."""

    def cancel(self) -> None:
        """Make sure that the call does not happen; does nothing when it already did."""
        ...


class Clock(Protocol):
    """Tells the time and waits."""

    def monotonic_s(self) -> float:
        """Return seconds from an arbitrary start; never goes back. For durations and deadlines."""
        ...

    def wall_us(self) -> int:
        """Return microseconds since the epoch, UTC. For what leaves the process."""
        ...

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds (0 gives other tasks a turn)."""
        ...

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback` on the running event loop after `delay_s` seconds."""
        ...


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    monotonic_s = staticmethod(time.monotonic)

    def __repr__(self) -> str:
        return "SystemClock()"

    def wall_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        return time.time_ns() // 1000

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds."""
        await asyncio.sleep(delay_s)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback` on the running event loop after `delay_s` seconds."""
        return asyncio.get_running_loop().call_later(delay_s, callback)


async def wait_done(clock: Clock, future: asyncio.Future[Any], timeout_s: float) -> bool:
    """Wait until a future is done, or the time is up; returns whether it is done.

    It goes on all the same, also when the wait is cancelled.
    """
    until: asyncio.Future[Any] = asyncio.ensure_future(clock.sleep(timeout_s))
    try:
        await asyncio.wait((future, until), return_when=asyncio.FIRST_COMPLETED)
    finally:
        until.cancel()
    return future.done()


class DeadlineSlot(dict[Key, Value]):
    """Entries whose deadlines lie within the same few milliseconds."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index


class DeadlineSlots(Generic[Key, Value]):
    """Many deadlines on one timer.

    `asyncio.timeout` costs about 10 µs a call; here an entry is two dictionary operations, because
    deadlines are gathered into slots of `resolution_s` and one timer serves them all. `expire` is
    called no earlier than the deadline and, on an idle loop, no later than `resolution_s` after it.
    It must not raise.

    Whoever removes the last entry of a slot gives it back with `release`: empty slots that stay
    until their time cost tens of megabytes at a high rate, and the cache misses that go with them.

    Invariant: while there is a slot the timer is set, for the earliest one or before it.
    """

    def __init__(
        self,
        clock: Clock,
        expire: Callable[[Key, Value], None],
        *,
        resolution_s: float = 0.01,
    ) -> None:
        self._clock = clock
        self._expire = expire
        self._resolution_s = resolution_s
        self._slots: dict[int, DeadlineSlot[Key, Value]] = {}
        self._timer: TimerHandle | None = None
        self._timer_index = 0
        self._expiring: DeadlineSlot[Key, Value] = DeadlineSlot(_NO_INDEX)
        # The slot used last, and the deadlines that belong to it: the next one is often among them.
        self._last: DeadlineSlot[Key, Value] = DeadlineSlot(_NO_INDEX)
        self._last_from_s = self._last_until_s = 0.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(pending={len(self)})"

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def slot(self, deadline_s: float) -> DeadlineSlot[Key, Value]:
        """Return the slot of a moment of the monotonic clock: put an entry in, at once."""
        if self._last_from_s <= deadline_s < self._last_until_s:
            return self._last
        return self._find_slot(int(deadline_s / self._resolution_s))

    def release(self, slot: DeadlineSlot[Key, Value]) -> None:
        """Take back a slot whose last entry was removed."""
        if slot is not self._last and not slot:
            self._slots.pop(slot.index, None)

    def close(self) -> None:
        """Forget every deadline."""
        for slot in (*self._slots.values(), self._expiring):
            slot.clear()
            slot.index = _NO_INDEX
        self._slots.clear()
        self._forget_last()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _find_slot(self, index: int) -> DeadlineSlot[Key, Value]:
        if not self._last:
            self._slots.pop(self._last.index, None)
        slot = self._slots.get(index)
        if slot is None:
            slot = self._slots[index] = DeadlineSlot(index)
            if self._timer is None or index < self._timer_index:
                self._set_timer(index)
        self._last = slot
        self._last_from_s = index * self._resolution_s
        self._last_until_s = (index + 1) * self._resolution_s
        return slot

    def _forget_last(self) -> None:
        self._last = DeadlineSlot(_NO_INDEX)
        self._last_from_s = self._last_until_s = 0.0

    def _set_timer(self, index: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_index = index
        delay_s = (index + 1) * self._resolution_s - self._clock.monotonic_s()
        self._timer = self._clock.call_later(min(max(delay_s, 0.0), _TIMER_S_MAX), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._forget_last()
        now = self._clock.monotonic_s()
        due = sorted(index for index in self._slots if (index + 1) * self._resolution_s <= now)
        for index in due:
            slot = self._slots.pop(index, None)
            if slot is not None:  # else an earlier one has closed us just now
                self._expire_slot(slot)
        first = min(self._slots, default=self._timer_index)
        if self._slots and (self._timer is None or first < self._timer_index):
            self._set_timer(first)

    def _expire_slot(self, slot: DeadlineSlot[Key, Value]) -> None:
        self._expiring = slot
        if slot is self._last:  # an earlier one of this tick has used it
            self._forget_last()
        slot.index = _NO_INDEX  # a newer slot may take its place: `release` must not remove that
        for key in tuple(slot):
            if key in slot:  # else an earlier one has removed it just now
                self._expire(key, slot.pop(key))


DeadlineTicket = tuple[DeadlineSlot[int, Callable[[], None]], int]
"""What `Deadlines.add` returns: for `Deadlines.remove` alone."""


class Deadlines:
    """Callbacks at deadlines, on one timer; see `DeadlineSlots`."""

    def __init__(self, clock: Clock, *, resolution_s: float = 0.01) -> None:
        self._slots: DeadlineSlots[int, Callable[[], None]] = DeadlineSlots(
            clock, _call, resolution_s=resolution_s
        )
        self._next_key = 0

    def __repr__(self) -> str:
        return f"Deadlines(pending={len(self)})"

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, deadline_s: float, expire: Callable[[], None]) -> DeadlineTicket:
        """Call `expire` once the monotonic clock has passed `deadline_s`; returns its ticket."""
        self._next_key = key = self._next_key + 1
        slot = self._slots.slot(deadline_s)
        slot[key] = expire
        return slot, key

    def remove(self, ticket: DeadlineTicket) -> None:
        """Forget a deadline; does nothing when it has passed."""
        slot, key = ticket
        if slot.pop(key, None) is not None and not slot:
            self._slots.release(slot)

    def close(self) -> None:
        """Forget every deadline."""
        self._slots.close()


def _call(_key: int, callback: Callable[[], None]) -> None:
    callback()


async def wait_ended(deadlines: Deadlines, future: asyncio.Future[Any], deadline_s: float) -> bool:
    """Wait until a future is done, or the monotonic clock is there; returns whether it is done.

    It goes on all the same, also when the wait is cancelled.
    """
    if future.done():
        return True
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(_ended: object = None) -> None:
        if not waiting.done():
            waiting.set_result(None)

    ticket = deadlines.add(deadline_s, wake)
    future.add_done_callback(wake)
    try:
        await waiting
    finally:
        future.remove_done_callback(wake)
        deadlines.remove(ticket)
    return future.done()


class TimeLimit:
    """Ends what its block waits for when the time is up, with a `TimeoutError`: `asyncio.timeout`.

    Args:
        seconds: From when the block is entered.
    """

    __slots__ = ("_cancelling", "_clock", "_deadlines", "_is_up", "_seconds", "_task", "_ticket")

    def __init__(self, deadlines: Deadlines, clock: Clock, seconds: float) -> None:
        self._deadlines = deadlines
        self._clock = clock
        self._seconds = seconds
        self._is_up = False

    def __repr__(self) -> str:
        return f"TimeLimit({self._seconds} s, is_up={self._is_up})"

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "only a task can be ended so"
        self._task: asyncio.Task[object] = task
        self._cancelling = task.cancelling()
        deadline_s = self._clock.monotonic_s() + self._seconds
        self._ticket: DeadlineTicket = self._deadlines.add(deadline_s, self._end)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._deadlines.remove(self._ticket)
        # Who is cancelled by somebody else at the same moment is cancelled.
        is_own = self._is_up and self._task.uncancel() <= self._cancelling
        if is_own and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def _end(self) -> None:
        self._is_up = True
        self._task.cancel()
