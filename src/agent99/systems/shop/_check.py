"""The check at the end: what the agents did, against what the file says (rule 11).

It reads the databases by plain SQL and the file by polars, and shares no code with the agents.
Every kind of difference has a name, and what differs is shown by example.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from agent99.systems.shop._check_sources import (
    FileSide,
    Frame,
    StoreSide,
    load_polars,
    read_file,
    read_stores,
)

EXAMPLES_MAX: Final = 5
_INVENTORY, _PAYMENT = "INVENTORY_ERROR", "PAYMENT_ERROR"


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The options that a run had."""

    decline_rate: float = 0.05
    seed: int = 0
    scarcity: float = 1.0


class Finding(msgspec.Struct, frozen=True):
    """One kind of difference."""

    name: str
    """Stable: `order_missing`, `stock_not_conserved` and so on."""
    message: str
    """What should hold and does not."""
    count: int
    """How often."""
    examples: tuple[str, ...]
    """The first few, sorted: ids, mostly."""


class CheckReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the check found, and the figures as it counts them."""

    findings: tuple[Finding, ...]
    """Empty where all is as it must be."""
    counts: dict[str, int]
    """Invoices of the file: `invoices orders cancellations adjustments unsellable`."""
    skipped: dict[str, int]
    """Lines of the file by reason."""
    confirmed: int
    """Orders confirmed, by the database."""
    rejected: dict[str, int]
    """Orders rejected, by reason, by the database."""
    revenue_pence: int
    """Of the confirmed orders, at the file's prices."""
    captured_pence: int
    """Money taken, by the database."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def check_shop(
    path: str | Path, *, orders_url: str, stock_url: str, payments_url: str, terms: Terms
) -> CheckReport:
    """Compare the databases of a finished run with the file that it replayed.

    Blocks for a few seconds on a whole year; an asynchronous caller runs it in a thread.

    Args:
        path: The file.
        orders_url: The database of the orders; the three may be one.
        stock_url: The database of the stock.
        payments_url: The database of the payments.
        terms: What the run was started with.

    Raises:
        StoreUnavailableError: a database cannot be read.
        UsageError: a URL that is none; polars or SQLAlchemy is not installed.
        what polars raises for a file that it cannot read.
    """
    file = read_file(
        Path(path), decline_rate=terms.decline_rate, seed=terms.seed, scarcity=terms.scarcity
    )
    stores = read_stores(orders_url=orders_url, stock_url=stock_url, payments_url=payments_url)
    return compare(file, stores, terms)


def compare(file: FileSide, stores: StoreSide, terms: Terms) -> CheckReport:
    """Return everything in which the databases differ from the file."""
    pl = load_polars()
    confirmed = stores.orders.filter(state="confirmed")
    rejected = stores.orders.filter(state="rejected")["reason"].fill_null("").value_counts()
    sold = file.orders.join(confirmed, on="order_id", how="semi")
    return CheckReport(
        findings=(
            *_orders(file, stores),
            *_outcomes(file, stores, terms),
            *_stock(file, stores),
            *_reservations(file, stores),
            *_payments(file, stores),
            *_ledger(stores),
        ),
        counts=file.counts,
        skipped=file.skipped,
        confirmed=confirmed.height,
        rejected=dict(sorted(rejected.iter_rows())),
        revenue_pence=sold["total_pence"].sum(),
        captured_pence=stores.payments.filter(pl.col("state") == "captured")["amount_pence"].sum(),
    )


def _found(name: str, message: str, wrong: Frame, key: str = "order_id") -> Iterator[Finding]:
    if wrong.height:
        examples = tuple(str(each) for each in wrong[key].sort().head(EXAMPLES_MAX))
        yield Finding(name, message, wrong.height, examples)


def _differ(left: Frame, right: Frame, on: list[str], columns: list[str]) -> Frame:
    """Return the rows, of either side, for which the other has none or has other values."""
    pl = load_polars()
    both = left.join(right, on=on, how="full", coalesce=True, suffix="_right")
    different = [pl.col(each).ne_missing(pl.col(f"{each}_right")) for each in columns]
    return both.filter(pl.any_horizontal(different))


def _orders(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    pl = load_polars()
    missing = file.orders.join(stores.orders, on="order_id", how="anti")
    yield from _found("order_missing", "every order of the file was taken", missing)
    invented = stores.orders.join(file.orders, on="order_id", how="anti")
    yield from _found("order_invented", "every order taken is in the file", invented)
    both = stores.orders.join(file.orders, on="order_id", suffix="_file")
    yield from _found(
        "order_total_wrong",
        "an order's total is the file's",
        both.filter(pl.col("total_pence") != pl.col("total_pence_file")),
    )
    yield from _found(
        "order_customer_wrong",
        "an order belongs to the file's customer",
        both.filter(pl.col("customer_id") != pl.col("customer_id_file")),
    )
    kept = stores.order_lines.group_by(
        "order_id", "product_id", price_pence=pl.col("unit_price_pence")
    ).agg(pl.col("quantity").sum(), lines=pl.len().cast(pl.Int64))
    keys = ["order_id", "product_id", "price_pence"]
    wrong = _differ(file.lines, kept, keys, ["quantity", "lines"]).unique("order_id")
    yield from _found("order_lines_wrong", "an order's lines are the file's", wrong)
    yield from _found(
        "order_history_broken",
        "an order's history has every step, and ends in its state",
        _broken_histories(stores),
    )


def _broken_histories(stores: StoreSide) -> Frame:
    pl = load_polars()
    told = stores.order_history.group_by("order_id").agg(
        first=pl.col("step").min(),
        steps=pl.col("step").max(),
        entries=pl.len().cast(pl.Int64),
        state=pl.col("state").sort_by("step").last(),
    )
    both = stores.orders.join(told, on="order_id", how="left", suffix="_told")
    return both.filter(
        pl.col("first").ne_missing(0)
        | pl.col("steps").ne_missing(pl.col("steps_told"))
        | pl.col("entries").ne_missing(pl.col("steps") + 1)
        | pl.col("state").ne_missing(pl.col("state_told"))
    )


def _outcomes(file: FileSide, stores: StoreSide, terms: Terms) -> Iterator[Finding]:
    pl = load_polars()
    state, reason = pl.col("state"), pl.col("reason")
    unfinished = stores.orders.filter(~state.is_in(["confirmed", "rejected"]))
    yield from _found("order_unfinished", "every order is confirmed or rejected", unfinished)
    both = stores.orders.join(file.orders, on="order_id")
    rejected = both.filter(state == "rejected")
    yield from _found(
        "rejection_unexplained",
        "an order is rejected for its stock or its payment",
        rejected.filter(~reason.is_in([_INVENTORY, _PAYMENT]) | reason.is_null()),
    )
    if terms.scarcity >= 1.0:
        short = rejected.filter(reason == _INVENTORY)
        yield from _found("shortage_without_scarcity", "nothing runs out at this scarcity", short)
    yield from _found(
        "decline_missed",
        "an order that the rule declines is not confirmed",
        both.filter(pl.col("declined") & (state == "confirmed")),
    )
    yield from _found(
        "decline_invented",
        "an order is declined only by the rule",
        rejected.filter(~pl.col("declined") & (reason == _PAYMENT)),
    )


def _stock(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    pl = load_polars()
    stock, key = stores.stock, "product_id"
    parts = pl.col("on_hand") + pl.col("reserved") + pl.col("shipped")
    opening = _differ(file.stock, stock.select(key, "opening"), [key], ["opening"])
    yield from _found(
        "stock_opening_wrong", "stock opened with the file's units, by scarcity", opening, key
    )
    yield from _found(
        "stock_not_conserved",
        "on hand + reserved + shipped is what there ever was",
        stock.filter(parts != pl.col("opening") + pl.col("restocked")),
        key,
    )
    columns = ["on_hand", "reserved", "shipped", "restocked"]
    negative = stock.filter(pl.any_horizontal(pl.col(each) < 0 for each in columns))
    yield from _found("stock_negative", "no part of the stock is negative", negative, key)
    yield from _found(
        "stock_left_reserved",
        "nothing is held when every order is finished",
        stock.filter(pl.col("reserved") != 0),
        key,
    )
    confirmed = stores.orders.filter(state="confirmed")
    sold = (
        file.lines.join(confirmed, on="order_id", how="semi")
        .group_by(key)
        .agg(shipped=pl.col("quantity").sum())
    )
    gone = stock.filter(pl.col("shipped") != 0).select(key, "shipped")
    yield from _found(
        "stock_shipped_wrong",
        "the units that left are those of the confirmed orders",
        _differ(sold, gone, [key], ["shipped"]),
        key,
    )


def _reservations(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    pl = load_polars()
    both = stores.orders.join(
        stores.reservations, on="order_id", how="full", coalesce=True, suffix="_held"
    )
    fits = (
        ((pl.col("state") == "confirmed") & (pl.col("state_held") == "committed"))
        | ((pl.col("state") == "rejected") & (pl.col("state_held").fill_null("") == "released"))
        | ((pl.col("state") == "rejected") & pl.col("state_held").is_null())
    )
    yield from _found(
        "reservation_wrong",
        "a confirmed order's stock is committed, a rejected one's released or never held",
        both.filter(~fits.fill_null(value=False)),
    )
    confirmed = stores.orders.filter(state="confirmed")
    sold, held = (
        lines.join(confirmed, on="order_id", how="semi")
        .group_by("order_id", "product_id")
        .agg(pl.col("quantity").sum())
        for lines in (file.lines, stores.reservation_lines)
    )
    wrong = _differ(sold, held, ["order_id", "product_id"], ["quantity"]).unique("order_id")
    yield from _found("reservation_lines_wrong", "a confirmed order holds the file's units", wrong)


def _payments(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    pl = load_polars()
    captured = stores.payments.filter(state="captured")
    confirmed = stores.orders.filter(state="confirmed")
    missing = confirmed.join(captured, on="order_id", how="anti")
    yield from _found("payment_missing", "every confirmed order is paid", missing)
    extra = captured.join(confirmed, on="order_id", how="anti")
    yield from _found(
        "payment_without_order", "only confirmed orders are paid", extra, "payment_id"
    )
    twice = captured.filter(pl.col("order_id").is_duplicated()).unique("order_id")
    yield from _found("payment_repeated", "an order is paid once", twice)
    wrong = captured.join(file.orders, on="order_id").filter(
        (pl.col("amount_pence") != pl.col("total_pence"))
        | (pl.col("customer_id") != pl.col("customer_id_right"))
    )
    yield from _found("payment_wrong", "the customer paid the file's total", wrong)
    refused = stores.orders.filter(state="rejected", reason=_PAYMENT)
    noted = stores.payments.filter(state="declined")
    yield from _found(
        "decline_not_noted",
        "a declined order has a declined payment, and only such an order",
        pl.concat(
            [
                refused.join(noted, on="order_id", how="anti").select("order_id"),
                noted.join(refused, on="order_id", how="anti").select("order_id"),
            ]
        ),
    )
    given_back = stores.payments.filter(pl.col("refunded_pence") != 0)
    yield from _found("refund_unexpected", "nothing is refunded", given_back, "payment_id")


def _ledger(stores: StoreSide) -> Iterator[Finding]:
    pl = load_polars()
    key = "transaction_id"
    sums = stores.ledger.group_by(key).agg(
        pence=pl.col("pence").sum(),
        cash=pl.col("pence").filter(pl.col("account") == "cash").sum(),
    )
    unbalanced = sums.filter(pl.col("pence") != 0)
    yield from _found("ledger_unbalanced", "the entries of a transaction sum to 0", unbalanced, key)
    captured = stores.payments.filter(state="captured")
    paid = captured.select(key, cash=pl.col("amount_pence"))
    yield from _found(
        "ledger_differs",
        "every captured payment stands in the ledger, and nothing else",
        _differ(paid, sums.select(key, "cash"), [key], ["cash"]),
        key,
    )


def describe(report: CheckReport) -> list[str]:
    """Return a line for each finding, for people; none where all is well."""
    return [
        f"{each.name}: {each.message}; {each.count:,} times not, as in {', '.join(each.examples)}"
        for each in report.findings
    ]


def as_json(report: CheckReport) -> dict[str, Any]:
    """Return a report as JSON can carry it, `ok` included."""
    return {"ok": report.ok, **msgspec.to_builtins(report)}
