"""What stands on the log may be anybody's: it holds up no partition, and no pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import pytest

from agent99 import Mesh
from agent99.envelope import Header, encode_message, parse_key, parse_topic
from agent99.errors import RequestError, StoreError, StoreUnavailableError
from agent99.groups import read_events
from agent99.store import Store, StoreOptions
from agent99.systems.analytics import Count, CountOf, Pipeline, TopK
from agent99.systems.analytics._board import Board
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._columns import ColumnBatch
from agent99.systems.analytics._folded_rows import read_horizons, write
from agent99.systems.analytics._processor import AnalyticsProcessor
from agent99.systems.analytics._questions import PipelineStats
from agent99.systems.analytics._work import Known, LateRecords, Mark, Taken, Work
from tests._wait import PATIENCE_S, eventually

from ._sales import (
    START_US,
    closes,
    counts_when,
    finish,
    job,
    revenue,
    rows_when,
    sale,
    source,
    store,
)

FAR_US = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""What a clock says that is wrong."""


async def held(mesh: Mesh, batch: dict[str, Any], *, event_id: str = "", key: str = "") -> None:
    """Store what somebody else takes for a batch of shard 0."""
    whole = {"source": "sales", "shard": 0, "rows": 1} | batch
    topic = parse_topic("records.sales")
    header = Header(
        type="event",
        from_uuid="x",
        to_uuid=topic,
        event_uuid=event_id or mesh.link.ids.uuid(),
        timestamp=START_US,
    )
    message = encode_message(header, msgspec.json.encode(whole))
    await mesh.link.durable.streams.ensure_log()
    await mesh.link.durable.log.append(
        topic, parse_key(key or "sales.0"), message, message_id=mesh.link.ids.uuid()
    )


def columns(**changed: Any) -> dict[str, Any]:
    """Return the columns of a sale."""
    return {"at_us": [START_US], "shop": ["north"], "pence": [1], "number": [0]} | changed


async def refused_when(figures: Analytics, records: int) -> PipelineStats:
    """Return the counts once an event is refused, and so many records have come."""

    async def refused() -> PipelineStats | None:
        (counts,) = (await figures.stats()).pipelines
        return counts if counts.refused_events and counts.records == records else None

    counts: PipelineStats = await eventually(refused)
    return counts


async def test_a_record_that_is_left_out_is_behind_no_horizon(mesh: Mesh, url: str) -> None:
    """A record that `where` leaves out may be as old as it likes: its partition goes on."""
    some = revenue(where=lambda pence: pence > 0, lateness_s=0.0)
    processor = AnalyticsProcessor(job(some), url)
    await mesh.host(processor)
    figures = Analytics(mesh, "shops")
    for shard in (0, 1):
        await store(mesh, [sale(10), sale(100)], shard=shard)
    await rows_when(figures, lambda rows: len(rows) == 1)
    async with asyncio.timeout(PATIENCE_S):
        while not await _has_horizon(processor):
            await asyncio.sleep(0)
    await store(mesh, [sale(5, pence=0), sale(110)])
    counts = await counts_when(figures, 6, timeout_s=PATIENCE_S)
    assert (1, 0) == (counts.skipped, counts.dropped)
    assert closes(counts)


