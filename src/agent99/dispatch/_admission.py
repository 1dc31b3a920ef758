"""How much work an instance takes on: so many at once, so many waiting, and no more."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Admission(Generic[T]):
    """Counts what runs and keeps what waits, in order of arrival. Starts nothing itself.

    Invariant: in_flight <= concurrency_max and len(waiting) <= waiting_max; something waits only
    while in_flight == concurrency_max.
    """

    def __init__(self, *, concurrency_max: int, waiting_max: int) -> None:
        self.concurrency_max = concurrency_max
        self.waiting_max = waiting_max
        self.in_flight = 0
        self._waiting: deque[T] = deque()

    def __repr__(self) -> str:
        return (
            f"Admission(in_flight={self.in_flight}/{self.concurrency_max},"
            f" waiting={len(self._waiting)}/{self.waiting_max})"
        )

    @property
    def waiting(self) -> int:
        """How much waits."""
        return len(self._waiting)

    def enter(self) -> bool:
        """Take a place, if one is free; returns whether it was."""
        if self.in_flight >= self.concurrency_max:
            return False
        self.in_flight += 1
        return True

    def wait(self, work: T) -> bool:
        """Let work wait for a place; returns False when the queue is full too."""
        if len(self._waiting) >= self.waiting_max:
            return False
        self._waiting.append(work)
        return True

    def leave(self) -> bool:
        """Give a place back; returns whether somebody waits for one."""
        self.in_flight -= 1
        return bool(self._waiting)

    def next(self) -> T | None:
        """Return the work that has waited longest, with a place taken for it, or None."""
        if not self._waiting or not self.enter():
            return None
        return self._waiting.popleft()

    def forget(self, work: T) -> bool:
        """Let work wait no longer; returns whether it did."""
        try:
            self._waiting.remove(work)
        except ValueError:
            return False
        return True

    def clear(self) -> list[T]:
        """Return everything that waits, and forget it."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting
