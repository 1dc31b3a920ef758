"""Rows of windows, for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from agent99.cli._exits import RefusalError
from agent99.cli._show import compact, printable, shortened
from agent99.cli._where import parse_age_s

if TYPE_CHECKING:
    from agent99.systems.analytics import WindowRow

_FIGURE_CHARACTERS = 60
_LAST_US = 253_402_300_799_000_000
"""The last second of the year 9999: what Python can write."""
_EPOCH = datetime.fromtimestamp(0, UTC)


def row_table(
    rows: Iterable[WindowRow],
) -> tuple[tuple[str, ...], list[tuple[str, ...]], frozenset[str]]:
    """Return the columns, the cells, and which columns stand to the right."""
    several = list(rows)
    figures = tuple(dict.fromkeys(name for row in several for name in row.values))
    columns = ("start", "end", "key", *figures, "records", "state")
    cells = [row_cells(row, figures) for row in several]
    numbers = {
        name
        for name in figures
        if all(isinstance(row.values.get(name), int | float | None) for row in several)
    }
    return columns, cells, frozenset(numbers | {"records"})


def row_cells(row: WindowRow, figures: Sequence[str]) -> tuple[str, ...]:
    """Return a row for a table: its window, key, figures, records and state."""
    return (
        *(window_moment(row.start_us), window_moment(row.end_us), key_words(row.key)),
        *(shown(row.values[name]) if name in row.values else "-" for name in figures),
        *(f"{row.rows:,}", state_of(row)),
    )


def key_words(key: Iterable[Any]) -> str:
    """Return the values of a key in a cell."""
    return ", ".join(map(shown, key)) or "-"


def state_of(row: WindowRow) -> str:
    """Return whether a row is open, closed, corrected or taken back."""
    if row.is_retracted:
        return "taken back"
    return f"revision {row.revision}" if row.revision > 1 else row.state


def window_moment(time_us: int) -> str:
    """Return a moment, UTC, as exactly as it must be: `2026-11-26 15:12:59Z`."""
    if time_us > _LAST_US:
        return "the end"  # of a source: what is open for ever ends there
    text = (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%d %H:%M:%S")
    fraction = f".{time_us % 1_000_000:06d}" if time_us % 1_000_000 else ""
    return f"{text}{fraction}Z"


def parse_moment(text: str, now_us: int) -> datetime:
    """Return the moment that a word means: ISO 8601, UTC without a zone; or `-2h`, before now.

    Raises:
        RefusalError: it is none.
    """
    if text.startswith("-"):
        return _EPOCH + timedelta(microseconds=now_us) - timedelta(seconds=parse_age_s(text[1:]))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no moment such as 2026-03-01, 2026-03-01T12:00:00Z or -2h"
        raise RefusalError(message) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def shown(value: Any) -> str:
    """Return a figure, or a value of a key, in a cell."""
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return printable(str(value))
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return shortened(compact(value), _FIGURE_CHARACTERS)
