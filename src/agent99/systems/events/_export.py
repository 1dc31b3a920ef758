"""The whole audit log in a file: as lines of JSON, or as Parquet."""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec

from agent99.errors import StoreError, UsageError, how_to_install
from agent99.systems.events._audit import record_of
from agent99.systems.events._entry import FIELDS, Row

if TYPE_CHECKING:
    from agent99.systems.events._log import AuditLog

GROUP_ROWS: Final = 100_000
GROUP_BYTES: Final = 64 * 1024**2
"""Of a row group, and a page more; what is written at once is in memory."""
_RENAMED: Final = {"occurred_us": "occurred_at", "stored_us": "stored_at"}
_TIMES: Final = frozenset(_RENAMED)
_NUMBERS: Final = frozenset({"number", "partition", "sequence"})
_BYTES: Final = frozenset({"event", "previous", "hash"})


async def write_lines(log: AuditLog, file: BinaryIO) -> int:
    """Write every entry that is there now, repeats too, as one JSON document a line.

    Returns:
        How many.

    Raises:
        StoreError or one of its kinds, OSError
    """
    encoder, count = msgspec.json.Encoder(), 0
    async for page in log.pages():
        lines = bytearray()
        for entry in page:
            more: dict[str, Any] = {
                "is_repeat": entry.is_repeat,
                "partition": entry.partition,
                "sequence": entry.sequence,
                "previous": entry.previous.hex(),
            }
            lines += encoder.encode(msgspec.structs.asdict(record_of(entry)) | more) + b"\n"
        file.write(lines)
        count += len(page)
    file.flush()
    return count


async def write_parquet(log: AuditLog, file: BinaryIO) -> int:
    """Write every entry that is there now, repeats too, as Parquet; its footer has the last word.

    In memory is one row group: 100,000 entries, or fewer that take 64 MiB. While one is
    compressed, some tenths of a second, the event loop waits.

    Returns:
        How many.

    Raises:
        UsageError: pyarrow is not installed.
        StoreError or one of its kinds: also where a value is of no kind that an entry has.
        OSError
    """
    arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
    schema, count = _schema(arrow), 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        async for group in _groups(log, arrow, schema):
            writer.write_table(group)
            count += group.num_rows
    return count


@contextmanager
def whole_file(path: Path) -> Generator[BinaryIO]:
    """Give a file that stands at `path` once it is whole and on the disk; until then nothing does.

    What stood there is replaced at that moment. A process that is killed leaves
    `.{name}.{pid}.partial` beside it.

    Raises:
        UsageError: something else than a file is there.
        OSError
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is no file")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _arrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"writing Parquet needs pyarrow: {how_to_install('parquet')}"
        raise UsageError(message) from error


def _schema(arrow: Any) -> Any:
    kinds = dict.fromkeys(_NUMBERS, arrow.int64())
    kinds |= dict.fromkeys(_TIMES, arrow.timestamp("us", tz="UTC"))
    kinds |= dict.fromkeys(_BYTES, arrow.binary())
    kinds["is_repeat"] = arrow.bool_()
    return arrow.schema(
        [
            arrow.field(_RENAMED.get(name, name), kinds.get(name, arrow.string()), nullable=False)
            for name in FIELDS
        ]
    )


async def _groups(log: AuditLog, arrow: Any, schema: Any) -> AsyncIterator[Any]:
    """Yield tables of a group's rows; as columns they take a third of the memory."""
    pages: list[Any] = []
    count = size = 0
    async for rows in log.rows():
        page = _table(arrow, schema, rows)
        pages.append(page)
        count, size = count + page.num_rows, size + page.nbytes
        if count >= GROUP_ROWS or size >= GROUP_BYTES:
            yield arrow.concat_tables(pages)
            pages, count, size = [], 0, 0
    if pages:
        yield arrow.concat_tables(pages)


def _table(arrow: Any, schema: Any, rows: Sequence[Row]) -> Any:
    columns = dict(zip(FIELDS, zip(*rows, strict=True), strict=True))
    columns["is_repeat"] = tuple(map(bool, columns["is_repeat"]))
    try:
        arrays = [
            arrow.array(column, field.type)
            for column, field in zip(columns.values(), schema, strict=True)
        ]
        return arrow.Table.from_arrays(arrays, schema=schema)
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        between = f"an entry from {rows[0][0]} to {rows[-1][0]}"
        message = f"{between} is none (`agent99 audit verify` says which): {error}"
        raise StoreError(message) from error
