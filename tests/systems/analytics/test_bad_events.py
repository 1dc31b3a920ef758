"""What stands on the log may be anybody's: it holds up no partition, and no pipeline."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from agent99 import Mesh
from agent99.errors import RequestError
from agent99.systems.analytics import Count, CountOf, Pipeline
from agent99.systems.analytics._board import Board
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._columns import ColumnBatch
from agent99.systems.analytics._folded_rows import read_horizons
from agent99.systems.analytics._processor import AnalyticsProcessor
from agent99.systems.analytics._work import Known, Mark, Taken, Work

from ._sales import (
    START_US,
    closes,
    counts_when,
    job,
    revenue,
    rows_when,
    sale,
    source,
    store,
)

SECONDS = 8.0
"""So long what must go on may take; where it is held up, it is for ever."""
FAR_US = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""What a clock says that is wrong."""


def columns(**changed: Any) -> dict[str, Any]:
    """Return the columns of a sale."""
    return {"at_us": [START_US], "shop": ["north"], "pence": [1], "number": [0]} | changed


async def test_a_record_that_is_left_out_is_behind_no_horizon(mesh: Mesh, url: str) -> None:
    """A record that `where` leaves out may be as old as it likes: its partition goes on."""
    some = revenue(where=lambda pence: pence > 0, lateness_s=0.0)
    processor = AnalyticsProcessor(job(some), url)
    await mesh.host(processor)
    figures = Analytics(mesh, "shops")
    for shard in (0, 1):
        await store(mesh, [sale(10), sale(100)], shard=shard)
    await rows_when(figures, lambda rows: len(rows) == 1)
    async with asyncio.timeout(SECONDS):
        while not await _has_horizon(processor):
            await asyncio.sleep(0)
    await store(mesh, [sale(5, pence=0), sale(110)])
    counts = await counts_when(figures, 6, timeout_s=SECONDS)
    assert (1, 0) == (counts.skipped, counts.dropped)
    assert closes(counts)


async def _has_horizon(processor: AnalyticsProcessor) -> bool:
    ground = processor._ground
    read = partial(read_horizons, reader=ground.reader)
    return (await ground.store.read(read))["revenue"] is not None


async def test_one_wrong_clock_closes_no_window(mesh: Mesh, url: str) -> None:
    """A record far beyond the wall clock is refused also by `process_batch`."""
    await mesh.host(AnalyticsProcessor(job(revenue(source(shards=1))), url))
    far = {"at_us": FAR_US, "shop": "x", "pence": 1, "number": 1}
    with pytest.raises(RequestError, match="in the future"):
        await mesh.request("analytics_processor", "process_batch", {"batch": [far]})


def test_a_window_by_count_that_is_over_full_closes_once() -> None:
    """A key whose records are in two shards (they were sharded otherwise once) breaks no board."""
    by_shop = source(shard_by="shop")
    ones = Pipeline("t", by_shop, key=("shop",), window=CountOf(1), aggregates={"n": Count()})
    board = Board(ones)
    for _ in range(2):
        board.merge({0: {("north",): [1, 5, 5, 1]}})
    assert [2] == [row.rows for row in board.close(10)]
    assert [] == board.close(11)


def test_a_shard_that_has_ended_stays_so() -> None:
    """What is stored behind the end of a shard does not begin it anew, whoever folds it."""
    marks = {("sales", 0): Mark(5, is_final=True)}
    work = Work({"sales": [revenue()]}, Known(marks, {}, {}))
    batch = ColumnBatch(source="sales", shard=0, rows=1, columns=columns())
    work.add(Taken(1, "late", batch))
    assert {("sales", 0): Mark(START_US, is_final=True)} == work.marks
