"""Records as columns: how they travel and are stored, a batch at a time. Pure.

A column is a list of the values of one field, a datetime as microseconds since the epoch. Between
the records of a batch and its columns nothing is lost, and what a column may hold is checked here,
at the door: a batch that is stored can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from math import isfinite
from operator import attrgetter, countOf
from types import NoneType
from typing import Annotated, Any, Final, TypeVar
from zlib import crc32

import msgspec

from agent99.errors import BadRequestError, UsageError
from agent99.systems.analytics._bounds import (
    EPOCH,
    INT_MAX,
    INT_MIN,
    MICROSECOND,
    TIME_US_MAX,
    TIME_US_MIN,
    bounded,
    fields_of,
    strict_kind,
    unbounded,
)
from agent99.systems.analytics._source import SHARDS_MAX, FieldType, Source

R = TypeVar("R", bound=msgspec.Struct)
Columns = dict[str, list[Any]]
"""By the names of the fields; all are of one length."""

KNOWN_AS_CHARS: Final = 48
"""Of what a batch is remembered by."""
_NUMBERED = (int, datetime)
"""Kinds of fields whose columns are integers."""
_UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError)


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where some records of a batch are from; origins are in the order of the records."""

    data_id: str
    """What their sender was told."""
    rows: int
    """How many of the batch."""
    ingested_us: int
    """When they came, microseconds since the epoch."""
    source_ip: str = ""
    user_agent: str = ""


class ColumnBatch(msgspec.Struct, kw_only=True):
    """Records of one shard that are stored as one event."""

    source: str
    shard: int
    rows: int
    columns: dict[str, list[Any]]
    origins: tuple[Origin, ...] = ()
    is_final: bool = False
    """No record follows in this shard: it is not waited for any more."""
    known_as: str = ""
    """What `_repeats.known_as` made of the records as they were sent, where some of their columns
    were looked up. Empty: they are as they were sent."""


def columns_of(source: Source[R], records: Sequence[R]) -> Columns:
    """Return records as columns.

    Raises:
        BadRequestError: one is not of the source's type, or has a value that none may have; names
            the row and the field.
    """
    for kind in set(map(type, records)):
        if not issubclass(kind, source.kind):
            row = next(n for n, record in enumerate(records) if type(record) is kind)
            raise refusal(f"$[{row}]", f"Expected `{source.kind.__name__}`, got `{kind.__name__}`")
    columns = _transposed(source, records)
    check_columns(source, columns)
    return columns


def columns_read(source: Source[R], records: Sequence[R]) -> Columns:
    """Return records that `records_decoder` has read as columns: their types are right.

    How far a time may be is left to whoever knows what time it is.

    Raises:
        BadRequestError: one has a value that none may have; names the row and the field.
    """
    columns = _transposed(source, records)
    _check_numbers(source, columns, unbounded(source))
    return columns


def check_columns(source: Source[Any], columns: Mapping[str, Sequence[Any]]) -> None:
    """Refuse columns that a batch may not have: datetimes are microseconds in them.

    Raises:
        BadRequestError: a column is not there, longer than another, or has a value of another
            type, an integer beyond 64 bits, a float that is no number, a time before the year 1
            or after 9999; names the row and the field.
    """
    rows = len(columns.get(source.time, ()))
    for name, field in source.fields.items():
        values = columns.get(name)
        if values is None or len(values) != rows:
            found = "none" if values is None else f"{len(values)} values"
            raise refusal(f"$.{name}", f"{found} where there are {rows} records")
        numbers = _present(name, field, values)
        if field.kind is float and not all(map(isfinite, numbers)):
            raise _first(name, values, lambda value: not isfinite(value), "is no number")
        if field.kind in _NUMBERED:
            _check_range(source, name, numbers, values)


def floats_of(values: list[Any]) -> list[Any]:
    """Return numbers as floats, and -0.0 as 0.0: what is equal is then the same as bytes too.

    Values of which one is no number, or too large for a float, are returned as they are.
    """
    if not set(map(type, values)) <= {int, float, NoneType}:
        return values
    try:
        return [None if one is None else one + 0.0 for one in values]
    except OverflowError:
        return values


def encode_batch(source: Source[Any], batch: ColumnBatch) -> msgspec.Raw:
    """Return a batch as a JSON object.

    Raises:
        BadRequestError: it is not of this source, or its columns are not of one length.
    """
    _check_shape(source, batch)
    try:
        return msgspec.Raw(msgspec.json.encode(batch))
    except UnicodeEncodeError as error:
        raise refusal("$.columns", f"a text is not UTF-8: {error.reason}") from error


