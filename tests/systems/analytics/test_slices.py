"""A closer that has much to do lets others on its event loop have their turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from agent99.systems.analytics import Count, Tumbling
from agent99.systems.analytics._board import Board
from agent99.systems.analytics._closed_rows import Delta
from agent99.systems.analytics._slices import MADE_ROWS, MERGED_BYTES, make, merge

from ._sales import revenue

PIPELINE = revenue(window=Tumbling(60), aggregates={"sales": Count()})


async def _turns_of_another(work: Awaitable[object]) -> int:
    """Return how many turns another task has while some work is done."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.get_running_loop().create_task(count())
    await work
    other.cancel()
    return turns


async def test_rows_are_made_in_slices() -> None:
    """While 200,000 windows that end together close, another task has a turn every 500 rows."""
    board = Board(PIPELINE)
    board.merge({0: {(f"shop {number}",): [1, 1] for number in range(200_000)}})
    rows = make(board.closing(60_000_000))
    assert 200_000 // MADE_ROWS <= await _turns_of_another(rows)
    assert [] == board.close(60_000_000)


async def test_deltas_are_merged_in_slices() -> None:
    """While many deltas are merged, another task has a turn after so many bytes of them."""
    board = Board(PIPELINE)
    deltas = [Delta(0, number, 0, MERGED_BYTES // 4, {0: {("x",): [1, 1]}}) for number in range(99)]
    assert 99 // 4 <= await _turns_of_another(merge(board, deltas))
    assert [99] == [row.rows for row in board.close(60_000_000)]
