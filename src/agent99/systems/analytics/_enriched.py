"""Records with what was looked up for them, and their batches as events. Pure.

What a batch is remembered by is made of the records as they were sent: what is known of a key may
have changed when it comes again, and it is to count once all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

import msgspec

from agent99.systems.analytics._columns import (
    KNOWN_AS_CHARS,
    ColumnBatch,
    Columns,
    encode_batch,
    shard_key,
)
from agent99.systems.analytics._enrichment import Enrichment
from agent99.systems.analytics._entries import Piece, part_of
from agent99.systems.analytics._repeats import known_as
from agent99.systems.analytics._source import Source

_SCALARS: Final = (str, bytes, int, float)
_MAPPINGS: Final = (dict, Mapping)
"""Nearly always a dict, which is told at once."""
_UNFIT: Final = object()
"""Stands for a value that has not the column: it fits none."""
_MISFITS: Final = (ValueError, TypeError, OverflowError, RecursionError, msgspec.MsgspecError)


class Tally(msgspec.Struct):
    """What became of the values that records did not bring; each is in exactly one count."""

    enriched: int = 0
    missed: int = 0
    """There was none for the key."""
    misfit: int = 0
    """It was of another type than the column, or too long."""
    left: int = 0
    """It could not be looked up."""

    def add(self, other: Tally) -> None:
        """Count on."""
        self.enriched += other.enriched
        self.missed += other.missed
        self.misfit += other.misfit
        self.left += other.left


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Tell whether a value has others by name, or by key."""
    return isinstance(value, _MAPPINGS)


def wanted(enrichment: Enrichment, columns: Columns) -> list[Any]:
    """Return the distinct keys of the records that do not bring all columns, as they first come."""
    keys = columns[enrichment.by]
    needed: dict[Any, None] = {}
    for name, default in enrichment.defaults.items():
        needed |= dict.fromkeys(_blank(keys, columns[name], default))
    needed.pop(None, None)
    return list(needed)


def filled(
    enrichment: Enrichment, columns: Columns, found: Mapping[Any, Any] | None, tally: Tally
) -> Columns:
    """Return the columns with what was found, and count it.

    Args:
        found: By key; None: it could not be looked up.
    """
    keys, full = columns[enrichment.by], dict(columns)
    for name, default in enrichment.defaults.items():
        blank = _blank(keys, columns[name], default)
        if found is None:
            tally.left += len(blank)
            continue
        values, misfits = _values(enrichment, name, blank, found)
        full[name] = [
            values.get(key, own) if own == default else own
            for key, own in zip(keys, columns[name], strict=True)
        ]
        enriched, misfit = (
            sum(map(values.__contains__, blank)),
            sum(map(misfits.__contains__, blank)),
        )
        tally.enriched += enriched
        tally.misfit += misfit
        tally.missed += len(blank) - enriched - misfit
    return full


class Room(msgspec.Struct, frozen=True):
    """What the events of enriched records may have."""

    bytes_max: int
    row_bytes: int
    """How much longer a record may get."""


def enriched_pieces(
    source: Source[Any], sent: ColumnBatch, full: Columns, event_id: str, room: Room
) -> tuple[Piece, ...]:
    """Return a batch as events that the log takes: one, or its halves, or theirs.

    Where it is parted depends on what was sent alone: a repetition has the same parts, and under
    the same ids, whatever is looked up for it.
    """
    size = len(encode_batch(source, sent)) + sent.rows * room.row_bytes + KNOWN_AS_CHARS
    if size <= room.bytes_max or sent.rows < 2:
        named = known_as(event_id, sent.columns)
        stored = msgspec.structs.replace(sent, columns=full, known_as=named)
        body = bytes(encode_batch(source, stored))
        return (Piece(source.topic, shard_key(source, sent.shard), event_id, body, sent.rows),)
    middle = sent.rows // 2
    halves = ((0, middle), (middle, sent.rows))
    return tuple(
        piece
        for number, (start, end) in enumerate(halves)
        for piece in enriched_pieces(
            source,
            part_of(sent, start, end),
            {name: values[start:end] for name, values in full.items()},
            f"{event_id}.{number}",
            room,
        )
    )


def _blank(keys: list[Any], values: list[Any], default: Any) -> list[Any]:
    """Return the keys of the records that do not bring a value."""
    return [key for key, own in zip(keys, values, strict=True) if own == default]


def _values(
    enrichment: Enrichment, name: str, blank: list[Any], found: Mapping[Any, Any]
) -> tuple[dict[Any, Any], set[Any]]:
    """Return the values of a column by key, and the keys whose value does not fit."""
    values: dict[Any, Any] = {}
    misfits: set[Any] = set()
    is_only = len(enrichment.columns) == 1
    for key in dict.fromkeys(blank):
        value = None if key is None else _one(found.get(key), name, is_only=is_only)
        if value is None:
            continue
        try:
            values[key] = enrichment.fit(name, value)
        except _MISFITS:
            misfits.add(key)
    return values, misfits


def _one(value: Any, name: str, *, is_only: bool) -> Any:
    """Return what a value has of a column; None: nothing."""
    if is_mapping(value):
        return value.get(name)
    if value is None:
        return None
    if isinstance(value, _SCALARS):
        return value if is_only else _UNFIT
    return getattr(value, name, _UNFIT)
