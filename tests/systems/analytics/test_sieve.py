"""Records that no pipeline can take cost those around them nothing."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent99 import Mesh
from agent99.systems.analytics import Count, CountOf, Pipeline, Sum
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._columns import ColumnBatch
from agent99.systems.analytics._processor import AnalyticsProcessor
from agent99.systems.analytics._sieve import sieve

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

BAD = 13
"""A price of which the pipelines here make nothing."""


def share(pence: int) -> int:
    """Return some figure of a price; there is none of `BAD`."""
    return 100 // (pence - BAD)


def batch_of(prices: list[int]) -> ColumnBatch:
    """Return a batch of sales at these prices."""
    columns: dict[str, list[Any]] = {
        "at_us": [START_US + at for at in range(len(prices))],
        "shop": ["north"] * len(prices),
        "pence": list(prices),
        "number": list(range(len(prices))),
    }
    rows = len(prices)
    return ColumnBatch(
        source="sales", shard=0, rows=rows, columns=columns, is_final=True, known_as="sent"
    )


@given(st.lists(st.sampled_from([1, 2, BAD]), max_size=40))
def test_it_parts_the_records_that_a_pipeline_cannot_take(prices: list[int]) -> None:
    """Both parts are in the order of the batch; where all or none are unfit there are no parts."""
    one = source(shards=1)
    broken = revenue(one, columns={"share": share}, aggregates={"shares": Sum("share")})
    pairs = Pipeline("pairs", one, window=CountOf(2), aggregates={"n": Count()})
    batch = batch_of(prices)
    sieved = sieve(batch, [pairs, broken])
    fit = [price for price in prices if price != BAD]
    if not 0 < len(fit) < len(prices):
        assert sieved is None
        return
    assert sieved is not None
    assert fit == sieved.fit.columns["pence"]
    assert [at for at, price in enumerate(prices) if price == BAD] == sieved.unfit.columns["number"]
    assert len(prices) == sieved.fit.rows + sieved.unfit.rows
    assert (True, "sent") == (sieved.fit.is_final, sieved.fit.known_as)
    assert (False, "") == (sieved.unfit.is_final, sieved.unfit.known_as)


def test_records_that_are_unfit_together_are_not_parted() -> None:
    """A computed column of two types is nobody's fault alone."""
    mixed = revenue(columns={"mixed": lambda pence: pence if pence > 1 else "one"})
    assert sieve(batch_of([1, 2]), [mixed]) is None


async def test_a_record_that_breaks_a_function_is_refused_alone(mesh: Mesh, url: str) -> None:
    """The others of its stored batch count; given back once all is well it counts too, once."""
    broken = [True]

    def looked_up(pence: int) -> int:
        if broken and pence == BAD:
            raise LookupError("not yet")
        return pence

    some = revenue(columns={"found": looked_up}, aggregates={"found": Sum("found")})
    await mesh.host(AnalyticsProcessor(job(some), url))
    figures = Analytics(mesh, "shops")
    await store(mesh, [sale(n, pence=BAD if n in (2, 5) else 1) for n in range(8)])
    counts = await counts_when(figures, 6)
    assert (6, 1, 2) == (counts.on_time, counts.refused_events, counts.refused_records)
    broken.clear()
    quarantine = mesh.link.durable.quarantine
    (buried,) = [one async for one in quarantine.records()]
    assert [BAD, BAD] == msgspec.json.decode(buried.body)["columns"]["pence"]
    await quarantine.redrive(buried)
    counts = await counts_when(figures, 8)
    assert (1, 0) == (counts.refused_events, counts.repeated_events)
    assert closes(counts)
    await finish(mesh)
    (row,) = await rows_when(figures, lambda rows: len(rows) == 1)
    assert {"found": 6 + 2 * BAD} == row.values
