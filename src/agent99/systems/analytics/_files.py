"""A pipeline over a Parquet or CSV file, whose columns are found by the names of the fields.

The only file that uses polars, and only once it is asked to read: an agent that imports the room
does not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias

from agent99.errors import BadRequestError, UsageError, how_to_install
from agent99.systems.analytics._columns import Columns
from agent99.systems.analytics._pipeline import Pipeline
from agent99.systems.analytics._run import Run
from agent99.systems.analytics._source import FieldType, Source

Frame: TypeAlias = Any
"""A polars data frame; without its type, since polars is loaded late."""

SLICE_ROWS: Final = 5_000
"""How many records are one batch."""
_WORDS: Final = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    datetime: "a date and time",
}


def run_file(
    pipeline: Pipeline,
    path: str | Path,
    *,
    rename: Mapping[str, str] | None = None,
    prepare: Callable[[Frame], Frame] | None = None,
) -> Run:
    """Run a pipeline over the records of a file, in their order, to their end.

    Args:
        pipeline: Which one.
        path: See `read_file`, as for the others.
        rename: The fields by the names of the file's columns, where these differ.
        prepare: Is given the polars data frame, and returns the one to read.

    Raises:
        UsageError: the file cannot be read, or a record of it that the source or a function of the
            pipeline refuses; names the file and the column.
    """
    run, first = Run(pipeline), 0
    for columns in read_file(pipeline.source, path, rename=rename, prepare=prepare):
        try:
            run.feed(columns)
        except BadRequestError as error:
            raise UsageError(f"{path}: of the records from {first:,} on: {error}") from error
        first += len(columns[pipeline.source.time])
    run.finish()
    return run


def read_file(
    source: Source[Any],
    path: str | Path,
    *,
    rename: Mapping[str, str] | None = None,
    prepare: Callable[[Frame], Frame] | None = None,
    slice_rows: int = SLICE_ROWS,
) -> Iterator[Columns]:
    """Return the records of a file, some thousands at a time, as columns of the source.

    The file is read at once, and kept in memory as it is stored; a name that ends in `.csv` says
    that it is CSV, any other that it is Parquet. A time without a zone is read as UTC.

    Args:
        source: Whose fields are read; other columns are left out.
        path: Which file.
        rename: The fields by the names of the file's columns, where these differ.
        prepare: Is given the polars data frame before columns are renamed, and returns the one to
            read: it filters, sorts, or makes pence of pounds.
        slice_rows: How many records at a time, 1 or more.

    Raises:
        UsageError: polars is not installed; there is no such file, or it is not of its kind; a
            column is missing, of another type, or has no value where the field needs one; names
            the file and the column.
    """
    if slice_rows < 1:
        raise UsageError(f"slices of {slice_rows} records; at least 1")
    rename = dict(rename or {})
    frame = _read(Path(path), source, rename)
    if prepare is not None:
        frame = prepare(frame)
    if absent := sorted(rename.keys() - set(frame.columns)):
        raise UsageError(f"{path}: it has no column {absent[0]!r} to rename; {_has(frame)}")
    frame = frame.rename(rename)
    fitted = frame.select(
        [_column(str(path), frame, name, field) for name, field in source.fields.items()]
    )
    return _slices(fitted, slice_rows)


def _slices(frame: Frame, slice_rows: int) -> Iterator[Columns]:
    for part in frame.iter_slices(slice_rows):
        yield {name: part[name].to_list() for name in part.columns}


def _polars() -> Any:
    try:
        import polars as pl  # noqa: PLC0415 - costs 0.1 s, which an agent should not pay
    except ImportError as error:
        message = f"reading a file needs polars: {how_to_install('analytics')}"
        raise UsageError(message) from error
    return pl


def _read(path: Path, source: Source[Any], rename: Mapping[str, str]) -> Frame:
    pl = _polars()
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    try:
        if path.suffix.lower() == ".csv":
            return pl.read_csv(path, try_parse_dates=True, schema_overrides=_texts(source, rename))
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path}: it cannot be read: {reason}") from error


def _texts(source: Source[Any], rename: Mapping[str, str]) -> dict[str, Any]:
    """Return which columns of a CSV are text, also where all that is in them looks like numbers."""
    names = {field: column for column, field in rename.items()}
    return {
        names.get(name, name): _polars().String
        for name, field in source.fields.items()
        if field.kind is str
    }


def _column(path: str, frame: Frame, name: str, field: FieldType) -> Any:
    """Return a field's column as Python sees it: a datetime as microseconds since the epoch."""
    pl = _polars()
    if name not in frame.columns:
        raise UsageError(f"{path}: it has no column {name!r}; {_has(frame)}")
    column, found = frame[name], frame.schema[name]
    if empty := 0 if field.is_optional else column.null_count():
        row = column.is_null().arg_true()[0]
        rule = f"column {name!r} has no value in {empty:,} rows, the first of which is {row:,}"
        raise UsageError(f"{path}: {rule}")
    fits = {
        int: found.is_integer(),
        float: found.is_numeric(),
        str: found in (pl.String, pl.Categorical, pl.Enum),
        bool: found == pl.Boolean,
        datetime: found in (pl.Date, pl.Datetime),
    }[field.kind]
    if not fits and found != pl.Null:
        raise UsageError(f"{path}: column {name!r} is {found}, not {_WORDS[field.kind]}")
    if field.kind is datetime and found != pl.Null:
        return column.dt.epoch("us")
    kinds = {int: pl.Int64, float: pl.Float64, str: pl.String, bool: pl.Boolean, datetime: pl.Int64}
    try:
        return column.cast(kinds[field.kind])
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path}: column {name!r}: {reason}") from error


def _has(frame: Frame) -> str:
    return f"it has {', '.join(map(repr, frame.columns))}"
