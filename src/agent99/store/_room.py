"""Holds the outbox to its bound."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from agent99.clock import Clock
from agent99.errors import StoreOverloadedError

_SHARE: Final = 16
_FULL_S: Final = 0.1


class Room:
    """How many rows the outbox still takes.

    To count them costs milliseconds where a hundred thousand wait. So after a count this process
    takes a sixteenth of what is left before it counts again, and one that found the outbox full
    refuses for a tenth of a second without a look. The bound may be passed by a sixteenth for each
    other process.

    Used by all threads that write.
    """

    __slots__ = ("_clock", "_full", "_full_until_s", "_left", "_lock", "_rows_max")

    def __init__(self, rows_max: int, clock: Clock) -> None:
        self._rows_max = rows_max
        self._clock = clock
        self._lock = threading.Lock()
        self._left = 0
        self._full = 0
        self._full_until_s = 0.0

    def __repr__(self) -> str:
        return f"Room(left={self._left}, rows_max={self._rows_max})"

    def take(self, rows: int, count: Callable[[], int]) -> None:
        """Take the room of so many rows.

        Args:
            rows: What is about to be inserted; at least 1.
            count: Counts those that wait.

        Raises:
            StoreOverloadedError: there is none.
        """
        with self._lock:
            if self._left >= rows:
                self._left -= rows
                return
            if self._clock.monotonic_s() < self._full_until_s:
                raise self._refusal()
        waiting = count()
        with self._lock:
            left = self._rows_max - waiting - rows
            if left < 0:
                self._full = waiting
                self._full_until_s = self._clock.monotonic_s() + _FULL_S
                raise self._refusal()
            self._left = left // _SHARE

    def _refusal(self) -> StoreOverloadedError:
        return StoreOverloadedError("outbox rows", self._full, self._rows_max)
