"""Rows in Parquet files, one for each event, under a name that the event gives.

The only file besides `_files` that uses polars, and only once a sink is opened.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent99.envelope import parse_name
from agent99.errors import UsageError, how_to_install
from agent99.ids import SystemIds
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

PARTS: Final = ".parts"
"""The folder of files that are not whole yet: nobody who reads a pipeline's folder sees them."""
_HEAD: Final = tuple(Column(one, str if one == "key_json" else int) for one in WINDOW)
_TAIL: Final = (Column("records", int), Column("revision", int), Column("is_retracted", bool))


@dataclass(frozen=True)
class ParquetSink:
    """Keeps rows in files: `{folder}/{job}/v{version}/{pipeline}/{sequence}-{stored_us}.parquet`.

    A file has what one event told: corrections and rows that are taken back stand in later ones,
    with a higher `revision`. The row of a window with the highest one counts.

    Delivery: each row in one file; a repeat writes the same file once more. A file that is there is
        whole, and on the disk.

    Raises:
        UsageError, InvalidNameError: an argument.
    """

    folder: str | Path
    """Made where there is none; all processors of one mesh share it, and another mesh needs
    another one. What is not whole is in `.parts`."""
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
        # One of its own: a disk that hangs holds up no thread that others need. What is given up
        # goes on there until it ends, and the next attempt begins behind it.
        thread = ThreadPoolExecutor(1, "agent99-parquet")
        try:
            yield await asyncio.get_running_loop().run_in_executor(
                thread, partial(self._open, target, thread)
            )
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    def _open(self, target: Target, thread: ThreadPoolExecutor) -> _ParquetWriter:
        try:
            import polars  # noqa: ICN001, PLC0415 - it is handed over as a whole; loaded late
        except ImportError as error:
            raise UsageError(
                f"a ParquetSink needs polars: {how_to_install('analytics')}"
            ) from error
        key = with_kinds(target.key, self.kinds)
        values = with_kinds(target.values, self.kinds)
        kinds = {int: polars.Int64, float: polars.Float64, str: polars.String, bool: polars.Boolean}
        schema = {one.name: kinds[one.kind or str] for one in (*_HEAD, *key, *values, *_TAIL)}
        files = _Files(Path(self.folder), target, partial(polars.DataFrame, schema=schema))
        return _ParquetWriter(files, thread, target.version, (key, values))


class _ParquetWriter:
    """Writes files, one after the other, on a thread of its own."""

    def __init__(
        self,
        files: _Files,
        thread: ThreadPoolExecutor,
        version: int,
        columns: tuple[Sequence[Column], Sequence[Column]],
    ) -> None:
        self._files: Final = files
        self._thread: Final = thread
        self._version: Final = version
        self._key, self._values = columns

    def __repr__(self) -> str:
        return f"_ParquetWriter({self._files!r})"

    async def write(self, rows: Sequence[WindowRow], event: Event, /) -> Sequence[Refused]:
        """Write the file of an event.

        Raises:
            OSError: the disk is full, or the folder away.
        """
        fit, refused = cells_of(rows, self._version, self._key, self._values)
        if fit:
            name = f"{event.sequence:020}-{event.stored_us}.parquet"
            write = partial(self._files.write, name, list(fit.values()))
            await asyncio.get_running_loop().run_in_executor(self._thread, write)
        return refused


class _Files:
    """The files of a pipeline, and those that are to become some."""

    def __init__(self, folder: Path, target: Target, frame: partial[Any]) -> None:
        under = Path(target.job, f"v{target.version}", target.pipeline)
        self._whole: Final = folder / under
        self._parts: Final = folder / PARTS / under
        self._frame: Final = frame
        for made in (self._whole, self._parts):
            _make(made)

    def __repr__(self) -> str:
        return f"_Files({str(self._whole)!r})"

    def write(self, name: str, cells: Sequence[Cells]) -> None:
        """Write a file elsewhere first, on the disk, so that nobody sees half of one.

        Raises:
            OSError: it is not there, or as it was before.
        """
        path = self._whole / name
        # Whoever was taken over from, or gave up, may still be at it: each has a file of its own.
        part = self._parts / f"{name}.{SystemIds().token().decode()}"
        try:
            with part.open("xb") as file:
                self._frame(cells).write_parquet(file)
                file.flush()
                os.fsync(file.fileno())
            self._show(part, path)
        finally:
            part.unlink(missing_ok=True)
        # Of those who were killed in the middle of this very file.
        for left in self._parts.glob(f"{name}.*"):
            left.unlink(missing_ok=True)

    def _show(self, part: Path, path: Path) -> None:
        try:
            part.replace(path)
        except FileNotFoundError:
            # Another one has written it meanwhile, and has put away what it found of ours.
            if not path.exists():
                raise
        _sync(path.parent)


def _make(folder: Path) -> None:
    """Make a folder, and all that it is in, on the disk."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in reversed(missing):
        _sync(one.parent)


def _sync(folder: Path) -> None:
    """Have the names in a folder be on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
