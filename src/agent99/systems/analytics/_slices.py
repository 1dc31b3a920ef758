"""A closer's work in slices, between which whatever else runs on the event loop has a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from agent99.systems.analytics._board import row_order

if TYPE_CHECKING:
    from agent99.systems.analytics._board import Board
    from agent99.systems.analytics._closed_rows import Delta
    from agent99.systems.analytics._delta import WindowRow

MERGED_BYTES: Final = 128 * 1024
"""Of deltas that are merged at once."""
MADE_ROWS: Final = 500
"""That are made at once."""


async def merge(board: Board, deltas: Iterable[Delta]) -> None:
    """Merge deltas into a board; their cells are the board's from now on."""
    for lot in _lots(deltas):
        board.merge_several([delta.panes for delta in lot])
        await asyncio.sleep(0)


async def make(closing: Iterator[WindowRow]) -> list[WindowRow]:
    """Return the rows of windows that are closing: those of a slice by ends, then by keys."""
    rows: list[WindowRow] = []
    while made := sorted(islice(closing, MADE_ROWS), key=row_order):
        rows += made
        await asyncio.sleep(0)
    return rows


def _lots(deltas: Iterable[Delta]) -> Iterator[list[Delta]]:
    lot: list[Delta] = []
    size_bytes = 0
    for delta in deltas:
        lot.append(delta)
        size_bytes += delta.size_bytes
        if size_bytes >= MERGED_BYTES:
            yield lot
            lot, size_bytes = [], 0
    if lot:
        yield lot
