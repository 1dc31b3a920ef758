"""Tells what comes again from what only has the same id: by its records. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeVar

import msgspec

from agent99.systems.analytics._columns import KNOWN_AS_CHARS, Columns
from agent99.systems.analytics._intake import DATA

T = TypeVar("T")


class _Held(msgspec.Struct):
    columns: dict[str, msgspec.Raw]
    known_as: str = ""


_UNREADABLE = (msgspec.MsgspecError, OverflowError, RecursionError, ValueError)
_decode = msgspec.json.Decoder(_Held).decode
_encode = msgspec.msgpack.Encoder().encode


def known_as(event_id: str, columns: Columns) -> str:
    """Return what a stored batch is remembered by: the same if, and only if, it comes again.

    The id alone would take other records under an id that was used before for a repetition. The
    server refuses these for two minutes; later they are stored, and acknowledged.

    Args:
        columns: As they were sent. What was looked up for them may be another the next time.
    """
    data = _encode((event_id, _sent(columns)))
    return blake2b(data, digest_size=KNOWN_AS_CHARS // 2).hexdigest()


def has_same_records(event_id: str, there: bytes, body: bytes) -> bool:
    """Tell whether two events under one id have the same records, whenever and wherever from."""
    try:
        first, second = _decode(there), _decode(body)
        if first.known_as or second.known_as:
            return _known_as(event_id, first) == _known_as(event_id, second)
        return _texts(first) == _texts(second)
    except _UNREADABLE:  # a stranger's
        return False


def _known_as(event_id: str, held: _Held) -> str:
    if held.known_as:
        return held.known_as
    columns = {name: msgspec.json.decode(column) for name, column in held.columns.items()}
    return known_as(event_id, columns)


def _texts(held: _Held) -> dict[str, bytes]:
    return {name: bytes(column) for name, column in _sent(held.columns).items()}


def _sent(columns: Mapping[str, T]) -> dict[str, T]:
    """Leave out what the sender has not said: when a `Datum` came is another time each time."""
    is_datum = columns.keys() == DATA.fields.keys()
    return {name: one for name, one in columns.items() if not (is_datum and name == DATA.time)}
