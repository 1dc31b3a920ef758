"""The way of entries to the log: through the buffer or, where that is full, through a file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent99.agent import Agent, link_of
from agent99.clock import wait_ended
from agent99.errors import Failure, StoreError
from agent99.systems.analytics._buffer import Buffer
from agent99.systems.analytics._door import Door, Put
from agent99.systems.analytics._entries import Entry, Piece, Refused, gathered
from agent99.systems.analytics._ingested import (
    Counts,
    IngestionOptions,
    is_full,
    is_partly_stored,
    is_unknown,
)
from agent99.systems.analytics._shelf import LogShelf
from agent99.systems.analytics._spill import Spill
from agent99.systems.analytics._writer import Writer


class Storing:
    """Has entries stored, and tells who waits for them.

    Args:
        agent: In whose name; it runs.
    """

    def __init__(self, agent: Agent, options: IngestionOptions, counts: Counts) -> None:
        self._link = link = link_of(agent)
        self._counts = counts
        self.buffer: Buffer[Entry] = Buffer(options)
        self._shelf = LogShelf(agent)
        self._writer = Writer(self.buffer, self._shelf, counts, link.clock, link.ids, self._look)
        self._door = Door(self.buffer, options.overflow, counts, link.deadlines, self._writer.wake)
        self._spill: Spill | None = None
        if options.overflow == "spill":
            self._spill = Spill(
                options.spill_url, options.spill_bytes_max, link.clock, link.ids, self._put_in
            )

    def __repr__(self) -> str:
        return f"Storing({self.buffer!r}, {self._door!r}, {self._spill!r})"

    @property
    def bytes_max(self) -> int:
        """What the body of an event may have."""
        return self._shelf.bytes_max

    @property
    def blocked(self) -> int:
        """Requests that wait for room."""
        return self._door.blocked

    @property
    def spilled_waiting(self) -> int:
        """Batches that lie in the file."""
        return 0 if self._spill is None else self._spill.batches

    async def open(self) -> None:
        """Have the log, and go on with what lies in the file.

        Raises:
            as `Spill.open`, and as `Journal.ensure_stream`.
        """
        await self._link.durable.streams.ensure_log()
        if self._spill is not None:
            await self._spill.open()

    async def aclose(self) -> None:
        """End what could not be stored until now; whoever waits for it was told. Idempotent."""
        await self._writer.aclose()
        if self._spill is not None:
            await self._spill.aclose()

    async def store(self, puts: Sequence[Put], until_s: float) -> None:
        """Have entries stored, and wait for it.

        Args:
            until_s: So long, by the monotonic clock.

        Raises:
            Failure: they are not stored, or that is unknown; its code says which.
        """
        entries = [put.entry for put in puts]
        try:
            if self._spill is None:
                await self._door.put(puts, until_s)
                await self._wait(entries, until_s)
            elif not any(self._spill.has(put.lane) for put in puts) and self._door.try_put(puts):
                await self._wait(entries, until_s)
            else:
                await self._put_down(self._spill, entries)
        finally:
            for entry in entries:  # nobody waits any more: what is certainly not stored is left out
                entry.done.cancel()
        self._counts.records += sum(entry.rows for entry in entries)

    def flush(self) -> list[Entry]:
        """Store at once what waits; returns it."""
        waiting = self.buffer.flush()
        self._writer.wake_all()
        return waiting

    # --- inside -----------------------------------------------------------------------------------

    def _look(self) -> None:
        self._door.look()

    async def _wait(self, entries: Sequence[Entry], until_s: float) -> None:
        all_of_it = asyncio.gather(*(entry.done for entry in entries))
        if not await wait_ended(self._link.deadlines, all_of_it, until_s):
            is_open = any(entry.is_in_doubt or entry.done.done() for entry in entries)
            raise is_unknown() if is_open else is_full("it could not be stored in time")
        refused = [one for one in all_of_it.result() if one is not None]
        if not refused:
            return
        worst = min(refused, key=lambda one: one.retryable)  # what no repetition mends goes first
        is_in_part = worst.retryable and len(refused) < len(entries)
        raise is_partly_stored() if is_in_part else worst.failure()

    async def _put_down(self, spill: Spill, entries: Sequence[Entry]) -> None:
        """Store entries in the file."""
        ids = self._link.ids
        pieces = [
            piece
            for entry in entries
            for piece in entry.pieces or gathered([entry], ids.uuid(), self.bytes_max)
        ]
        try:
            await spill.put(pieces)
        except StoreError as error:
            raise Failure(str(error), code=error.code, retryable=error.retryable) from error
        self._counts.spilled += sum(entry.rows for entry in entries)

    def _put_in(self, piece: Piece) -> asyncio.Future[Refused | None]:
        """Put a batch from the file behind what its lane has."""
        done: asyncio.Future[Refused | None] = asyncio.get_running_loop().create_future()
        entry = Entry(rows=piece.rows, done=done, pieces=(piece,))
        self.buffer.add_batch(piece.key, entry, piece.rows, len(piece.body))
        self._writer.wake(piece.key)
        return done
