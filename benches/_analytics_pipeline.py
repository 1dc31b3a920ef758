"""The pipeline of the bench of the analytics, and what its rows say in the bench's form."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from _analytics_lines import DELAY_S, HOUR_S, Line, Windows

from agent99.systems.analytics import Count, Job, Pipeline, Source, Sum, Tumbling, WindowRow

HOUR_US: Final = HOUR_S * 1_000_000
SHARDS: Final = 4
"""Of the stream: of each, one array at a time is on its way to the log."""


def revenue_of(shards: int) -> Pipeline:
    """Return the pipeline over so many shards."""
    return Pipeline(
        "revenue",
        Source("lines", Line, time="sold_at", delay_s=DELAY_S, shards=shards),
        key=("country",),
        window=Tumbling(HOUR_S),
        columns={"pence": lambda quantity, price_pence: quantity * price_pence},
        aggregates={"lines": Count(), "revenue_pence": Sum("pence")},
    )


REVENUE: Final = revenue_of(SHARDS)
LINES: Final = REVENUE.source
JOB: Final = Job("bench", [REVENUE])


def windows_of(rows: Iterable[WindowRow]) -> Windows:
    """Return what rows say; of a window that was corrected the last one counts."""
    return {
        (row.start_us // HOUR_US, str(row.key[0])): [
            row.values["lines"],
            row.values["revenue_pence"],
        ]
        for row in rows
    }
