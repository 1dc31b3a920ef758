"""What the demo's database says once all is closed: read by SQL alone, as a stranger would."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from agent99.systems.analytics._delta import WindowRow

DATABASE: Final = "analytics.db"
_decode = msgspec.json.Decoder().decode
_COUNTED: Final = ("records", "on_time", "late", "dropped", "skipped", "refused")
_COUNTS: Final = (
    "SELECT pipeline, sum(records), sum(on_time), sum(late), sum(dropped), sum(skipped),"
    " sum(refused) FROM analytics_count GROUP BY pipeline"
)
_ROWS: Final = (
    "SELECT pipeline, start_us, end_us, key, figures, records, revision, is_retracted"
    " FROM analytics_row"
)


class Books(NamedTuple):
    """Windows and counts, by pipeline."""

    rows: Mapping[str, list[WindowRow]]
    """The latest of each window, those that were taken back too."""
    counts: Mapping[str, Mapping[str, int]]
    """`records` `on_time` `late` `dropped` `skipped` `refused`."""


def read_books(path: Path) -> Books:
    """Read a SQLite file of one job.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        counts: dict[str, Mapping[str, int]] = {
            pipeline: dict(zip(_COUNTED, numbers, strict=True))
            for pipeline, *numbers in database.execute(_COUNTS)
        }
        rows: dict[str, list[WindowRow]] = {}
        for row in map(_row, database.execute(_ROWS)):
            rows.setdefault(row.pipeline, []).append(row)
    return Books(rows, counts)


def _row(row: tuple[Any, ...]) -> WindowRow:
    pipeline, start_us, end_us, key, figures, records, revision, is_retracted = row
    return WindowRow(
        pipeline=pipeline,
        start_us=start_us,
        end_us=end_us,
        key=tuple(_decode(key)),
        values=_decode(figures),
        rows=records,
        state="closed",
        revision=revision,
        is_retracted=bool(is_retracted),
    )
