"""Tells what comes again from what only has the same id: by its records. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TypeVar

import msgspec

from agent99.systems.analytics._columns import Columns
from agent99.systems.analytics._intake import DATA

T = TypeVar("T")


class _Held(msgspec.Struct):
    columns: dict[str, msgspec.Raw]


_decode = msgspec.json.Decoder(_Held).decode
_encode = msgspec.msgpack.Encoder().encode


def known_as(event_id: str, columns: Columns) -> str:
    """Return what a stored batch is remembered by: the same if, and only if, it comes again.

    The id alone would take other records under an id that was used before for a repetition. The
    server refuses these for two minutes; later they are stored, and acknowledged.
    """
    return blake2b(_encode((event_id, _sent(columns))), digest_size=24).hexdigest()


def has_same_records(there: bytes, body: bytes) -> bool:
    """Tell whether two events have the same records, whenever and from wherever these came."""
    try:
        return _texts(there) == _texts(body)
    except msgspec.DecodeError:  # a stranger's
        return False


def _texts(body: bytes) -> dict[str, bytes]:
    return {name: bytes(column) for name, column in _sent(_decode(body).columns).items()}


def _sent(columns: Mapping[str, T]) -> dict[str, T]:
    """Leave out what the sender has not said: when a `Datum` came is another time each time."""
    is_datum = columns.keys() == DATA.fields.keys()
    return {name: one for name, one in columns.items() if not (is_datum and name == DATA.time)}
