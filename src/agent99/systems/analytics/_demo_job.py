"""The pipelines of the demo: what a retailer would look at while the tills ring."""

from __future__ import annotations

from typing import Final

from agent99.systems.analytics._demo_retail import Line, Order
from agent99.systems.analytics._figures import Count, Max, Sum
from agent99.systems.analytics._pipeline import Job, Pipeline
from agent99.systems.analytics._sketches import Distinct, Quantiles, TopK
from agent99.systems.analytics._source import Source
from agent99.systems.analytics._windows import Session, Tumbling

TILLS: Final = 4
"""Each writes to a shard of its own."""
HOUR_S: Final = 3_600.0
DAY_S: Final = 24 * HOUR_S
LATENESS_S: Final = 36 * HOUR_S
"""Longer than records are held back: all of them find their window."""

LINES: Final = Source("lines", Line, time="sold_at", delay_s=60.0, idle_s=60.0, shards=TILLS)
ORDERS: Final = Source("orders", Order, time="placed_at", delay_s=60.0, idle_s=60.0, shards=TILLS)


def _pence(quantity: int, price_pence: int) -> int:
    return quantity * price_pence


def _is_known(customer: int | None) -> bool:
    return customer is not None


def _revenue(name: str, key: str, size_s: float) -> Pipeline:
    return Pipeline(
        name,
        LINES,
        key=(key,),
        window=Tumbling(size_s),
        columns={"pence": _pence},
        aggregates={"lines": Count(), "revenue_pence": Sum("pence")},
        lateness_s=LATENESS_S,
    )


RETAIL: Final = Job(
    "retail",
    (
        _revenue("country-hourly", "country", HOUR_S),
        _revenue("country-daily", "country", DAY_S),
        _revenue("product-hourly", "product", HOUR_S),
        _revenue("product-daily", "product", DAY_S),
        Pipeline(
            "top-products",
            LINES,
            window=Tumbling(DAY_S),
            columns={"pence": _pence},
            aggregates={"top": TopK("product", 10, weight="pence")},
            lateness_s=LATENESS_S,
        ),
        Pipeline(
            "customers-daily",
            LINES,
            window=Tumbling(DAY_S),
            aggregates={"customers": Distinct("customer")},
            lateness_s=LATENESS_S,
        ),
        Pipeline(
            "order-values",
            ORDERS,
            window=Tumbling(DAY_S),
            aggregates={
                "orders": Count(),
                "revenue_pence": Sum("total_pence"),
                "largest_pence": Max("total_pence"),
                "quantiles": Quantiles("total_pence", (0.5, 0.95, 0.99)),
            },
            lateness_s=LATENESS_S,
        ),
        Pipeline(
            "visits",
            ORDERS,
            key=("customer",),
            window=Session(HOUR_S),
            where=_is_known,
            aggregates={"orders": Count(), "revenue_pence": Sum("total_pence")},
            lateness_s=LATENESS_S,
        ),
    ),
)
