"""Who is let in when the buffer is full: the policies of overflow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from agent99.clock import Deadlines, wait_ended
from agent99.systems.analytics._buffer import Buffer
from agent99.systems.analytics._entries import Entry, Refused
from agent99.systems.analytics._ingested import DROPPED, Counts, Overflow, is_full


class Put(msgspec.Struct, frozen=True):
    """An entry on its way into the buffer."""

    lane: str
    entry: Entry
    size: int
    due_s: float | None = None
    """Of a single record: when it is to be stored at the latest. None: it is a batch."""


class _Blocked(msgspec.Struct, eq=False):
    puts: Sequence[Put]
    rows: int
    size: int
    is_in: asyncio.Future[None]


class Door:
    """Lets entries into the buffer; those that wait for room, in the order in which they came.

    Invariant: who waits has no room. Together they have no more bytes than the buffer may have.

    Args:
        wake: Told of each lane that has something new.
    """

    def __init__(
        self,
        buffer: Buffer[Entry],
        policy: Overflow,
        counts: Counts,
        deadlines: Deadlines,
        wake: Callable[[str], None],
    ) -> None:
        self._buffer = buffer
        self._policy = policy
        self._counts = counts
        self._deadlines = deadlines
        self._wake = wake
        self._blocked: deque[_Blocked] = deque()
        self._blocked_bytes = 0

    def __repr__(self) -> str:
        return f"Door({self._policy}, blocked={self.blocked})"

    @property
    def blocked(self) -> int:
        """How many wait for room."""
        return len(self._blocked)

    def try_put(self, puts: Sequence[Put]) -> bool:
        """Let entries in, all or none; returns whether there was room for them."""
        rows, size = _sums(puts)
        if self._blocked or not self._buffer.fits(rows, size):
            return False
        self._let_in(puts)
        return True

    async def put(self, puts: Sequence[Put], until_s: float) -> None:
        """Let entries in, all or none, as the policy says.

        Args:
            until_s: So long they may wait for room, by the monotonic clock.

        Raises:
            Failure: `INGESTION_FULL`: they are not in.
        """
        if self.try_put(puts):
            return
        rows, size = _sums(puts)
        bounds = self._buffer.bounds
        if rows > bounds.buffer_records_max or size > bounds.buffer_bytes_max:
            raise is_full("it is larger than the buffer")
        if self._policy == "drop_oldest":
            self._make_room(rows, size)
            if self.try_put(puts):
                return
        if self._policy != "block":
            raise is_full(f"{self._buffer.records:,} records wait to be stored")
        await self._wait(_Blocked(puts, rows, size, _future()), until_s)

    def look(self) -> None:
        """Let in who has room now: some was given back."""
        blocked = self._blocked
        while blocked and (
            blocked[0].is_in.done() or self._buffer.fits(blocked[0].rows, blocked[0].size)
        ):
            first = blocked.popleft()
            self._blocked_bytes -= first.size
            if not first.is_in.done():
                self._let_in(first.puts)
                first.is_in.set_result(None)

    # --- inside -----------------------------------------------------------------------------------

    async def _wait(self, waiter: _Blocked, until_s: float) -> None:
        if self._blocked_bytes + waiter.size > self._buffer.bounds.buffer_bytes_max:
            raise is_full(f"{self.blocked:,} requests wait for room")
        self._blocked.append(waiter)
        self._blocked_bytes += waiter.size
        try:
            if not await wait_ended(self._deadlines, waiter.is_in, until_s):
                raise is_full("there was no room in time")
        finally:
            if waiter.is_in.cancel():  # it is not in
                self._blocked.remove(waiter)
                self._blocked_bytes -= waiter.size
                self.look()  # whoever is behind it may be smaller

    def _let_in(self, puts: Sequence[Put]) -> None:
        for put in puts:
            if put.due_s is None:
                self._buffer.add_batch(put.lane, put.entry, put.entry.rows, put.size)
            else:
                self._buffer.add(put.lane, put.entry, put.size, put.due_s)
            self._wake(put.lane)

    def _make_room(self, rows: int, size: int) -> None:
        while not self._buffer.fits(rows, size):
            parcel = self._buffer.drop_oldest()
            if parcel is None:
                return
            self._counts.dropped += parcel.rows
            for entry in parcel.items:
                if not entry.done.done():
                    rule = "it made room for later records, and was not stored"
                    entry.done.set_result(Refused(DROPPED, rule, retryable=True))


def _sums(puts: Sequence[Put]) -> tuple[int, int]:
    return sum(put.entry.rows for put in puts), sum(put.size for put in puts)


def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()
