"""What a version of a job has told when another one takes its place, and that one has not said yet.

Two closers that read the same log are never equally far. So a switch waits for neither: it notes
the windows that the old version has told, and the new one has yet to close, or has yet to merge
records of (`analytics_told`). When the new one does, it says nothing that was told. With the same
logic, what it has merged by then are the records of the old one, and perhaps more: the count of a
window's records tells whether there is more to say. Once it has merged all that the old one had,
what is left of the notes is where the two do not agree, and goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent99.systems.analytics._board import row_order
from agent99.systems.analytics._board_cells import NEVER_US
from agent99.systems.analytics._delta import WindowRow, key_text
from agent99.systems.analytics._query import ROW_COLUMNS, row_of
from agent99.systems.analytics._reached import (
    Cursors,
    Reached,
    decode_cursors,
    encode_cursors,
)
from agent99.systems.analytics._watermark import FOREVER_US
from agent99.systems.analytics._windows import CountOf, Session

if TYPE_CHECKING:
    from agent99.store import Transaction
    from agent99.systems.analytics._pipeline import Pipeline

_WINDOW: Final = ("pipeline", "end_us", "start_us", "key", "number")
_TOLD: Final = (*_WINDOW, "records", "is_retracted")


def same_window(one: str, other: str) -> str:
    """Return the condition that rows of two tables are of one window."""
    return " AND ".join(f"{one}.{column} = {other}.{column}" for column in _WINDOW)


# Of the old version: what it was still to be silent about, from the one before it, and its rows.
_NOTE: Final = "".join(
    (
        *("INSERT INTO analytics_told (reader, ", ", ".join(_TOLD), ")"),
        *(" SELECT CAST(:new AS TEXT), ", ", ".join(f"b.{column}" for column in _TOLD)),
        *(" FROM (SELECT ", ", ".join(_TOLD), " FROM analytics_told"),
        " WHERE reader = :old AND pipeline = :pipeline",
        *(" UNION ALL SELECT ", ", ".join(f"o.{column}" for column in _TOLD)),
        " FROM analytics_row o WHERE o.reader = :old AND o.pipeline = :pipeline",
        " AND o.end_us > :from_us AND NOT EXISTS (SELECT 1 FROM analytics_told t",
        *(" WHERE t.reader = :old AND ", same_window("t", "o"), ")) b"),
        *(" LEFT JOIN analytics_row n ON n.reader = :new AND ", same_window("n", "b")),
        " WHERE n.reader IS NULL",
        " OR (n.is_retracted = 0 AND (b.is_retracted = 1 OR n.records < b.records))",
    )
)
_SET_MARK: Final = (
    "UPDATE analytics_closer SET told_cursors = :cursors"
    " WHERE reader = :reader AND pipeline = :pipeline"
)
# Only of the current version; else there is no row.
_READ_MARK: Final = (
    "SELECT c.told_cursors FROM analytics_closer c JOIN analytics_version v ON v.reader = c.reader"
    " JOIN analytics_job j ON j.mesh = v.mesh AND j.job = v.job AND j.version = v.version"
    " WHERE c.reader = :reader AND c.pipeline = :pipeline"
)
_OF_PIPELINE: Final = " FROM analytics_told t WHERE t.reader = :reader AND t.pipeline = :pipeline"
_READ: Final = "".join(
    (
        "SELECT t.end_us, t.start_us, t.key, t.number, t.records, t.is_retracted",
        *(_OF_PIPELINE, " AND t.end_us BETWEEN :first_us AND :last_us"),
    )
)
_DELETE: Final = (
    "DELETE FROM analytics_told WHERE reader = :reader AND pipeline = :pipeline"
    " AND end_us = :end_us AND start_us = :start_us AND key = :key AND number = :number"
)
_DELETE_UNTIL: Final = (
    "DELETE FROM analytics_told WHERE reader = :reader AND pipeline = :pipeline"
    " AND end_us <= :until_us"
)
_COUNT: Final = f"SELECT count(*){_OF_PIPELINE}"
_FORGET: Final = "DELETE FROM analytics_told WHERE reader = :reader AND pipeline = :pipeline"
# Of sessions. It is remembered as long as the rows: else a version that this one follows, and that
# has the window still, would take it back once more after the next switch.
_TAKE_BACK: Final = "".join(
    (
        *("INSERT INTO analytics_row (reader, ", ", ".join(_TOLD), ", figures, revision, turn)"),
        " SELECT t.reader, t.pipeline, t.end_us, t.start_us, t.key, t.number, 0, 1, '{}', 1,",
        *(" CAST(:turn AS BIGINT)", _OF_PIPELINE, " AND t.end_us <= :until_us AND NOT EXISTS"),
        " (SELECT 1 FROM analytics_row n WHERE n.reader = t.reader AND ",
        *(same_window("n", "t"), ")"),
    )
)
# What one of the two has taken back, and the other has not.
_DISAGREED: Final = "".join(
    (
        *("SELECT ", ", ".join(f"n.{column}" for column in ROW_COLUMNS)),
        *(" FROM analytics_told t JOIN analytics_row n ON n.reader = t.reader AND "),
        *(same_window("n", "t"), " WHERE t.reader = :reader AND t.pipeline = :pipeline"),
        " AND t.end_us <= :until_us AND t.is_retracted <> n.is_retracted",
    )
)


class _Before(NamedTuple):
    """How a window was told by the version before."""

    records: int
    is_retracted: bool


_Name = tuple[int, int, str, int]
"""Of a window: end, start, key and number."""


def note_told(
    transaction: Transaction,
    pipeline: Pipeline,
    readers: tuple[str, str],
    from_us: int,
    cursors: Cursors,
) -> int:
    """Note what the old version has told, and the new one has yet to say; both are locked.

    Args:
        readers: The old and the new one.
        from_us: Windows that end by then both have left as they are, for good.
        cursors: What the old one has merged.

    Returns:
        How many windows that are.
    """
    old, new = readers
    which = {"reader": new, "pipeline": pipeline.name}
    transaction.execute(_FORGET, which)
    values = {"old": old, "new": new, "pipeline": pipeline.name, "from_us": from_us}
    count = transaction.execute(_NOTE, values).changed
    transaction.execute(_FORGET, which | {"reader": old})
    transaction.execute(_SET_MARK, which | {"reader": old, "cursors": None})
    mark = encode_cursors(cursors) if count else None
    transaction.execute(_SET_MARK, which | {"cursors": mark})
    return count


def untold(
    transaction: Transaction,
    pipeline: Pipeline,
    reader: str,
    reached: Reached,
    turn: int,
    rows: Sequence[WindowRow],
) -> Sequence[WindowRow]:
    """Return what a closer has to tell, now that it has written some rows.

    That is nothing, unless its version is the current one; and all of them, but for what the
    version before has told.
    """
    which = {"reader": reader, "pipeline": pipeline.name}
    found = transaction.execute(_READ_MARK, which).first()
    if found is None:
        return ()
    if found.told_cursors is None:
        return rows
    is_merged = not reached.lacks(decode_cursors(found.told_cursors))
    told = _read(transaction, which, rows)
    kept: list[WindowRow] = []
    over: list[WindowRow] = []
    for row in rows:
        before = told.get(_name(row))
        is_news = before is None or _is_news(row, before, is_merged=is_merged)
        if is_news:
            kept.append(row)
        if before is not None and (is_news or row.is_retracted):
            over.append(row)
    if over:
        transaction.execute(_DELETE, [which | _values(row) for row in over])
    if is_merged:
        kept = [*settle(transaction, pipeline, reader, reached, turn), *kept]
    return kept


def settle(
    transaction: Transaction, pipeline: Pipeline, reader: str, reached: Reached, turn: int
) -> list[WindowRow]:
    """Drop the notes on closed windows: all that the old version had has been merged.

    Returns:
        What the new one has to tell where the two do not agree: a window that the old one has
        taken back, and it has not; and that a session is none which the old one has told, because
        it is part of another one.
    """
    values = {"reader": reader, "pipeline": pipeline.name}
    until = values | {"until_us": _closed_until_us(pipeline, reached)}
    if isinstance(pipeline.window, Session):
        transaction.execute(_TAKE_BACK, until | {"turn": turn})
    rows = [row_of(pipeline.name, row) for row in transaction.tuples(_DISAGREED, until)]
    transaction.execute(_DELETE_UNTIL, until)
    if not transaction.execute(_COUNT, values).scalar():
        transaction.execute(_SET_MARK, values | {"cursors": None})
    return sorted(rows, key=row_order)


def _closed_until_us(pipeline: Pipeline, reached: Reached) -> int:
    if isinstance(pipeline.window, CountOf):  # what is full is closed
        return FOREVER_US
    return NEVER_US if reached.watermark_us is None else reached.watermark_us


def _is_news(row: WindowRow, before: _Before, *, is_merged: bool) -> bool:
    """Tell whether a row says what the old version has not."""
    if row.is_retracted:
        return not before.is_retracted
    if before.is_retracted:  # it will take the window back, unless it knows better already
        return is_merged
    if is_merged and row.revision > 1:
        return row.rows != before.records
    return row.rows > before.records


def _read(
    transaction: Transaction, which: dict[str, Any], rows: Sequence[WindowRow]
) -> dict[_Name, _Before]:
    if not rows:
        return {}
    ends = [row.end_us for row in rows]
    between = {"first_us": min(ends), "last_us": max(ends)}
    return {
        (end_us, start_us, key, number): _Before(records, bool(is_retracted))
        for end_us, start_us, key, number, records, is_retracted in transaction.tuples(
            _READ, which | between
        )
    }


def _name(row: WindowRow) -> _Name:
    return row.end_us, row.start_us, key_text(row.key), row.number


def _values(row: WindowRow) -> dict[str, Any]:
    return dict(zip(("end_us", "start_us", "key", "number"), _name(row), strict=True))
