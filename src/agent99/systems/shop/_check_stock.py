"""The check of reservations: what was held, left, came back or expired, against the shelves."""

from __future__ import annotations

from collections.abc import Iterator

from agent99.systems.shop._check_findings import Finding, differ, found
from agent99.systems.shop._check_sources import StoreSide, load_polars


def compare_lines(stores: StoreSide) -> Iterator[Finding]:
    """Compare the lines of all reservations with the stock of their products."""
    pl = load_polars()
    lines, key = stores.reservation_lines, "product_id"
    is_held = pl.col("state") == "reserved"
    said = (
        lines.join(stores.reservations, on="order_id", how="left")
        .group_by(key)
        .agg(
            reserved=(pl.col("quantity") - pl.col("shipped")).filter(is_held).sum(),
            shipped=pl.col("shipped").sum(),
            restocked=pl.col("returned").sum(),
        )
    )
    delivered = stores.deliveries.group_by(key).agg(delivered=pl.col("units").sum())
    said = (
        said.join(delivered, on=key, how="full", coalesce=True)
        .fill_null(0)
        .with_columns(restocked=pl.col("restocked") + pl.col("delivered"))
    )
    columns = ["reserved", "shipped", "restocked"]
    moved = pl.any_horizontal(pl.col(each) != 0 for each in columns)
    yield from found(
        "stock_lines_differ",
        "what is held, left and came of a product is what orders' lines and deliveries say",
        differ(said.filter(moved), stores.stock.filter(moved), [key], columns),
        key,
    )
    confirmed = stores.orders.filter(state="confirmed")
    left = lines.filter(pl.col("shipped") > pl.col("returned")).unique("order_id")
    yield from found(
        "shipped_without_order",
        "only a confirmed order's units left the house for good",
        left.join(confirmed, on="order_id", how="anti"),
    )


def compare_reservations(stores: StoreSide) -> Iterator[Finding]:
    """Look whether those that expired did so in time; that all have ended is seen elsewhere."""
    pl = load_polars()
    expired, end_us = stores.reservations.filter(state="expired"), pl.col("expires_us")
    yield from found(
        "reservation_expired_early",
        "a reservation expires when its time is up, and has one",
        expired.filter(end_us.is_null() | (pl.col("updated_us") < end_us)),
    )
