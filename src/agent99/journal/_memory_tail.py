"""A tail in memory."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from agent99.clock import Clock
from agent99.errors import ClosedError, UsageError
from agent99.journal._grammar import matches
from agent99.journal._memory_stream import MemoryStream
from agent99.journal._port_streams import Record
from agent99.journal._waiter import Waiter


class MemoryTail:
    """Reads one stream of a `MemoryJournal` on and on.

    Args:
        find: Returns the stream of a name, or raises `StreamNotFoundError`.
    """

    def __init__(
        self,
        find: Callable[[str], MemoryStream],
        stream: str,
        subjects: tuple[str, ...],
        clock: Clock,
        *,
        from_sequence: int,
    ) -> None:
        self._find = find
        self._name = stream
        self._subjects = subjects or (">",)
        self._clock = clock
        self._next = from_sequence
        self._waiter = Waiter()
        self._stream: MemoryStream | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"MemoryTail({self._name!r}, next={self._next})"

    async def __aenter__(self) -> Self:
        await self._clock.sleep(0)
        self._join()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closed = True
        if self._stream is not None:
            self._stream.listeners.discard(self._waiter.wake)
        self._waiter.wake()

    async def read(self, count_max: int) -> tuple[Record, ...]:
        """Return the next records: at least one, once there is one; see `Tail`."""
        if self._waiter.is_waiting:
            raise UsageError("one task reads a tail")
        while not self._is_closed:
            stream = self._join()
            records, self._next = stream.on(self._next, self._fits, count_max)
            if records:
                return records
            await self._waiter.wait()
        raise ClosedError("tail")

    def _fits(self, subject: str) -> bool:
        return any(matches(pattern, subject) for pattern in self._subjects)

    def _join(self) -> MemoryStream:
        """Hear of what comes to the stream, which may be another one of the same name by now."""
        stream = self._find(self._name)
        if stream is not self._stream:
            if self._stream is not None:
                self._stream.listeners.discard(self._waiter.wake)
            stream.listeners.add(self._waiter.wake)
            self._stream = stream
        return stream