def decode_batch(source: Source[Any], data: bytes | msgspec.Raw) -> ColumnBatch:
    """Return a batch that was encoded, perhaps when the records had other fields.

    A field that came later has its default in each record; one that is gone is left out.

    Raises:
        BadRequestError: it is no batch of this source; names the path and the rule.
    """
    try:
        read = _batch_decoder(source).decode(data)
    except _UNREADABLE as error:
        raise _unreadable(error) from error
    columns: dict[str, Any] = msgspec.structs.asdict(read.columns)
    if msgspec.UNSET in columns.values():
        _fill_in(source, columns)
    batch = ColumnBatch(
        source=read.source,
        shard=read.shard,
        rows=read.rows,
        columns=columns,
        origins=read.origins,
        is_final=read.is_final,
        known_as=read.known_as,
    )
    _check_shape(source, batch)
    return batch


def records_decoder(source: Source[R]) -> Callable[[bytes | msgspec.Raw], list[R]]:
    """Return a function that reads records from JSON: an array of objects, or one object.

    It raises BadRequestError, which names the row and the field, for a record that is not of the
    source's type, also for one with a field too many: that takes a subclass of the type.

    Raises:
        UsageError: the type cannot be read from JSON.
    """
    kind, decoder = source.kind, _records_decoder(source)

    def decode(data: bytes | msgspec.Raw) -> list[R]:
        try:
            read = decoder.decode(data)
        except _UNREADABLE as error:
            raise _unreadable(error) from error
        return [read] if isinstance(read, kind) else read

    return decode


def split_by_shard(source: Source[Any], columns: Columns) -> list[tuple[int, Columns]]:
    """Return the columns of each shard that has records, in the order of the shards.

    The shard is the CRC-32 of the value's text, modulo their number. Without `shard_by` all records
    are of shard 0, and the caller may choose another.
    """
    if source.shards == 1 or not source.shard_by:
        return [(0, columns)]
    values = columns[source.shard_by]
    shard_of = {one: crc32(str(one).encode()) % source.shards for one in set(values)}
    rows_of: dict[int, list[int]] = {shard: [] for shard in sorted(set(shard_of.values()))}
    for row, value in enumerate(values):
        rows_of[shard_of[value]].append(row)
    return [(shard, only_rows(columns, rows)) for shard, rows in rows_of.items()]


