"""The check of orders that were sent in two: what the file says of them, taken apart alike.

An order of which a part was not in stock is two in the databases: what there was, and a back-order.
The file knows one. It is taken apart here by what the shop says was missing, and everything else of
both is compared with that: customer, lines, totals, payments, shipments, and what can come back.
A line that the order never had, or units beyond its own, make a difference there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from agent99.systems.shop._check_findings import Finding, differ, found
from agent99.systems.shop._check_sources import (
    FileSide,
    Frame,
    StoreSide,
    back_order_id,
    load_polars,
    with_declines,
)

_LINE = ["order_id", "product_id", "price_pence"]


class Terms(Protocol):
    """The options that the rule of the declines hangs on."""

    @property
    def decline_rate(self) -> float:
        """The share that is declined."""
        ...

    @property
    def seed(self) -> int:
        """Which those are."""
        ...


class _Missing(msgspec.Struct):
    product_id: str
    quantity: int
    unit_price: float

    @property
    def price_pence(self) -> int:
        return round(self.unit_price * 100)


def taken_apart(file: FileSide, stores: StoreSide, terms: Terms) -> FileSide:
    """Return what the file says, with two orders for each that was sent in two."""
    pl = load_polars()
    rest = _rest(stores)
    if rest.is_empty():
        return file
    begun = rest.join(_begun(stores), on="order_id", how="semi")
    kept = _kept(file.lines, rest, stores)
    return msgspec.structs.replace(
        file,
        orders=_orders(file.orders, rest, begun, terms),
        lines=pl.concat([kept, _moved(begun)], how="diagonal_relaxed"),
        replay=_replayed(file.replay, rest),
    )


def compare_apart(stores: StoreSide) -> Iterator[Finding]:
    """Compare what back-orders are of with what was missing when their orders' stock was held."""
    pl = load_polars()
    keys = ["order_id", "product_id"]
    rest = _rest(stores)
    wanted = [
        (order_id, product, units)
        for order_id, said in stores.reservations.select("order_id", "wanted")
        .drop_nulls()
        .iter_rows()
        for product, units in msgspec.json.decode(said, type=dict[str, int]).items()
    ]
    schema = {"order_id": pl.String, "product_id": pl.String, "units": pl.Int64}
    missing = (
        pl.DataFrame(wanted, schema=schema, orient="row")
        .join(rest, on="order_id", how="semi")
        .join(stores.reservation_lines, on=keys, how="left")
        .with_columns(units=pl.col("units") - pl.col("quantity").fill_null(0))
        .filter(pl.col("units") != 0)
    )
    lacked = rest.group_by(keys).agg(units=pl.col("quantity").sum())
    yield from found(
        "back_order_wrong",
        "a back-order is of what was missing when its order's stock was held",
        differ(lacked, missing, keys, ["units"]).unique("order_id"),
    )


def _rest(stores: StoreSide) -> Frame:
    """Return order, product, price, quantity of every line that was not in stock."""
    pl = load_polars()
    apart = stores.orders.select("order_id", "back_ordered").drop_nulls().iter_rows()
    rows = [
        (order_id, line.product_id, line.price_pence, line.quantity)
        for order_id, said in apart
        for line in msgspec.json.decode(said, type=list[_Missing], strict=False)
    ]
    schema = [(name, pl.String) for name in ("order_id", "product_id")]
    numbers = [(name, pl.Int64) for name in ("price_pence", "quantity")]
    return pl.DataFrame(rows, schema=[*schema, *numbers], orient="row")


def _begun(stores: StoreSide) -> Frame:
    """Return the orders that were confirmed once: their back-orders must be there."""
    return stores.order_history.filter(event="confirm").select("order_id").unique()


def _orders(orders: Frame, rest: Frame, begun: Frame, terms: Terms) -> Frame:
    """Return the orders without what was missing, and the back-orders that have begun."""
    pl = load_polars()
    lacking = rest.group_by("order_id").agg(
        lacking_pence=(pl.col("quantity") * pl.col("price_pence")).sum()
    )
    both = orders.join(lacking, on="order_id", how="left").with_columns(
        pl.col("lacking_pence").fill_null(0)
    )
    first = both.with_columns(total_pence=pl.col("total_pence") - pl.col("lacking_pence"))
    second = _renamed(both.join(begun, on="order_id", how="semi")).with_columns(
        total_pence=pl.col("lacking_pence"), is_back_order=pl.lit(value=True)
    )
    second = with_declines(second, terms.decline_rate, terms.seed)
    return pl.concat([first, second.select(first.columns)]).drop("lacking_pence")


def _renamed(rows: Frame) -> Frame:
    """Put the ids of back-orders in the place of those of their orders."""
    pl = load_polars()
    named = [back_order_id(each) for each in rows["order_id"]]
    return rows.with_columns(order_id=pl.Series(named, dtype=pl.String))


def _kept(lines: Frame, rest: Frame, stores: StoreSide) -> Frame:
    """Return the lines of orders without what was missing.

    Into how many an order's lines of one product and price fall then, only the shop knows.
    """
    pl = load_polars()
    short = rest.group_by(_LINE).agg(short=pl.col("quantity").sum())
    known = stores.order_lines.group_by(
        "order_id", "product_id", price_pence=pl.col("unit_price_pence")
    ).agg(known=pl.len().cast(pl.Int64))
    is_short = pl.col("short") > 0
    return (
        lines.join(short, on=_LINE, how="left")
        .join(known, on=_LINE, how="left")
        .with_columns(pl.col("short").fill_null(0))
        .with_columns(
            quantity=pl.col("quantity") - pl.col("short"),
            lines=pl.when(is_short).then(pl.col("known")).otherwise(pl.col("lines")),
        )
        .filter(pl.col("quantity") != 0)
        .select(lines.columns)
    )


def _moved(rest: Frame) -> Frame:
    """Return the lines of the back-orders."""
    pl = load_polars()
    return _renamed(
        rest.group_by(_LINE).agg(pl.col("quantity").sum(), lines=pl.len().cast(pl.Int64))
    )


def _replayed(replay: Frame, rest: Frame) -> Frame:
    """Return the lines that can match one another, those of a back-order behind its order's.

    Of several lines alike the last are short first.
    """
    pl = load_polars()
    short: Counter[tuple[str, str, int]] = Counter()
    for order_id, product, price, quantity in rest.iter_rows():
        short[order_id, product, price] += quantity
    rows: list[tuple[Any, ...]] = []
    for row in reversed(replay.rows()):
        is_order, order_id, customer, product, price, quantity = row
        lacking = min(quantity, short[order_id, product, price]) if is_order else 0
        if not lacking:
            rows.append(row)
            continue
        short[order_id, product, price] -= lacking
        rows.append((True, back_order_id(order_id), customer, product, price, lacking))
        if quantity > lacking:
            rows.append((True, order_id, customer, product, price, quantity - lacking))
    return pl.DataFrame(rows[::-1], schema=replay.schema, orient="row")
