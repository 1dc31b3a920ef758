"""Stores what the buffer has, lane by lane: one append at a time, while the rest gathers."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from typing import Protocol

from agent99.clock import Clock
from agent99.errors import (
    Agent99Error,
    ClosedError,
    IdempotencyConflictError,
    StreamFullError,
    UsageError,
)
from agent99.ids import Ids
from agent99.systems.analytics._buffer import Buffer, Parcel
from agent99.systems.analytics._entries import Entry, Piece, Refused, gathered
from agent99.systems.analytics._ingested import Counts

AGAIN_S = 0.05
"""Before the second attempt; it doubles up to `AGAIN_S_MAX`."""
AGAIN_S_MAX = 1.0

_log = logging.getLogger("agent99.systems.analytics")


class Shelf(Protocol):
    """Where events are stored."""

    @property
    def bytes_max(self) -> int:
        """What the body of one may have."""
        ...

    async def store(self, piece: Piece) -> bool:
        """Store an event; returns False if it was there already.

        Raises:
            IdempotencyConflictError: another one is there under its id.
            as `Mesh.append`.
        """
        ...


class Writer:
    """Stores parcels until they are stored, or nobody waits for them and they certainly are not.

    Delivery: at least once, each under one id, those of a lane in their order.

    Args:
        gave_back: Told when the buffer has more room.
    """

    def __init__(
        self,
        buffer: Buffer[Entry],
        shelf: Shelf,
        counts: Counts,
        clock: Clock,
        ids: Ids,
        gave_back: Callable[[], None],
    ) -> None:
        self._buffer = buffer
        self._shelf = shelf
        self._counts = counts
        self._clock = clock
        self._ids = ids
        self._gave_back = gave_back
        self._lanes: dict[str, tuple[asyncio.Event, asyncio.Task[None]]] = {}
        # Of nobody's request: what is stored is of many, and does not end with one of them.
        self._where = contextvars.copy_context()

    def __repr__(self) -> str:
        return f"Writer(lanes={len(self._lanes)})"

    @property
    def bytes_max(self) -> int:
        """What an event may have."""
        return self._shelf.bytes_max

    def wake(self, lane: str) -> None:
        """Look at a lane: it has something new, or it is due now."""
        known = self._lanes.get(lane)
        if known is not None:
            known[0].set()
            return
        changed = asyncio.Event()
        task = asyncio.get_running_loop().create_task(
            self._work(lane, changed), context=self._where
        )
        self._lanes[lane] = changed, task

    def wake_all(self) -> None:
        """Look at every lane."""
        for changed, _ in self._lanes.values():
            changed.set()

    async def aclose(self) -> None:
        """End what is under way; whether that is stored is unknown."""
        tasks = [task for _, task in self._lanes.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- inside -----------------------------------------------------------------------------------

    async def _work(self, lane: str, changed: asyncio.Event) -> None:
        """Store what a lane has, until it has nothing."""
        try:
            while (due_s := self._buffer.due_s(lane)) is not None:
                wait_s = due_s - self._clock.monotonic_s()
                parcel = self._buffer.next(lane, self._clock.monotonic_s())
                if parcel is None:
                    await self._wait(changed, wait_s)
                else:
                    await self._store(parcel)
        finally:
            del self._lanes[lane]

    async def _wait(self, changed: asyncio.Event, wait_s: float) -> None:
        changed.clear()
        timer = self._clock.call_later(wait_s, changed.set)
        try:
            await changed.wait()
        finally:
            timer.cancel()

    async def _store(self, parcel: Parcel[Entry]) -> None:
        """See a parcel through to its end."""
        try:
            await self._store_all(parcel.items)
        except (ClosedError, UsageError, IdempotencyConflictError) as error:
            _end(parcel.items, Refused(error.code, str(error)))
        finally:
            self._buffer.stored(parcel)
            self._gave_back()

    async def _store_all(self, entries: list[Entry]) -> None:
        event_id, attempt = self._ids.uuid(), 0
        pieces: tuple[Piece, ...] = ()
        waiting: list[Entry] = []
        while True:
            if not any(entry.is_in_doubt for entry in entries):
                waiting = self._still_waiting(entries)
                if not waiting:
                    return
                pieces = waiting[0].pieces or gathered(waiting, event_id, self._shelf.bytes_max)
            try:
                await self._attempt(waiting, pieces)
            except (ClosedError, UsageError, IdempotencyConflictError):
                raise
            except Agent99Error as error:
                if attempt == 0:
                    _log.warning("what was ingested cannot be stored yet: %s", error)
                self._counts.retries += 1
                attempt += 1
                most_s = min(AGAIN_S * 2.0 ** (attempt - 1), AGAIN_S_MAX)
                await self._clock.sleep(most_s * (0.5 + self._ids.fraction() / 2))
            else:
                self._counts.batches += len(pieces)
                _end(waiting, None)
                return

    async def _attempt(self, entries: list[Entry], pieces: tuple[Piece, ...]) -> None:
        was_in_doubt = entries[0].is_in_doubt
        _doubt(entries, is_in_doubt=True)
        for number, piece in enumerate(pieces):
            try:
                is_new = await self._shelf.store(piece)
            except StreamFullError:
                if number == 0:  # of nothing else can it be said that it is not stored
                    _doubt(entries, is_in_doubt=was_in_doubt)
                raise
            if not is_new:
                self._counts.repeated += 1

    def _still_waiting(self, entries: list[Entry]) -> list[Entry]:
        """Return those whose callers still wait; the others are not stored."""
        waiting = [entry for entry in entries if not entry.done.done()]
        if len(waiting) < len(entries):
            self._counts.abandoned += sum(e.rows for e in entries) - sum(e.rows for e in waiting)
            entries[:] = waiting
        return waiting


def _doubt(entries: list[Entry], *, is_in_doubt: bool) -> None:
    for entry in entries:
        entry.is_in_doubt = is_in_doubt


def _end(entries: list[Entry], refused: Refused | None) -> None:
    """Tell who waits that it is stored, or why not."""
    for entry in entries:
        if not entry.done.done():
            entry.done.set_result(refused)