def only_rows(columns: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> Columns:
    """Return the columns of some records alone, in the order in which they are named."""
    return {name: [column[row] for row in rows] for name, column in columns.items()}


def shard_key(source: Source[Any], shard: int) -> str:
    """Return the key of a shard's events: they are stored and handled in their order."""
    return f"{source.name}.{shard}"


def refusal(path: str, rule: str) -> BadRequestError:
    """Return what goes to whoever sent something wrong: where it is, as a JSON path, and why."""
    return BadRequestError(f"{path}: {rule}", details={"path": path, "rule": rule})


def _unreadable(error: Exception) -> BadRequestError:
    rule, _, path = str(error).partition(" - at `")
    return refusal(path.rstrip("`") or "$", rule)


def _transposed(source: Source[R], records: Sequence[R]) -> Columns:
    return {
        name: _column(name, field, list(map(attrgetter(name), records)))
        for name, field in source.fields.items()
    }


def _column(name: str, field: FieldType, values: list[Any]) -> list[Any]:
    """Return the values of a field as a column has them."""
    if field.kind is datetime:
        return _microseconds(name, values)
    return floats_of(values) if field.kind is float else values


def _microseconds(name: str, values: list[datetime | None]) -> list[int | None]:
    try:
        return [None if one is None else (one - EPOCH) // MICROSECOND for one in values]
    except TypeError:  # one is no datetime, or one without a time zone
        rule = "is no datetime with a time zone"
        raise _first(name, values, _has_no_zone, rule) from None


def _has_no_zone(value: Any) -> bool:
    return not isinstance(value, datetime) or value.utcoffset() is None


def _present(name: str, field: FieldType, values: Sequence[Any]) -> Sequence[Any]:
    """Return the values that are not None, all of the field's type."""
    kind = int if field.kind is datetime else field.kind
    if countOf(map(type, values), kind) == len(values):
        return values
    allowed = {kind, NoneType} if field.is_optional else {kind}
    found = set(map(type, values))
    if found <= allowed:
        return [one for one in values if one is not None]
    row = next(row for row, value in enumerate(values) if type(value) not in allowed)
    rule = f"Expected `{kind.__name__}`, got `{type(values[row]).__name__}`"
    raise refusal(f"$[{row}].{name}", rule)


def _check_numbers(source: Source[Any], columns: Columns, names: Iterable[str]) -> None:
    """Refuse what JSON can say wrongly of integers, where their types are right."""
    for name in names:
        values = columns[name]
        _check_range(source, name, [one for one in values if one is not None], values)


def _check_range(
    source: Source[Any], name: str, numbers: Sequence[int], values: Sequence[Any]
) -> None:
    kind: Any = bounded(source, name)
    try:  # in a third of the time that the least and the greatest of them take
        msgspec.convert(list(numbers), list[kind])
    except msgspec.ValidationError:
        if name == source.time:
            rule = "is no time of the years 1 to 9999"
            raise _first(name, values, _is_beyond_time, rule) from None
        raise _first(name, values, _is_beyond_int64, "has over 64 bits") from None


def _first(
    name: str, values: Sequence[Any], is_wrong: Callable[[Any], bool], rule: str
) -> BadRequestError:
    """Return the refusal of the first value that is wrong: one is, as was seen at once for all."""
    row, value = next(
        (row, value) for row, value in enumerate(values) if value is not None and is_wrong(value)
    )
    return refusal(f"$[{row}].{name}", f"{value!r} {rule}")


def _is_beyond_int64(value: int) -> bool:
    return not INT_MIN <= value <= INT_MAX


def _is_beyond_time(value: int) -> bool:
    return not TIME_US_MIN <= value <= TIME_US_MAX


def _check_shape(source: Source[Any], batch: ColumnBatch) -> None:
    if batch.source != source.name:
        raise refusal("$.source", f"{batch.source!r} is not {source.name!r}")
    if batch.columns.keys() != source.fields.keys():
        raise refusal("$.columns", f"the columns of {source} are {', '.join(source.fields)}")
    for name, column in batch.columns.items():
        if len(column) != batch.rows:
            raise refusal(f"$.columns.{name}", f"{len(column)} values in {batch.rows} records")


@lru_cache(256)
def _records_decoder(source: Source[Any]) -> msgspec.json.Decoder[Any]:
    """Make what reads the records of a source, which takes longer than to read.

    Raises:
        UsageError: the type cannot be read from JSON.
    """
    try:
        strict = strict_kind(source)
        return msgspec.json.Decoder[Any](list[strict] | strict)  # type: ignore[valid-type]  # made just now
    except (TypeError, ValueError) as error:
        raise UsageError(f"{source.kind.__name__} cannot be read from JSON: {error}") from error


@lru_cache(256)
def _batch_decoder(source: Source[Any]) -> msgspec.json.Decoder[Any]:
    """Make what reads the batches of a source: a typed list for each column."""
    has_default = {name for name, field in fields_of(source).items() if not field.required}
    has_default.discard(source.time)
    fields: list[Any] = []
    for name, field in source.fields.items():
        kind: Any = bounded(source, name) if field.kind in _NUMBERED else field.kind
        column = list[kind | None] if field.is_optional else list[kind]
        later = (column | msgspec.UnsetType, msgspec.UNSET)
        fields.append((name, *later) if name in has_default else (name, column))
    columns = msgspec.defstruct("Columns", fields, kw_only=True)
    batch = msgspec.defstruct(
        "Batch",
        [
            ("source", str),
            ("shard", Annotated[int, msgspec.Meta(ge=0, lt=SHARDS_MAX)]),
            ("rows", Annotated[int, msgspec.Meta(ge=0)]),
            ("columns", columns),
            ("origins", tuple[Origin, ...], ()),
            ("is_final", bool, False),
            ("known_as", Annotated[str, msgspec.Meta(max_length=KNOWN_AS_CHARS)], ""),
        ],
    )
    return msgspec.json.Decoder(batch)


def _fill_in(source: Source[Any], columns: dict[str, Any]) -> None:
    """Give records that were stored before their type had some fields the defaults of these."""
    for name, field in fields_of(source).items():
        if columns[name] is msgspec.UNSET:
            defaults = [_default(field) for _ in columns[source.time]]
            columns[name] = _column(name, source.fields[name], defaults)
    numbers = (name for name, field in source.fields.items() if field.kind in _NUMBERED)
    _check_numbers(source, columns, numbers)


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default
