"""The outbox as its relay sees it: one owner takes rows in order and says where they are stored.

An owner shows signs of life by counting up a number in the database. Another process takes the
outbox once it has seen the number stand still for a whole lease by its own clock, so that no two
clocks are ever compared. Whatever the owner writes it writes under its epoch, in the same
transaction as a look at it: one that was taken for dead changes nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from agent99.errors import LeaseLostError, UsageError
from agent99.store._append import COUNT
from agent99.store._engine import Engine
from agent99.store._transaction import Transaction

T = TypeVar("T")

_TAKE_BYTES_MAX: Final = 8 * 1024 * 1024
_ROWS_MAX: Final = 10_000
_FORGET_ROWS_MAX: Final = 5_000
_RENEWALS = 3  # signs of life in one lease

_FIND_OWNER = "SELECT epoch, beats, owner FROM agent99_relay WHERE schema_name = :schema"
_ADD_OWNER = (
    "INSERT INTO agent99_relay (schema_name, epoch, beats, owner) VALUES (:schema, 0, 0, '')"
    " ON CONFLICT DO NOTHING"
)
_BECOME_OWNER = (
    "UPDATE agent99_relay SET epoch = epoch + 1, beats = 0, owner = :owner"
    " WHERE schema_name = :schema AND epoch = :epoch AND beats = :beats"
)
_BEAT = "UPDATE agent99_relay SET beats = beats + 1 WHERE schema_name = :schema AND epoch = :epoch"
_RELEASE = (
    "UPDATE agent99_relay SET epoch = epoch + 1, owner = ''"
    " WHERE schema_name = :schema AND epoch = :epoch"
)
_WAITING = "FROM agent99_outbox WHERE schema_name = :schema AND stored_us IS NULL"
_SIZES = (
    f"SELECT position, length(body) {_WAITING} AND position > :after ORDER BY position LIMIT :n"
)
_TAKE = (
    f"SELECT position, id, topic, key, body, headers, traceparent, created_us {_WAITING}"
    " AND position > :after AND position <= :last ORDER BY position"
)
_MARK = (
    "UPDATE agent99_outbox SET stream = :stream, sequence = :sequence, stored_us = :now_us"
    " WHERE position = :position AND schema_name = :schema AND stored_us IS NULL"
)
_KEPT = "SELECT count(*) FROM agent99_outbox WHERE schema_name = :schema AND stored_us IS NOT NULL"
_HEIGHTS = (
    "SELECT stream, sequence, id FROM (SELECT stream, sequence, id,"
    " row_number() OVER (PARTITION BY stream ORDER BY sequence DESC) AS place"
    " FROM agent99_outbox WHERE schema_name = :schema AND stored_us IS NOT NULL) AS placed"
    " WHERE place = 1 ORDER BY stream"
)
_GIVE_BACK = (
    "UPDATE agent99_outbox SET stream = NULL, sequence = NULL, stored_us = NULL WHERE"
    " schema_name = :schema AND stored_us IS NOT NULL AND stream = :stream AND sequence > :above"
)
_FORGET = (
    "DELETE FROM agent99_outbox WHERE position IN (SELECT position FROM agent99_outbox"
    " WHERE schema_name = :schema AND stored_us IS NOT NULL AND stored_us < :before_us"
    " ORDER BY stored_us LIMIT :rows_max)"
)
_OLDEST = f"SELECT created_us {_WAITING} ORDER BY position LIMIT 1"


class OutboxRow(msgspec.Struct, frozen=True, gc=False):
    """An event that waits to be sent."""

    position: int
    """Its place: grows in the order in which transactions took effect, per key."""
    id: str
    """Names the event; to be sent as the message id, so that the stream knows a duplicate."""
    topic: str
    key: str
    """The key in whose order it is sent; its own id where none was given."""
    body: bytes
    """The event as a JSON object."""
    headers: bytes
    """The user's own headers as a JSON object; empty for none."""
    traceparent: str
    """Empty for none."""
    created_us: int
    """When it was appended, microseconds since the epoch, UTC."""


class OutboxReceipt(msgspec.Struct, frozen=True, gc=False):
    """Where a row was stored."""

    position: int
    """Of the row."""
    stream: str
    sequence: int
    """Its place in the stream; starts at 1."""


class OutboxHeight(msgspec.Struct, frozen=True):
    """The last message of a stream that the outbox still knows."""

    stream: str
    sequence: int
    """The highest recorded; a stream that ends below it has lost messages."""
    id: str
    """What stands there; another id there says the same."""


