"""Rows of windows as `agent99 analytics` shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent99.cli._analytics_rows import (
    parse_moment,
    row_table,
    state_of,
    window_moment,
)
from agent99.cli._exits import RefusalError
from agent99.systems.analytics._delta import WindowRow

HOUR_US = 3_600_000_000


def row(**changes: Any) -> WindowRow:
    """Return a row of the first hour."""
    fields: dict[str, Any] = {
        "pipeline": "revenue",
        "start_us": 0,
        "end_us": HOUR_US,
        "key": ("Eire",),
        "values": {"lines": 2, "pence": 12_345},
        "rows": 2,
        "state": "closed",
    }
    return WindowRow(**{**fields, **changes})


def test_a_table_has_a_column_for_each_figure() -> None:
    """Numbers stand to the right; a window without a key has none."""
    rows = [row(), row(key=(), values={"lines": 1, "top": [["tea", 3]]}, state="open")]
    columns, cells, numbers = row_table(rows)
    assert ("start", "end", "key", "lines", "pence", "top", "records", "state") == columns
    start, end = "1970-01-01 00:00:00Z", "1970-01-01 01:00:00Z"
    assert [
        (start, end, "Eire", "2", "12,345", "-", "2", "closed"),
        (start, end, "-", "1", "-", '[["tea",3]]', "2", "open"),
    ] == cells
    assert {"lines", "pence", "records"} == numbers


def test_figures_of_every_kind_are_shown() -> None:
    """None is a dash, and what would steer a terminal does not."""
    values = {"mean": 1 / 3, "none": None, "text": "a\x1b[2J", "flag": True}
    _, (cells,), _ = row_table([row(key=(7, None, "b\x07"), values=values)])
    assert ("7, -, b\\u0007", "0.333333", "-", "a\\u001b[2J", "True") == cells[2:7]


def test_the_state_of_a_row() -> None:
    """A correction tells its number, and what was taken back that it is no more."""
    assert "closed" == state_of(row())
    assert "revision 3" == state_of(row(revision=3))
    assert "taken back" == state_of(row(revision=2, is_retracted=True))


@pytest.mark.parametrize(
    ("time_us", "text"),
    [
        (0, "1970-01-01 00:00:00Z"),
        (-1, "1969-12-31 23:59:59.999999Z"),
        (1_267_401_600_000_000, "2010-03-01 00:00:00Z"),
        (2**63 - 1, "the end"),
    ],
)
def test_moments_are_shown_as_exactly_as_they_must_be(time_us: int, text: str) -> None:
    """To the second where they are whole ones; the end of a source is no moment."""
    assert text == window_moment(time_us)


def test_moments_are_read_as_people_write_them() -> None:
    """Without a zone they are UTC; a duration is before now."""
    assert datetime(2010, 3, 1, tzinfo=UTC) == parse_moment("2010-03-01", 0)
    assert datetime(2010, 3, 1, 11, tzinfo=UTC) == parse_moment("2010-03-01T12:00+01:00", 0)
    assert datetime(1970, 1, 1, 1, tzinfo=UTC) == parse_moment("-2h", 3 * HOUR_US)
    for text in ("soon", "-soon", "2h"):
        with pytest.raises(RefusalError, match="soon|2h"):
            parse_moment(text, 0)
