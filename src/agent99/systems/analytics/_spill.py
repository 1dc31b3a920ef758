"""What has no room in the buffer, stored in a file at once, and from there in the log, in order.

A table of its own, and not a store's outbox: the outbox gives an event an id of its own, and a
batch that comes again would not be known for the one that lies here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from agent99.clock import Clock
from agent99.errors import (
    Agent99Error,
    Failure,
    IdempotencyConflictError,
    StoreFullError,
    UsageError,
)
from agent99.ids import Ids
from agent99.systems.analytics._entries import Piece, Refused
from agent99.systems.analytics._ingested import is_full
from agent99.systems.analytics._repeats import has_same_records

if TYPE_CHECKING:
    from agent99.store import Store, Transaction

Stored = asyncio.Future[Refused | None]
AT_ONCE = 32
"""Batches that are taken out of the file together."""
AGAIN_S = 1.0
"""Before it is looked at again, where the file or the log has failed."""

_TABLE = """
CREATE TABLE spilled (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id TEXT NOT NULL UNIQUE,
    topic TEXT NOT NULL,
    lane TEXT NOT NULL,
    row_count INTEGER NOT NULL,
    body BLOB NOT NULL
)
"""
_ADD = (
    "INSERT INTO spilled (event_id, topic, lane, row_count, body)"
    " VALUES (:event_id, :topic, :key, :rows, :body) ON CONFLICT DO NOTHING"
)
_FIND = "SELECT body FROM spilled WHERE event_id = :event_id"
_SUMS = "SELECT lane, count(*) AS batches, sum(length(body)) AS bytes FROM spilled GROUP BY lane"
_FIRST = (
    "SELECT number, topic, lane, event_id, body, row_count FROM spilled"
    " WHERE number > :after ORDER BY number LIMIT :batches"
)
_REMOVE = "DELETE FROM spilled WHERE number = :number"

_log = logging.getLogger("agent99.systems.analytics")


class Spill:
    """Batches in a file, and how they leave it.

    Invariant: as long as a lane has a batch here, `has` says so, and what comes later for the lane
    comes here too: its order is kept.

    Delivery: returned from `put` = stored in the file. From there in the log at least once, each
    under its id, those of a lane in their order, by this process or the next one on the same file.

    Args:
        url: `sqlite:///path`; of one process at a time.
        put_in: Puts a batch where what waits for the log is, behind the rest of its lane; returns
            when it is stored.

    Raises:
        UsageError: the URL is of no SQLite file.
    """

    def __init__(
        self,
        url: str,
        bytes_max: int,
        clock: Clock,
        ids: Ids,
        put_in: Callable[[Piece], Stored],
    ) -> None:
        if not url.startswith("sqlite:///"):
            # The URL is not shown: it may have a password.
            raise UsageError("what spills is kept in a SQLite file: its URL is sqlite:///path")
        self._url = url
        self._bytes_max = bytes_max
        self._clock = clock
        self._ids = ids
        self._put_in = put_in
        self._store: Store | None = None
        self._lanes: Counter[str] = Counter()
        self._bytes = 0
        self._more = asyncio.Event()
        self._putting: set[asyncio.Task[None]] = set()
        self._draining: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Spill({self._url!r}, batches={self.batches})"

    @property
    def batches(self) -> int:
        """How many lie there."""
        return self._lanes.total()

    def has(self, lane: str) -> bool:
        """Tell whether a batch of a lane lies there, or is on its way there."""
        return self._lanes[lane] > 0

    async def open(self) -> None:
        """Open the file, and go on with what lies there.

        Raises:
            as `Store.open`.
        """
        from agent99.store import Migration, open_store  # noqa: PLC0415 - loads SQLAlchemy

        migrations = (Migration(1, "spilled batches", (_TABLE,)),)
        store = open_store(
            self._url, migrations=migrations, schema="ingestion", clock=self._clock, ids=self._ids
        )
        await store.open()
        self._store = store
        for lane, batches, size in await store.read(lambda t: t.tuples(_SUMS)):
            self._lanes[lane] += batches
            self._bytes += size
        self._more.set()
        self._draining = asyncio.get_running_loop().create_task(self._drain(store))

    async def aclose(self) -> None:
        """Leave what lies there to the next process. Idempotent."""
        if self._draining is not None:
            self._draining.cancel()
            await asyncio.gather(self._draining, return_exceptions=True)
        await asyncio.gather(*self._putting, return_exceptions=True)
        if self._store is not None:
            await self._store.aclose()

    async def put(self, pieces: Sequence[Piece]) -> None:
        """Store batches, all or none; one that lies there under its id already is stored.

        Raises:
            Failure: `INGESTION_FULL`; `IDEMPOTENCY_CONFLICT`: another one lies there under its id.
            StoreError: they are not stored.
        """
        store = self._store
        assert store is not None, "it is open"
        size = sum(len(piece.body) for piece in pieces)
        if self._bytes + size > self._bytes_max:
            raise is_full(f"{self._bytes:,} bytes lie in the file")
        # Before it is there: what comes for the lane meanwhile must not overtake it.
        self._lanes.update(piece.key for piece in pieces)
        self._bytes += size
        putting = asyncio.get_running_loop().create_task(self._put(store, pieces))
        self._putting.add(putting)
        putting.add_done_callback(self._putting.discard)
        await asyncio.shield(putting)  # it takes effect though whoever waits gives up

    # --- inside -----------------------------------------------------------------------------------

    async def _put(self, store: Store, pieces: Sequence[Piece]) -> None:
        new: list[Piece] = []
        try:
            new = await store.transaction(lambda transaction: _add(transaction, pieces))
        except StoreFullError as error:
            raise is_full(str(error)) from error
        except IdempotencyConflictError as error:
            raise Failure(str(error), code=error.code) from error
        finally:
            known = [piece for piece in pieces if piece not in new]
            self._lanes.subtract(piece.key for piece in known)
            self._bytes -= sum(len(piece.body) for piece in known)
            self._more.set()

    async def _drain(self, store: Store) -> None:
        """Bring what lies there to the log, for ever."""
        while True:
            try:
                await self._bring(store)
            except Agent99Error as error:
                _log.warning("what was spilled cannot be stored yet: %s", error)
                await self._clock.sleep(AGAIN_S)

    async def _bring(self, store: Store) -> None:
        """Bring the first batches to the log; waits where there are none."""
        self._more.clear()
        rows = await store.read(lambda t: t.tuples(_FIRST, {"after": 0, "batches": AT_ONCE}))
        if not rows:
            await self._more.wait()
            return
        pieces = {number: Piece(*piece) for number, *piece in rows}
        under_way = {number: self._put_in(piece) for number, piece in pieces.items()}
        for number, stored in under_way.items():
            await self._see_through(pieces[number], stored)
            await store.transaction(partial(_remove, number=number))
            self._lanes[pieces[number].key] -= 1
            self._bytes -= len(pieces[number].body)

    async def _see_through(self, piece: Piece, stored: Stored) -> None:
        """Wait until a batch is in the log: it was acknowledged.

        Raises:
            Failure: it is not.
        """
        refused = await stored
        if refused is not None and refused.code == IdempotencyConflictError.code:
            # What came before under the same id had other records: these would be lost under it.
            other = msgspec.structs.replace(piece, event_id=self._ids.uuid())
            refused = await self._put_in(other)
        if refused is not None:
            raise refused.failure()


def _remove(transaction: Transaction, number: int) -> None:
    transaction.execute(_REMOVE, {"number": number})


def _add(transaction: Transaction, pieces: Sequence[Piece]) -> list[Piece]:
    """Add what is not there yet, and return it."""
    new: list[Piece] = []
    for piece in pieces:
        values: dict[str, Any] = msgspec.structs.asdict(piece)
        if transaction.execute(_ADD, values).changed:
            new.append(piece)
            continue
        there = transaction.execute(_FIND, {"event_id": piece.event_id}).scalar() or b""
        if not has_same_records(piece.event_id, there, piece.body):
            raise IdempotencyConflictError(piece.event_id)
    return new