class OutboxCounts(msgspec.Struct, frozen=True):
    """The outbox at one moment."""

    waiting: int
    """Rows that are not stored in a stream yet."""
    stored: int
    """Rows that are, and are kept for a while."""
    oldest_age_s: float
    """Seconds since the first of those that wait was appended; 0 when none waits."""


class _Owner(NamedTuple):
    """What stands in the database, and since when it has not changed."""

    epoch: int
    beats: int
    since_s: float


class Outbox:
    """What the transactions of a schema have appended, and the way to own it.

    Belongs to the event loop of its store.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._me = engine.scope.ids.uuid()
        self._seen: _Owner | None = None

    def __repr__(self) -> str:
        return f"Outbox({self._engine.database.name!r}, schema={self._engine.scope.schema!r})"

    async def claim(self) -> OutboxLease | None:
        """Become the one owner in all processes; returns None while another is it.

        Ask again every second or so. Who was killed is followed within `outbox_lease_s` and that
        time; who gave the outbox back, at once. A new claim of the same store ends its old lease.

        Raises:
            StoreUnavailableError, StoreOverloadedError, StoreError, ClosedError
            UsageError: the store is not open.
        """
        scope = self._engine.scope
        which = {"schema": scope.schema}
        row = await self._engine.read(lambda t: t.execute(_FIND_OWNER, which).first())
        now_s = scope.clock.monotonic_s()
        if row is None:
            await self._engine.transaction(lambda t: t.execute(_ADD_OWNER, which))
            epoch, beats, owner = 0, 0, ""
        else:
            epoch, beats, owner = row
        if self._seen is None or (epoch, beats) != self._seen[:2]:
            self._seen = _Owner(epoch, beats, now_s)
        is_silent = now_s - self._seen.since_s >= scope.options.outbox_lease_s
        if not (is_silent or owner in ("", self._me)):
            return None
        values = {**which, "epoch": epoch, "beats": beats, "owner": self._me}
        won = await self._engine.transaction(lambda t: t.execute(_BECOME_OWNER, values).changed)
        return OutboxLease(self._engine, epoch + 1, now_s) if won else None

    async def counts(self) -> OutboxCounts:
        """Count what waits and what is kept; it costs milliseconds where there are many rows.

        Raises:
            as `claim`.
        """
        which = {"schema": self._engine.scope.schema}

        def count(transaction: Transaction) -> tuple[int, int, int | None]:
            return (
                transaction.execute(COUNT, which).scalar() or 0,
                transaction.execute(_KEPT, which).scalar() or 0,
                transaction.execute(_OLDEST, which).scalar(),
            )

        waiting, stored, oldest_us = await self._engine.read(count)
        now_us = self._engine.scope.clock.wall_us()
        age_us = 0 if oldest_us is None else max(0, now_us - oldest_us)
        return OutboxCounts(waiting, stored, age_us / 1_000_000)

    async def wait_added(self, timeout_s: float) -> bool:
        """Wait until this process has added rows since the last `take`; False after `timeout_s`.

        Rows that other processes add are found by taking again after a while.
        """
        return await self._engine.arrivals.wait(timeout_s)


class OutboxLease:
    """The ownership of an outbox: what only its relay may do.

    Every method raises `LeaseLostError`, and changes nothing, once another process has taken the
    outbox or it was released; and whatever `Outbox.claim` raises.
    """

    def __init__(self, engine: Engine, epoch: int, renewed_s: float) -> None:
        self._engine = engine
        self._renewed_s = renewed_s
        self.epoch = epoch
        """Grows with every change of owner; starts at 1."""

    def __repr__(self) -> str:
        return f"OutboxLease(epoch={self.epoch}, is_live={self.is_live})"

    @property
    def is_live(self) -> bool:
        """Whether nobody can have taken the outbox yet: to be asked before a row is sent.

        An owner that was stopped for a while, and goes on with what it took before, would send
        behind its successor's back.
        """
        scope = self._engine.scope
        return scope.clock.monotonic_s() < self._renewed_s + scope.options.outbox_lease_s

    async def take(self, rows_max: int = 256, *, after: int = 0) -> list[OutboxRow]:
        """Return the first rows that wait, in order; at most 8 MiB of them, but for the first.

        They wait until `mark`: the next `take` gives them again. Rows of one key stand in the order
        of their transactions; send the next when the one before is stored. It also renews the
        lease, so call it every third of `outbox_lease_s` at the least.

        Args:
            rows_max: 1 to 10,000.
            after: Only rows behind this position, to go on past some that cannot be sent now.
        """
        _check_count("rows_max", rows_max)
        engine, scope = self._engine, self._engine.scope
        engine.arrivals.hear()  # first: what comes after the look rings again
        if scope.clock.monotonic_s() >= self._renewed_s + scope.options.outbox_lease_s / _RENEWALS:
            await self._change(lambda _: None)
        values = {"schema": scope.schema, "after": after, "n": rows_max}

        def work(transaction: Transaction) -> list[OutboxRow]:
            last = _last_position(transaction.execute(_SIZES, values))
            found = transaction.execute(_TAKE, {**values, "last": last})
            return [OutboxRow(*row) for row in found]

        return await self._look(work)

    async def mark(self, receipts: Sequence[OutboxReceipt]) -> int:
        """Record that rows are stored; returns how many were new. May be repeated.

        Args:
            receipts: At most 10,000.
        """
        if not receipts:
            return 0
        _check_count("receipts", len(receipts))
        scope = self._engine.scope
        now_us = scope.clock.wall_us()
        values = [
            {
                "schema": scope.schema,
                "position": receipt.position,
                "stream": receipt.stream,
                "sequence": receipt.sequence,
                "now_us": now_us,
            }
            for receipt in receipts
        ]
        return await self._change(lambda t: t.execute(_MARK, values).changed)

    async def heights(self) -> list[OutboxHeight]:
        """Return the last known message of each stream, to be compared with the streams.

        Compare after every claim and whenever the link to the server came back, before anything is
        sent: a server that lost its power may have lost what it had acknowledged.
        """
        which = {"schema": self._engine.scope.schema}
        found = await self._look(lambda t: t.execute(_HEIGHTS, which).all())
        return [OutboxHeight(*row) for row in found]

    async def give_back(self, stream: str, above: int) -> int:
        """Let all rows wait again that were stored in `stream` above a sequence; returns how many.

        All or none, in one transaction. `above=0` gives back all that are kept: where it is not
        known what the stream lost, its readers tell the duplicates by their ids.
        """
        values = {"schema": self._engine.scope.schema, "stream": stream, "above": above}
        count = await self._change(lambda t: t.execute(_GIVE_BACK, values).changed)
        if count:
            self._engine.arrivals.ring()
        return count

    async def forget(self) -> int:
        """Remove rows that were stored more than `outbox_kept_s` ago; returns how many.

        At most 5,000 at once. Only while the streams are there, after a look at `heights` since
        they came back: while a server is away nothing reaches its disk, and what is forgotten
        cannot be sent again.
        """
        scope = self._engine.scope
        before_us = scope.clock.wall_us() - int(scope.options.outbox_kept_s * 1_000_000)
        values = {"schema": scope.schema, "before_us": before_us, "rows_max": _FORGET_ROWS_MAX}
        return await self._change(lambda t: t.execute(_FORGET, values).changed)

    async def release(self) -> None:
        """Give the outbox back, so that another can have it at once."""
        which = {"schema": self._engine.scope.schema, "epoch": self.epoch}
        if not await self._engine.transaction(lambda t: t.execute(_RELEASE, which).changed):
            raise self._lost()
        self._renewed_s = float("-inf")

    async def _look(self, work: Callable[[Transaction], T]) -> T:
        """Run a function that reads, as the owner."""
        which = {"schema": self._engine.scope.schema}

        def owned(transaction: Transaction) -> T:
            if transaction.execute(_FIND_OWNER, which).one().epoch != self.epoch:
                raise self._lost()
            return work(transaction)

        result: T = await self._engine.read(owned)
        return result

    async def _change(self, work: Callable[[Transaction], T]) -> T:
        """Run a function as the owner; it is a sign of life as well."""
        scope = self._engine.scope
        which = {"schema": scope.schema, "epoch": self.epoch}

        def owned(transaction: Transaction) -> T:
            if not transaction.execute(_BEAT, which).changed:
                raise self._lost()
            return work(transaction)

        began_s = scope.clock.monotonic_s()
        result: T = await self._engine.transaction(owned)
        self._renewed_s = max(self._renewed_s, began_s)
        return result

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(f"the lease of epoch {self.epoch} on the outbox is lost")


def _last_position(sizes: Any) -> int:
    """Return the last of the rows that together are within the bound; the first one always is."""
    last = total = 0
    for position, size in sizes:
        total += size
        if last and total > _TAKE_BYTES_MAX:
            break
        last = position
    return last


def _check_count(what: str, count: int) -> None:
    if not 0 < count <= _ROWS_MAX:
        message = f"{what}: {count:,}; it must be 1 to {_ROWS_MAX:,}"
        raise UsageError(message)
