"""What the tests of the live part sell: a source, a job, and what its windows must be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from agent99 import Agent, Mesh
from agent99.systems.analytics import Count, Job, Pipeline, Source, Sum, Tumbling
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._columns import ColumnBatch, encode_batch, shard_key
from agent99.systems.analytics._delta import WindowRow
from agent99.systems.analytics._questions import PipelineStats
from tests._wait import eventually

MINUTE_US = 60_000_000
START_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
LOOK_S = 0.02


class Sale(msgspec.Struct, frozen=True):
    """A record of the tests: `number` tells it from all others."""

    at_us: int
    shop: str
    pence: int
    number: int


def source(**changed: Any) -> Source[Sale]:
    """Return the source: two seconds of disorder are none, and no test is so long as to be idle."""
    right: dict[str, Any] = {"time": "at_us", "delay_s": 2.0, "idle_s": 600.0, "shards": 2}
    return Source("sales", Sale, **(right | changed))


SALES = source()


def revenue(of: Source[Sale] = SALES, **changed: Any) -> Pipeline:
    """Return the pipeline: what each shop has sold, by the minute."""
    right: dict[str, Any] = {
        "key": ("shop",),
        "window": Tumbling(60),
        "aggregates": {"sales": Count(), "pence": Sum("pence")},
        "lateness_s": 60.0,
    }
    return Pipeline("revenue", of, **(right | changed))


def total(of: Source[Sale] = SALES, **changed: Any) -> Pipeline:
    """Return the other pipeline: what all have sold, by ten minutes."""
    right: dict[str, Any] = {
        "window": Tumbling(600),
        "aggregates": {"pence": Sum("pence")},
        "lateness_s": 60.0,
    }
    return Pipeline("total", of, **(right | changed))


def job(*pipelines: Pipeline, version: int = 1) -> Job:
    """Return the job of some pipelines; of both, if none are said."""
    return Job("shops", pipelines or (revenue(), total()), version=version)


def sale(second: float, shop: str = "north", pence: int = 100, number: int = 0) -> Sale:
    """Return a sale at so many seconds after the start."""
    return Sale(START_US + round(second * 1_000_000), shop, pence, number)


async def store(
    mesh: Mesh | Agent,
    sales: Iterable[Sale],
    *,
    shard: int = 0,
    event_id: str | None = None,
    is_final: bool = False,
) -> str:
    """Store a batch of one shard, as the ingestion does; returns the event's id."""
    records = list(sales)
    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in records] for name in SALES.fields
    }
    batch = ColumnBatch(
        source="sales", shard=shard, rows=len(records), columns=columns, is_final=is_final
    )
    data = encode_batch(SALES, batch)
    key = shard_key(SALES, shard)
    return await mesh.append(SALES.topic, data, key=key, event_id=event_id)


async def finish(mesh: Mesh | Agent) -> None:
    """End both shards: every window closes."""
    for shard in range(SALES.shards):
        await store(mesh, (), shard=shard, is_final=True)


def by_minute(sales: Iterable[Sale]) -> dict[tuple[int, str], tuple[int, int]]:
    """Return what `revenue` must have: by minute and shop, how many sales, and pence."""
    found: dict[tuple[int, str], tuple[int, int]] = {}
    for one in sales:
        key = (one.at_us // MINUTE_US * MINUTE_US, one.shop)
        count, pence = found.get(key, (0, 0))
        found[key] = (count + 1, pence + one.pence)
    return found


def shown(rows: Iterable[WindowRow]) -> dict[tuple[int, str], tuple[int, int]]:
    """Return rows of `revenue` in the form of `by_minute`."""
    return {
        (row.start_us, str(row.key[0])): (row.values["sales"], row.values["pence"]) for row in rows
    }


async def rows_when(
    figures: Analytics,
    is_enough: Any,
    *,
    pipeline: str = "revenue",
    state: Any = "closed",
    timeout_s: float = 20.0,
) -> list[WindowRow]:
    """Return the rows once they are what is waited for."""
    rows: list[WindowRow] = []
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                rows = await figures.query(pipeline, state=state)
                if is_enough(rows):
                    return rows
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise AssertionError(f"not within {timeout_s} s; last: {rows}") from None


async def closed(figures: Analytics, expected: Mapping[Any, Any]) -> list[WindowRow]:
    """Return the closed rows of `revenue` once they are what they must be."""
    return await rows_when(figures, lambda rows: shown(rows) == expected)


async def counts_when(
    figures: Analytics, records: int, pipeline: str = "revenue", timeout_s: float = 20.0
) -> PipelineStats:
    """Return the counts of a pipeline once so many records have come."""

    async def counts() -> PipelineStats | None:
        stats = await figures.stats()
        (found,) = (one for one in stats.pipelines if one.pipeline == pipeline)
        return found if found.records == records else None

    found: PipelineStats = await eventually(counts, timeout_s=timeout_s)
    return found


def closes(counts: PipelineStats) -> bool:
    """Tell whether each record is in exactly one count."""
    return counts.records == counts.on_time + counts.late + counts.dropped + counts.skipped


def batches(sales: Sequence[Sale], size: int) -> list[list[Sale]]:
    """Return sales in batches."""
    return [list(sales[at : at + size]) for at in range(0, len(sales), size)]
