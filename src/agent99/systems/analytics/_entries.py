"""What is stored, and who waits for it: from entries of a parcel to events of the log. Pure."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from hashlib import blake2b
from re import compile as pattern
from typing import Any

import msgspec

from agent99.errors import Failure
from agent99.systems.analytics._columns import (
    ColumnBatch,
    Origin,
    columns_of,
    encode_batch,
    shard_key,
)
from agent99.systems.analytics._source import Source

_is_batch_id = pattern(r"[!-~]{1,48}").fullmatch


class Piece(msgspec.Struct, frozen=True):
    """One event of the log."""

    topic: str
    key: str
    event_id: str
    body: bytes
    rows: int


class Refused(msgspec.Struct, frozen=True):
    """Why something is not stored.

    No error: kept by who waits for it, an error would keep all that its traceback has seen.
    """

    code: str
    rule: str
    retryable: bool = False

    def failure(self) -> Failure:
        """Return what the caller is told."""
        return Failure(self.rule, code=self.code, retryable=self.retryable)


class Single(msgspec.Struct, frozen=True):
    """A record that is stored with others."""

    source: Source[Any]
    shard: int
    record: Any
    origin: Origin


class Entry(msgspec.Struct, eq=False, kw_only=True):
    """A record, or a batch of them, and who waits for it."""

    rows: int
    done: Future[Refused | None]
    """Ends when it is stored, or will not be; cancelled: nobody waits any more."""
    single: Single | None = None
    pieces: tuple[Piece, ...] = ()
    """Of a batch, which is stored alone."""
    is_in_doubt: bool = False
    """It may be stored, or is being stored: it cannot be taken back any more."""


def batch_id_of(text: str) -> str:
    """Return the id by which a batch is known: the text, or where that is long, its hash."""
    return text if _is_batch_id(text) else blake2b(text.encode(), digest_size=16).hexdigest()


def event_id_of(source: Source[Any], shard: int, batch_id: str) -> str:
    """Return the id of a batch's event: the same whenever, and to whomever, it is sent.

    At most 48 + 63 + 4 characters, which leaves room for the halves of halves.
    """
    return f"{batch_id}.{source.name}.{shard}"


def pieces_of(
    source: Source[Any], batch: ColumnBatch, event_id: str, bytes_max: int
) -> tuple[Piece, ...]:
    """Return a batch as events that the log takes: one, or its halves, or theirs.

    Columns can be larger than the rows were, as where fields have defaults that were left out.
    """
    body = bytes(encode_batch(source, batch))
    if len(body) <= bytes_max or batch.rows < 2:
        return (Piece(source.topic, shard_key(source, batch.shard), event_id, body, batch.rows),)
    middle = batch.rows // 2
    parts = (part_of(batch, 0, middle), part_of(batch, middle, batch.rows))
    return tuple(
        piece
        for number, part in enumerate(parts)
        for piece in pieces_of(source, part, f"{event_id}.{number}", bytes_max)
    )


def gathered(entries: Sequence[Entry], event_id: str, bytes_max: int) -> tuple[Piece, ...]:
    """Return single records of one shard as events."""
    singles = [entry.single for entry in entries if entry.single is not None]
    source = singles[0].source
    batch = ColumnBatch(
        source=source.name,
        shard=singles[0].shard,
        rows=len(singles),
        columns=columns_of(source, [single.record for single in singles]),
        origins=tuple(single.origin for single in singles),
    )
    return pieces_of(source, batch, event_id, bytes_max)


def part_of(batch: ColumnBatch, start: int, end: int) -> ColumnBatch:
    """Return some rows of a batch, with where they are from."""
    origins: list[Origin] = []
    first = 0
    for origin in batch.origins:
        rows = min(first + origin.rows, end) - max(first, start)
        if rows > 0:
            origins.append(msgspec.structs.replace(origin, rows=rows))
        first += origin.rows
    return msgspec.structs.replace(
        batch,
        rows=end - start,
        columns={name: values[start:end] for name, values in batch.columns.items()},
        origins=tuple(origins),
    )
