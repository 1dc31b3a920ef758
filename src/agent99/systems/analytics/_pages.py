"""Rows, as many as an answer can hold. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from operator import gt, lt
from typing import Final

import msgspec

from agent99.systems.analytics._delta import WindowRow, key_text
from agent99.systems.analytics._questions import TIME_MAX, TIME_MIN, After

PAGE_BYTES_MAX: Final = 512 * 1024
OPEN_ONES: Final = After(TIME_MIN, TIME_MIN, "", is_open=True)
"""Behind all closed rows, and before the open ones."""
CLOSED_ONES: Final = After(TIME_MAX, TIME_MAX, "", TIME_MAX)
"""Backwards: behind all open rows, and before the closed ones."""
_encode = msgspec.json.Encoder().encode


def cut(row: WindowRow) -> WindowRow:
    """Return a row without its values."""
    return msgspec.structs.replace(row, values={}, is_cut=True)


def open_page(
    rows: Sequence[WindowRow], after: After | None, limit: int, *, is_backwards: bool = False
) -> tuple[list[WindowRow], After | None]:
    """Return a page of open rows, and where the next one begins.

    Args:
        rows: All that there are at this moment, in any order.
        after: Behind which the page begins; None: with the first one.
    """
    placed = sorted(
        ((_place(row), row) for row in rows),
        key=lambda one: _order(one[0]),
        reverse=is_backwards,
    )
    if after is not None:
        is_behind = lt if is_backwards else gt
        placed = [one for one in placed if is_behind(_order(one[0]), _order(after))]
    page = _fit([row for _, row in placed[:limit]], PAGE_BYTES_MAX, 1)
    return page, placed[len(page) - 1][0] if len(page) < len(placed) else None


def join(
    closed: list[WindowRow], opened: tuple[list[WindowRow], After | None], limit: int
) -> tuple[list[WindowRow], After | None]:
    """Return the last page of closed rows with as many open ones as fit behind them.

    Args:
        opened: A page of open rows, and where the next one begins.
        limit: Of rows.
    """
    rows, behind = opened
    there = {name_of(row) for row in closed}
    rows = [row for row in rows if name_of(row) not in there]
    room = PAGE_BYTES_MAX - sum(len(_encode(row)) for row in closed)
    page = _fit(rows[: limit - len(closed)], room, 0 if closed else 1)
    if len(page) < len(rows):
        behind = _place(page[-1]) if page else OPEN_ONES
    return closed + page, behind


def join_backwards(
    opened: list[WindowRow], closed: tuple[list[WindowRow], After | None], limit: int
) -> tuple[list[WindowRow], After | None]:
    """Return the last page of open rows with as many closed ones as fit behind them.

    Args:
        closed: A page of closed rows, the last one first, and where the next one begins.
        limit: Of rows.
    """
    rows, behind = closed
    there = {name_of(row) for row in rows}
    opened = [row for row in opened if name_of(row) not in there]
    room = PAGE_BYTES_MAX - sum(len(_encode(row)) for row in opened)
    page = _fit(rows[: limit - len(opened)], room, 0 if opened else 1)
    if len(page) < len(rows):
        behind = _place(page[-1], is_open=False) if page else CLOSED_ONES
    return opened + page, behind


def last_of(
    rows: Sequence[WindowRow], newer: Sequence[WindowRow], count: int, *, is_all: bool
) -> list[WindowRow]:
    """Return the last rows, in their order, as they are after some have changed.

    Args:
        rows: Those that were read, the last one first.
        newer: All that have closed, or changed, while that was done.
        is_all: There are no others.
    """
    named = {name_of(row) for row in rows}
    if rows and not is_all:
        # Between those and what is before them there may be others, that were not read.
        first = rows[-1].end_us, rows[-1].start_us
        newer = [
            row for row in newer if name_of(row) in named or (row.end_us, row.start_us) >= first
        ]
    return changed(list(reversed(rows)), newer)[-count:]


def changed(rows: list[WindowRow], newer: Sequence[WindowRow]) -> list[WindowRow]:
    """Return rows as they are after some have closed, were corrected or taken back."""
    named = {name_of(row): row for row in rows} | {name_of(row): row for row in newer}
    kept = [row for row in named.values() if not row.is_retracted]
    kept.sort(key=lambda row: (row.state == "open", row.end_us, row.start_us))
    return kept


def _fit(rows: Sequence[WindowRow], bytes_max: int, rows_min: int) -> list[WindowRow]:
    """Return as many rows as have room; one that has none on any page is cut."""
    page: list[WindowRow] = []
    for row in rows:
        size = len(_encode(row))
        if size > PAGE_BYTES_MAX:
            row = cut(row)  # noqa: PLW2901 - in its place
            size = len(_encode(row))
        bytes_max -= size
        if bytes_max < 0 and len(page) >= rows_min:
            break
        page.append(row)
    return page


def name_of(row: WindowRow) -> tuple[object, ...]:
    """Return what names a window for good."""
    return row.key, row.start_us, row.end_us, row.number


def _place(row: WindowRow, *, is_open: bool = True) -> After:
    return After(row.end_us, row.start_us, key_text(row.key), row.number, is_open)


def _order(place: After) -> tuple[int, int, str, int]:
    return place.end_us, place.start_us, place.key, place.number