async def test_a_record_is_taken_by_no_horizon_that_has_moved(
    mesh: Mesh, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A horizon that has moved since it was read is found when a batch is written by it."""
    monkeypatch.setattr("agent99.systems.analytics._folding.HORIZONS_S", 3_600.0)
    processor = AnalyticsProcessor(job(revenue(lateness_s=0.0)), url)
    await mesh.host(processor)
    figures = Analytics(mesh, "shops")
    await store(mesh, [sale(10)], shard=1, is_final=True)
    await counts_when(figures, 1, timeout_s=PATIENCE_S)
    await store(mesh, [sale(100)])
    await rows_when(figures, lambda rows: len(rows) == 1)
    async with asyncio.timeout(PATIENCE_S):
        while not await _has_horizon(processor):
            await asyncio.sleep(0)
    await store(mesh, [sale(20)], shard=1)
    counts = await counts_when(figures, 3, timeout_s=PATIENCE_S)
    assert (2, 1) == (counts.on_time, counts.dropped)


async def _has_horizon(processor: AnalyticsProcessor) -> bool:
    ground = processor._ground
    read = partial(read_horizons, reader=ground.reader)
    return (await ground.store.read(read))["revenue"] is not None


async def test_a_shard_that_there_is_not_stops_no_pipeline(mesh: Mesh, url: str) -> None:
    """A batch of a shard that the source has not (any more) is refused; windows close on."""
    await mesh.host(AnalyticsProcessor(job(revenue()), url))
    figures = Analytics(mesh, "shops")
    await store(mesh, [sale(1)], shard=5)
    await store(mesh, [sale(2)])
    await refused_when(figures, 1)
    await finish(mesh)
    await rows_when(figures, lambda rows: len(rows) == 1, timeout_s=PATIENCE_S)


async def test_a_batch_under_the_key_of_another_shard_is_refused(mesh: Mesh, url: str) -> None:
    """A batch that stands in the partition of another shard is refused: a shard is in one."""
    await mesh.host(AnalyticsProcessor(job(revenue()), url))
    figures = Analytics(mesh, "shops")
    await held(mesh, {"columns": columns()}, key="sales.1")
    await store(mesh, [sale(2)])
    await refused_when(figures, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        columns(at_us=[2**70]),
        columns(pence=[2**80]),
        columns(pence=[2**40]),
        columns(shop=["x" * 25_000]),
        columns(at_us=[FAR_US]),
    ],
    ids=["time", "integer", "key", "length", "clock"],
)
async def test_one_event_holds_up_no_partition(mesh: Mesh, url: str, wrong: dict[str, Any]) -> None:
    """What the database cannot hold, or closes every window, is refused; what is behind it goes on.

    A batch of a record whose time, integer, computed key or text is too large, or time far ahead.
    """
    squares = {"square": lambda pence: pence * pence}
    by_square = revenue(key=("square", "shop"), columns=squares)
    await mesh.host(AnalyticsProcessor(job(by_square), url))
    figures = Analytics(mesh, "shops")
    await held(mesh, {"columns": wrong})
    await store(mesh, [sale(2), sale(1)])
    counts = await refused_when(figures, 2)
    assert (2, 0) == (counts.on_time, counts.dropped)


@pytest.mark.parametrize("event_id", ["\0", "\U0001f600" * 100], ids=["nul", "long"])
async def test_an_id_may_be_anything(mesh: Mesh, url: str, event_id: str) -> None:
    """A batch under an id that no database takes as it is counts as every other."""
    await mesh.host(AnalyticsProcessor(job(revenue()), url))
    await held(mesh, {"columns": columns()}, event_id=event_id)
    await store(mesh, [sale(2)])
    await counts_when(Analytics(mesh, "shops"), 2, timeout_s=PATIENCE_S)


async def test_one_wrong_clock_closes_no_window(mesh: Mesh, url: str) -> None:
    """A record far beyond the wall clock is refused also by `process_batch`."""
    await mesh.host(AnalyticsProcessor(job(revenue(source(shards=1))), url))
    far = {"at_us": FAR_US, "shop": "x", "pence": 1, "number": 1}
    with pytest.raises(RequestError, match="in the future"):
        await mesh.request("analytics_processor", "process_batch", {"batch": [far]})


async def test_what_cannot_be_packed_is_found_in_its_batch(mesh: Mesh, url: str) -> None:
    """Of several events the one whose figures nothing can carry is refused, and no other."""
    odd = {"odd": lambda shop: "\ud800" if shop == "bad" else shop}
    top = revenue(columns=odd, aggregates={"top": TopK("odd")})
    for shop in ("north", "bad", "south"):
        await store(mesh, [sale(1, shop)])
    await mesh.host(AnalyticsProcessor(job(top), url))
    figures = Analytics(mesh, "shops")
    counts = await refused_when(figures, 2)
    assert 1 == counts.refused_events
    await finish(mesh)
    rows = await rows_when(figures, lambda rows: len(rows) == 2, timeout_s=PATIENCE_S)
    assert {"north", "south"} == {row.key[0] for row in rows}


async def test_what_the_database_refuses_is_found_in_its_batch(
    mesh: Mesh, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several events the one that the database will not have is refused after some attempts."""
    plain = Store.transaction

    async def transaction(self: Store, work: Callable[..., Any], *more: Any) -> Any:
        folded = work.keywords.get("folded") if isinstance(work, partial) else None
        if folded is not None and any("bad" in one.batch.columns["shop"] for one in folded.taken):
            raise StoreError("the database refuses the statement")
        return await plain(self, work, *more)

    monkeypatch.setattr(Store, "transaction", transaction)
    for shop in ("north", "bad", "south"):
        await store(mesh, [sale(1, shop)])
    await mesh.host(AnalyticsProcessor(job(revenue()), url))
    assert 1 == (await refused_when(Analytics(mesh, "shops"), 2)).refused_events


async def test_late_records_of_a_full_event_hold_up_nobody(mesh: Mesh, url: str) -> None:
    """What was too late is told in as many events as it takes, and named if it has no room in one.

    The first record fills its stored batch; of what is told of it here there is more.
    """
    await mesh.host(AnalyticsProcessor(job(revenue(key=(), lateness_s=0.0)), url))
    figures = Analytics(mesh, "shops")
    await store(mesh, [sale(1_000)])
    await counts_when(figures, 1)
    room = StoreOptions().event_bytes_max
    full: dict[str, list[Any]] = {
        "at_us": [START_US] * 2,
        "shop": ["", "x"],
        "pence": [1, 1],
        "number": [0, 1],
    }
    batch = {"source": "sales", "shard": 0, "rows": 2, "columns": full}
    full["shop"][0] = "x" * (room - len(msgspec.json.encode(batch)))
    await held(mesh, batch)
    counts = await counts_when(figures, 3, timeout_s=PATIENCE_S)
    assert 2 == counts.dropped
    told: list[LateRecords] = []
    async with asyncio.timeout(PATIENCE_S):
        while sum(each.rows for each in told) < 2:
            events = [each async for each in read_events(mesh, "late.shops.revenue")]
            told = [each.decode(LateRecords) for each in events]
    assert [{}, [1]] == [each.columns and each.columns["number"] for each in told]
    assert 1 == len({each.sequence for each in told})


async def test_an_unknown_outcome_counts_no_ordinal_twice(
    mesh: Mesh, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a commit has taken effect though its answer was lost, windows by count go on alike."""
    one = source(shards=2, shard_by="shop")
    pairs = Pipeline("pairs", one, key=("shop",), window=CountOf(2), aggregates={"n": Count()})
    plain = Store.transaction
    lost: list[int] = []

    async def transaction(self: Store, work: Callable[..., Any], *more: Any) -> Any:
        answer = await plain(self, work, *more)
        if isinstance(work, partial) and work.func is write:
            lost.append(1)
        if lost == [1]:
            raise StoreUnavailableError("db", "its answer was lost", outcome_unknown=True)
        return answer

    monkeypatch.setattr(Store, "transaction", transaction)
    await mesh.host(AnalyticsProcessor(job(pairs), url))
    figures = Analytics(mesh, "shops")
    await store(mesh, [sale(1)])
    await counts_when(figures, 1, "pairs")
    async with asyncio.timeout(PATIENCE_S):
        while len(lost) < 2:  # until it has come again
            await asyncio.sleep(0)
    await store(mesh, [sale(2), sale(3), sale(4)])
    await finish(mesh)
    await rows_when(figures, lambda rows: len(rows) == 2, pipeline="pairs", timeout_s=PATIENCE_S)


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
    work.add(Taken(1, "late", batch, START_US))
    assert {("sales", 0): Mark(START_US, is_final=True)} == work.marks
