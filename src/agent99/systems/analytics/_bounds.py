"""Which integers a column holds, and the types by which a decoder refuses all others. Pure.

To check while it decodes costs a decoder nothing. To look for the least and the greatest of each
column afterwards took a sixth of what it takes to read an array of records.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec

from agent99.systems.analytics._source import Source

INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
TIME_US_MIN: Final = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
TIME_US_MAX: Final = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
"""The years 1 to 9999: what a datetime can say."""
_INT64: Final[Any] = Annotated[int, msgspec.Meta(ge=INT_MIN, le=INT_MAX)]
_TIME_US: Final[Any] = Annotated[int, msgspec.Meta(ge=TIME_US_MIN, le=TIME_US_MAX)]


def bounded(source: Source[Any], name: str) -> Any:
    """Return the type of the integers in a column."""
    return _TIME_US if name == source.time else _INT64


def strict_kind(source: Source[Any]) -> type[msgspec.Struct]:
    """Return the type by which records are read: a source's, with no field too many.

    Its integers are of 64 bits at most, but for those that are `unbounded`.

    Raises:
        TypeError, ValueError: the source's type cannot be that of a JSON object.
    """
    kind = source.kind
    # Scalars make no cycles: a thousand records are no work for the garbage collector, and were a
    # tenth of what it takes to ingest them.
    return msgspec.defstruct(
        kind.__name__,
        [_bounded_field(one) for one in fields_of(source).values() if _is_plain(one)],
        bases=(kind,),
        module=kind.__module__,
        kw_only=True,
        forbid_unknown_fields=True,
        gc=False,
    )


@lru_cache(256)
def unbounded(source: Source[Any]) -> tuple[str, ...]:
    """Return the integers of records, but for their time, that have rules of their own instead."""
    return tuple(
        name
        for name, field in source.fields.items()
        if field.kind is int and name != source.time and not _is_plain(fields_of(source)[name])
    )


@lru_cache(256)
def fields_of(source: Source[Any]) -> dict[str, msgspec.structs.FieldInfo]:
    """Return what is known of the fields: to find that out takes longer than to read a batch."""
    return {one.name: one for one in msgspec.structs.fields(source.kind)}


def _is_plain(field: msgspec.structs.FieldInfo) -> bool:
    return field.type in (int, int | None)


def _bounded_field(field: msgspec.structs.FieldInfo) -> tuple[str, Any, Any]:
    """Return an integer's field as `defstruct` takes it: as it is, but for the bounds."""
    kind: Any = _INT64 if field.type is int else _INT64 | None
    make: Callable[..., Any] = msgspec.field
    same = make(
        default=field.default, default_factory=field.default_factory, name=field.encode_name
    )
    return field.name, kind, same
