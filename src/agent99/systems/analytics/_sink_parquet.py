"""Rows in Parquet files, one for each event, under a name that the event gives.

The only file besides `_files` that uses polars, and only once a sink is opened.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent99.envelope import parse_name
from agent99.errors import UsageError, how_to_install
from agent99.systems.analytics._sink import SINK_CURVE, Column, Refused, SinkWriter, Target
from agent99.systems.analytics._sink_columns import (
    WINDOW,
    Cells,
    cells_of,
    check_columns,
    with_kinds,
)

if TYPE_CHECKING:
    from agent99.groups import Event
    from agent99.systems.analytics._delta import WindowRow
    from agent99.work import Curve

_HEAD: Final = tuple(Column(one, str if one == "key_json" else int) for one in WINDOW)
_TAIL: Final = (Column("records", int), Column("revision", int), Column("is_retracted", bool))


@dataclass(frozen=True)
class ParquetSink:
    """Keeps rows in files: `{folder}/{job}/v{version}/{pipeline}/{sequence}-{stored_us}.parquet`.

    A file has what one event told: corrections and rows that are taken back stand in later ones,
    with a higher `revision`. The row of a window with the highest one counts.

    Delivery: each row in one file; a repeat writes the same file once more. A file that is there is
        whole.

    Raises:
        UsageError, InvalidNameError: an argument.
    """

    folder: str | Path
    """Made where there is none; all processors share it."""
    name: str = field(default="parquet", kw_only=True)
    """Of the sink, by the grammar of names."""
    kinds: Mapping[str, type] = field(default_factory=dict[str, type], kw_only=True)
    """What computed columns hold: int, float, str or bool, by name. Of the others text is made."""
    curve: Curve = field(default=SINK_CURVE, kw_only=True)
    """How often an event is tried, and how long one attempt may take."""

    def __post_init__(self) -> None:
        parse_name("sink", self.name)

    def check(self, key: Sequence[Column], values: Sequence[Column], /) -> None:
        """Refuse columns that a file cannot have.

        Raises:
            UsageError: says which.
        """
        check_columns((*key, *values), self.kinds)

    @asynccontextmanager
    async def open(self, target: Target, /) -> AsyncGenerator[SinkWriter, None]:
        """Make the folder.

        Raises:
            UsageError: polars is not there.
            OSError: the folder cannot be made.
        """
        try:
            import polars  # noqa: ICN001, PLC0415 - it is handed over as a whole; loaded late
        except ImportError as error:
            raise UsageError(
                f"a ParquetSink needs polars: {how_to_install('analytics')}"
            ) from error
        folder = Path(self.folder) / target.job / f"v{target.version}" / target.pipeline
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        key = with_kinds(target.key, self.kinds)
        values = with_kinds(target.values, self.kinds)
        yield _ParquetWriter(polars, folder, target.version, (key, values))


class _ParquetWriter:
    """Writes files."""

    def __init__(
        self,
        polars: Any,
        folder: Path,
        version: int,
        columns: tuple[Sequence[Column], Sequence[Column]],
    ) -> None:
        self._polars: Final = polars
        self._folder: Final = folder
        self._version: Final = version
        self._key, self._values = columns
        kinds = {int: polars.Int64, float: polars.Float64, str: polars.String, bool: polars.Boolean}
        self._schema: Final = {
            one.name: kinds[one.kind or str] for one in (*_HEAD, *self._key, *self._values, *_TAIL)
        }

    def __repr__(self) -> str:
        return f"_ParquetWriter({str(self._folder)!r})"

    async def write(self, rows: Sequence[WindowRow], event: Event, /) -> Sequence[Refused]:
        """Write the file of an event.

        Raises:
            OSError: the disk is full, or the folder away.
        """
        fit, refused = cells_of(rows, self._version, self._key, self._values)
        if fit:
            name = f"{event.sequence:020}-{event.stored_us}.parquet"
            await asyncio.to_thread(self._write, self._folder / name, list(fit.values()))
        return refused

    def _write(self, path: Path, cells: Sequence[Cells]) -> None:
        """Write under another name first, on the disk, so that nobody sees half a file."""
        frame = self._polars.DataFrame(cells, schema=self._schema)
        # Whoever was taken over from may still be at it, in a process of its own.
        part = path.with_name(f".{path.name}.{os.getpid()}")
        with part.open("wb") as file:
            frame.write_parquet(file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
