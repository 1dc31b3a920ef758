"""Deletes the journals of sagas that ended long ago."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from agent99.clock import Clock
from agent99.errors import Agent99Error, StreamNotFoundError
from agent99.journal import Journal
from agent99.saga._log import ended_us

KEPT_S = 7 * 86_400.0
"""So long an ended saga answers whoever asks again with its key: as long as the store's keys."""
SWEEP_S = 3_600.0
BATCH = 20_000
"""Records that are looked at, and deleted one by one, before a pause;"""
PAUSE_S = 1.0
"""which leaves the server time for others."""

_log = logging.getLogger("agent99.saga")


class Sweep:
    """Deletes, now and then, what is older than it is kept for; what is open stays, however old.

    The oldest records go first, so that the last one that is left of a saga is its end.

    Args:
        pattern: Of the journals' subjects.
        is_first: Whether this instance sweeps for all of its agent. Where two believe it, or none,
            for a while, no harm is done: to delete none is fine, and there is time.
    """

    def __init__(
        self,
        journal: Journal,
        stream: str,
        pattern: str,
        clock: Clock,
        *,
        is_first: Callable[[], bool],
    ) -> None:
        self._journal = journal
        self._stream = stream
        self._pattern = pattern
        self._clock = clock
        self._is_first = is_first
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Sweep({self._pattern!r})"

    def start(self) -> None:
        """Sweep from now on. Idempotent."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def stop(self) -> None:
        """Sweep no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def sweep(self) -> int:
        """Delete what is too old; returns how many records that were.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        # One moment for all of it: what had not ended by then, and keeps its first records, keeps
        # the others too.
        before_us = self._clock.wall_us() - round(KEPT_S * 1e6)
        count, sequence = 0, 1
        with suppress(StreamNotFoundError):
            while sequence:
                deleted, sequence = await self._sweep_batch(sequence, before_us)
                count += deleted
                if sequence:
                    await self._clock.sleep(PAUSE_S)
        return count

    async def _sweep_batch(self, from_sequence: int, before_us: int) -> tuple[int, int]:
        """Delete some; returns how many records, and where to go on; 0: nowhere."""
        ended: dict[str, bool] = {}
        looked = count = 0
        records = self._journal.read(self._stream, self._pattern, from_sequence=from_sequence)
        async for record in records:
            if record.stored_us >= before_us:
                break
            if looked == BATCH:
                return count, record.sequence
            looked += 1
            if record.subject not in ended:
                ended[record.subject] = await self._has_ended(record.subject, before_us)
            if ended[record.subject]:
                await self._journal.delete(self._stream, record.sequence)
                count += 1
        return count, 0

    async def _has_ended(self, subject: str, before_us: int) -> bool:
        ended = await ended_us(self._journal, self._stream, subject)
        return ended is not None and ended < before_us

    async def _go_on(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_S)
            if not self._is_first():
                continue
            try:
                count = await self.sweep()
            except Agent99Error as error:
                _log.info("the sweep of old sagas waits: %s", error)
            else:
                _log.info("%s records of ended sagas were deleted", count)
