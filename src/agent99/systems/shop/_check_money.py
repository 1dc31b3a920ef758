"""The check of the money: payments and refunds against the orders, and the ledger against both."""

from __future__ import annotations

from collections.abc import Iterator

from agent99.systems.shop._check_findings import Finding, differ, found
from agent99.systems.shop._check_sources import FileSide, Frame, StoreSide, load_polars

_PAYMENT = "PAYMENT_ERROR"


def compare_payments(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    """Compare the payments with the orders that they are for."""
    pl = load_polars()
    captured = stores.payments.filter(state="captured")
    confirmed = stores.orders.filter(state="confirmed")
    missing = confirmed.join(captured, on="order_id", how="anti")
    yield from found("payment_missing", "every confirmed order is paid", missing)
    kept = captured.filter(pl.col("captured_pence") > pl.col("refunded_pence"))
    extra = kept.join(confirmed, on="order_id", how="anti")
    yield from found(
        "payment_without_order", "only confirmed orders keep what was paid", extra, "payment_id"
    )
    twice = captured.filter(pl.col("order_id").is_duplicated()).unique("order_id")
    yield from found("payment_repeated", "an order is paid once", twice)
    wrong = captured.join(file.orders, on="order_id").filter(
        (pl.col("amount_pence") != pl.col("total_pence"))
        | (pl.col("captured_pence") != pl.col("total_pence"))
        | pl.col("customer_id").ne_missing(pl.col("customer_id_right"))
    )
    yield from found("payment_wrong", "the customer paid the file's total", wrong)
    yield from found(
        "payment_out_of_bounds",
        "refunded <= captured <= authorised, and only what is captured was taken",
        _out_of_bounds(stores.payments),
        "payment_id",
    )
    refused = stores.orders.filter(state="rejected", reason=_PAYMENT)
    noted = stores.payments.filter(state="declined")
    yield from found(
        "decline_not_noted",
        "a declined order has a declined payment, and only such an order",
        pl.concat(
            [
                refused.join(noted, on="order_id", how="anti").select("order_id"),
                noted.join(refused, on="order_id", how="anti")
                # One that was cancelled may have been declined in the same moment.
                .join(stores.orders.filter(state="cancelled"), on="order_id", how="anti")
                .select("order_id"),
            ]
        ),
    )
    # A confirmed order whose money is only held is one that is not paid: `payment_missing`.
    under_way = stores.orders.filter(~pl.col("state").is_in(["rejected", "cancelled"]))
    yield from found(
        "authorisation_left_open",
        "nothing is held for an order that is rejected or cancelled, or that nobody placed",
        stores.payments.filter(state="authorised").join(under_way, on="order_id", how="anti"),
        "payment_id",
    )


def _out_of_bounds(payments: Frame) -> Frame:
    pl = load_polars()
    authorised, captured, refunded = (
        pl.col(f"{each}_pence") for each in ("amount", "captured", "refunded")
    )
    return payments.filter(
        (refunded < 0)
        | (refunded > captured)
        | (captured > authorised)
        | ((pl.col("state") != "captured") & (captured != 0))
    )


def compare_refunds(stores: StoreSide) -> Iterator[Finding]:
    """Compare the refunds with the payments that they are of."""
    pl = load_polars()
    given_back = stores.payments.filter(pl.col("refunded_pence") != 0)
    key = "payment_id"
    sums = stores.refunds.group_by(key).agg(refunded_pence=pl.col("amount_pence").sum())
    yield from found(
        "refunds_differ",
        "what a payment says went back is the sum of its refunds",
        differ(given_back.select(key, "refunded_pence"), sums, [key], ["refunded_pence"]),
        key,
    )


def compare_ledger(stores: StoreSide) -> Iterator[Finding]:
    """Compare the ledger with what was taken and what went back."""
    pl = load_polars()
    key = "transaction_id"
    sums = stores.ledger.group_by(key, "payment_id").agg(
        pence=pl.col("pence").sum(),
        cash=pl.col("pence").filter(pl.col("account") == "cash").sum(),
    )
    unbalanced = sums.filter(pl.col("pence") != 0)
    yield from found("ledger_unbalanced", "the entries of a transaction sum to 0", unbalanced, key)
    keys = [key, "payment_id"]
    moved = pl.concat(
        [
            stores.payments.filter(state="captured").select(*keys, cash=pl.col("captured_pence")),
            stores.refunds.select(*keys, cash=-pl.col("amount_pence")),
        ]
    )
    yield from found(
        "ledger_differs",
        "every capture and every refund stands in the ledger, and nothing else",
        differ(moved, sums.select(*keys, "cash"), keys, ["cash"]),
        key,
    )
