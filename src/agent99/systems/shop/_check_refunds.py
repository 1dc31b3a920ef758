"""The check of what was given back: rule 10 worked out anew from the file, against the stores.

A line of a cancellation takes back the latest earlier line of the same customer, product and price
of which enough is left; of orders that were not confirmed nothing can come back.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import msgspec

from agent99.systems.shop._check_findings import Finding, differ, found
from agent99.systems.shop._check_sources import FileSide, Frame, StoreSide, load_polars


class _Sold(msgspec.Struct):
    order_id: str
    left: int


def compare_returns(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    """Compare what came back, and what was paid for it, with what the file says."""
    pl = load_polars()
    confirmed = stores.orders.filter(state="confirmed")
    expected = expected_returns(file.replay, set(confirmed["order_id"]))
    keys = ["order_id", "product_id"]
    for name, message, kept in (
        (
            "return_wrong",
            "the file's cancellations came back to the shelf, and nothing else",
            stores.reservation_lines.filter(pl.col("returned") != 0).select(
                *keys, units=pl.col("returned")
            ),
        ),
        (
            "return_not_noted",
            "an order's lines say what was given back of them",
            stores.order_lines.group_by(keys)
            .agg(units=pl.col("refunded").sum())
            .filter(pl.col("units") != 0),
        ),
    ):
        back = kept.join(confirmed, on="order_id", how="semi")
        units = expected.group_by(keys).agg(pl.col("units").sum())
        yield from found(name, message, differ(units, back, keys, ["units"]).unique("order_id"))
    paid = stores.payments.filter(pl.col("refunded_pence") != 0).select(
        "order_id", pence=pl.col("refunded_pence")
    )
    owed = expected.group_by("order_id").agg(pl.col("pence").sum())
    yield from found(
        "refund_wrong",
        "what was given back for an order is what the file's cancellations take back of it",
        differ(owed, paid.join(confirmed, on="order_id", how="semi"), ["order_id"], ["pence"]),
    )


def expected_returns(replay: Frame, confirmed: set[str]) -> Frame:
    """Return order, product, units and pence of everything that can be given back."""
    pl = load_polars()
    sold: defaultdict[tuple[str, str, int], list[_Sold]] = defaultdict(list)
    units: Counter[tuple[str, str]] = Counter()
    pence: Counter[tuple[str, str]] = Counter()
    for is_order, order_id, customer, product, price, quantity in replay.iter_rows():
        lines = sold[customer, product, price]
        if is_order:
            if order_id in confirmed:
                lines.append(_Sold(order_id, quantity))
            continue
        fit = next((line for line in reversed(lines) if line.left >= quantity), None)
        if fit is not None:
            fit.left -= quantity
            units[fit.order_id, product] += quantity
            pence[fit.order_id, product] += quantity * price
    rows = [(*key, count, pence[key]) for key, count in units.items()]
    schema = {"order_id": pl.String, "product_id": pl.String, "units": pl.Int64, "pence": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")
