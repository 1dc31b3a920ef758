"""The rows of a pipeline as flat cells: what each column holds, and what may not stand in it. Pure.

What is neither a whole number, a number, text nor a truth is JSON in a column of text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.errors import UsageError
from agent99.systems.analytics._delta import key_text
from agent99.systems.analytics._figures import (
    Aggregate,
    Count,
    Max,
    Mean,
    Min,
    Rate,
    Sum,
    Variance,
)
from agent99.systems.analytics._sink import Column, Refused
from agent99.systems.analytics._sketches import Distinct

if TYPE_CHECKING:
    from agent99.systems.analytics._delta import WindowRow
    from agent99.systems.analytics._source import Source

Cells = dict[str, Any]
"""By column."""

WINDOW: Final = ("version", "end_us", "start_us", "key_json", "number")
"""What names a row: no two have the same of all of them."""
OURS: Final = (*WINDOW, "records", "revision", "is_retracted")
KINDS: Final = (int, float, str, bool)
_INTS: Final = range(-(2**63), 2**63)
_NUMBERS: Final = ("start_us", "end_us", "number", "rows", "revision")
_is_plain = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}").fullmatch
_encode = msgspec.json.Encoder().encode


def key_columns(source: Source[Any], key: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns of a pipeline's key."""
    return tuple(Column(name, _field_kind(source, name)) for name in key)


def value_columns(source: Source[Any], aggregates: Mapping[str, Aggregate]) -> tuple[Column, ...]:
    """Return the columns of a pipeline's figures."""
    return tuple(Column(name, _figure_kind(source, one)) for name, one in aggregates.items())


def check_columns(columns: Sequence[Column], kinds: Mapping[str, type]) -> None:
    """Refuse names that are no plain ones of a column, or ours; and kinds of what there is not.

    Raises:
        UsageError: says which.
    """
    seen = set[str](OURS)
    for column in columns:
        if not _is_plain(column.name):
            raise UsageError(f"{column.name!r} is no name of a column: letters, digits and _")
        if column.name.lower() in seen:
            raise UsageError(
                f"it would have two columns {column.name!r}; {', '.join(OURS)} are ours"
            )
        seen.add(column.name.lower())
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise UsageError(f"the kind of {name!r} is int, float, str or bool, not {kind!r}")
        if name not in {column.name for column in columns}:
            raise UsageError(f"kinds has {name!r}, which is no column of its rows")


def with_kinds(columns: Sequence[Column], kinds: Mapping[str, type]) -> tuple[Column, ...]:
    """Return columns of which some hold what a user says."""
    return tuple(Column(one.name, kinds.get(one.name, one.kind)) for one in columns)


def cells_of(
    rows: Sequence[WindowRow], version: int, key: Sequence[Column], values: Sequence[Column]
) -> tuple[dict[int, Cells], list[Refused]]:
    """Return the cells of rows by their places, and which rows have a value that does not fit."""
    fit: dict[int, Cells] = {}
    refused: list[Refused] = []
    for at, row in enumerate(rows):
        try:
            fit[at] = _cells(row, version, key, values)
        except ValueError as error:
            refused.append(Refused(at, str(error)))
    return fit, refused


def _cells(row: WindowRow, version: int, key: Sequence[Column], values: Sequence[Column]) -> Cells:
    """Return the cells of a row.

    Raises:
        ValueError: it has none that are right; says why.
    """
    if row.is_cut and not row.is_retracted:
        # Nothing in their place would pass for figures that are none.
        raise ValueError(
            "its values were too large for an event; the processors' database has them"
        )
    for name in _NUMBERS:
        _check_range(name, getattr(row, name))
    return {
        "version": version,
        "start_us": row.start_us,
        "end_us": row.end_us,
        "number": row.number,
        "key_json": key_text(row.key),
        **{one.name: _cell(one, value) for one, value in zip(key, row.key, strict=True)},
        **{one.name: _cell(one, row.values.get(one.name)) for one in values},
        "records": row.rows,
        "revision": row.revision,
        "is_retracted": row.is_retracted,
    }


def _check_range(name: str, number: object) -> None:
    """Refuse a number that no column holds.

    Raises:
        ValueError
    """
    if number not in _INTS:
        raise ValueError(f"{name!r} is {number}, which does not fit into 64 bits")


def _cell(column: Column, value: Any) -> Any:
    """Return a value as its column holds it.

    Raises:
        ValueError: it does not fit; says why.
    """
    kind = column.kind
    if value is None:
        return None
    if kind is None:
        return value if isinstance(value, str) else _encode(value).decode()
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{column.name!r} is too large for a number") from None
    if type(value) is not kind:
        raise ValueError(f"{column.name!r} is {value!r:.100}, not of {kind.__name__}")
    if kind is int:
        _check_range(column.name, value)
    return value


def _field_kind(source: Source[Any], name: str) -> type | None:
    field = source.fields.get(name)
    if field is None:
        return None
    return int if field.kind is datetime else field.kind


def _figure_kind(source: Source[Any], figure: Aggregate) -> type | None:
    if isinstance(figure, Count | Sum | Distinct):
        return int
    if isinstance(figure, Rate | Mean | Variance):
        return float
    if isinstance(figure, Min | Max):
        return _field_kind(source, figure.column)
    return None
