"""What the windows of the demo must say: by polars over the file, without a line of the pipelines'.

It reads the file by itself, by the rules of `data/README.md` beside the shop's extract, and knows
of the pipelines nothing but what they promise. It loads polars: import it once it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import copysign, inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl

from agent99.systems.analytics._demo_check import Ranking, Spread, Window, Windows

if TYPE_CHECKING:
    from agent99.systems.analytics._anomalies import Ewma

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
VISIT_GAP_US: Final = HOUR_US
TOP: Final = 10
QUANTILES: Final = (0.5, 0.95, 0.99)
CLAMP: Final = 3.0
"""Deviations to which an anomaly is clamped, as is promised, in what is expected after it."""


class Truth(NamedTuple):
    """What a file makes of every window."""

    windows: Mapping[str, Windows]
    """By pipeline."""
    lines: int
    """That were sold."""
    orders: int
    guests: int
    """Orders of nobody that is known: they are no visit."""


def read_truth(path: str) -> Truth:
    """Compute every window from a file of order lines.

    Raises:
        PolarsError: it is none.
    """
    sold = (
        pl.read_parquet(path)
        .with_columns(StockCode=pl.col("StockCode").str.strip_chars().str.to_uppercase())
        .filter(
            ~pl.col("Invoice").str.contains("^[A-Za-z]"),
            pl.col("StockCode").str.contains(r"^\d{5}"),
            pl.col("Quantity") > 0,
            pl.col("Price") >= 0.01,
        )
        .select(
            "Invoice",
            us=pl.col("InvoiceDate").cast(pl.Datetime("us")).dt.epoch("us"),
            product="StockCode",
            country="Country",
            customer="CustomerID",
            pence=(pl.col("Price") * 100).round().cast(pl.Int64) * pl.col("Quantity"),
        )
    )
    orders = sold.group_by("Invoice").agg(
        pl.col("us").min(), pl.col("customer").first(), pl.col("pence").sum()
    )
    products = _sums(sold, DAY_US, "product")
    return Truth(
        windows={
            "country-hourly": _sums(sold, HOUR_US, "country"),
            "country-daily": _sums(sold, DAY_US, "country"),
            "product-hourly": _sums(sold, HOUR_US, "product"),
            "product-daily": products,
            "top-products": _tops(products),
            "customers-daily": _customers(sold),
            "order-values": _order_values(orders),
            "visits": _visits(orders.filter(pl.col("customer").is_not_null())),
        },
        lines=sold.height,
        orders=orders.height,
        guests=orders["customer"].null_count(),
    )


def _by_window(frame: pl.DataFrame, size_us: int, *keys: str) -> Any:
    start = (frame["us"] // size_us * size_us).alias("start")
    return frame.with_columns(start).group_by("start", *keys)


def _sums(frame: pl.DataFrame, size_us: int, key: str) -> Windows:
    grouped = _by_window(frame, size_us, key).agg(pl.len(), pl.col("pence").sum())
    return {
        (start, start + size_us, (value,)): {"lines": lines, "revenue_pence": pence}
        for start, value, lines, pence in grouped.iter_rows()
    }


def _tops(products: Windows) -> Windows:
    """Return the products of most revenue in each window, whatever its products are."""
    weights: dict[Window, dict[str, int]] = {}
    for (start, end, (product,)), figures in products.items():
        weights.setdefault((start, end, ()), {})[product] = figures["revenue_pence"]
    return {window: {"top": Ranking(by_product, TOP)} for window, by_product in weights.items()}


def _customers(frame: pl.DataFrame) -> Windows:
    grouped = _by_window(frame, DAY_US).agg(pl.col("customer").drop_nulls().n_unique())
    return {
        (start, start + DAY_US, ()): {"customers": customers}
        for start, customers in grouped.iter_rows()
    }


def _order_values(orders: pl.DataFrame) -> Windows:
    pence = pl.col("pence")
    ranks = [
        pence.quantile(share, interpolation).alias(f"{interpolation} {share}")
        for share in QUANTILES
        for interpolation in ("lower", "higher")
    ]
    grouped = _by_window(orders, DAY_US).agg(
        pl.len(), pence.sum().alias("sum"), pence.max().alias("max"), *ranks
    )
    return {
        (start, start + DAY_US, ()): {
            "orders": count,
            "revenue_pence": total,
            "largest_pence": largest,
            "quantiles": Spread(
                {
                    str(share): (bounds[2 * at], bounds[2 * at + 1])
                    for at, share in enumerate(QUANTILES)
                }
            ),
        }
        for start, count, total, largest, *bounds in grouped.iter_rows()
    }


def _visits(orders: pl.DataFrame) -> Windows:
    """Return each customer's orders of which each is less than the gap after the one before."""
    is_new = pl.col("us").diff().over("customer").fill_null(VISIT_GAP_US) >= VISIT_GAP_US
    visits = (
        orders.sort("customer", "us")
        .with_columns(visit=is_new.cum_sum())
        .group_by("visit", "customer")
        .agg(
            pl.col("us").min().alias("first"),
            pl.col("us").max().alias("last"),
            pl.len(),
            pl.col("pence").sum(),
        )
    )
    return {
        (first, last + VISIT_GAP_US, (customer,)): {"orders": count, "revenue_pence": pence}
        for _, customer, first, last, count, pence in visits.iter_rows()
    }


def score_days(windows: Windows, figure: str, rule: Ewma) -> dict[Window, float]:
    """Return how far each window of a key is from those before, of all that may be judged.

    By polars' own weighted means, each over all that came before: `adjust` weighs them by their
    ages alone, and `bias` divides by the weights as they are.
    """
    of_keys: dict[tuple[Any, ...], list[Window]] = {}
    for window in sorted(windows, key=lambda one: one[1]):
        of_keys.setdefault(window[2], []).append(window)
    return {
        window: score
        for several in of_keys.values()
        for window, score in _scored(several, [windows[one][figure] for one in several], rule)
    }


def _scored(several: list[Window], values: list[int], rule: Ewma) -> Iterator[tuple[Window, float]]:
    known: list[float] = []
    for window, value in zip(several, values, strict=True):
        entered: float = value
        if len(known) >= rule.warm_up:
            series = pl.Series(known, dtype=pl.Float64)
            mean = series.ewm_mean(half_life=rule.half_life, adjust=True)[-1]
            spread = series.ewm_std(half_life=rule.half_life, adjust=True, bias=True)[-1]
            if len(set(known)) > 1:
                yield window, (value - mean) / spread
                entered = min(max(value, mean - CLAMP * spread), mean + CLAMP * spread)
            else:
                yield window, 0.0 if value == mean else copysign(inf, value - mean)
        known.append(entered)
