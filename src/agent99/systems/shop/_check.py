"""The check at the end: what the agents did, against what the file says (rule 11).

It reads the databases by plain SQL, the file by polars and the log as JSON, and shares no code with
the agents.
Every kind of difference has a name, and what differs is shown by example.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from agent99.systems.shop._check_aftermath import (
    compare_aftercare,
    compare_events,
    compare_messages,
)
from agent99.systems.shop._check_apart import compare_apart, taken_apart
from agent99.systems.shop._check_findings import Finding, differ, found
from agent99.systems.shop._check_money import (
    compare_ledger,
    compare_payments,
    compare_refunds,
)
from agent99.systems.shop._check_refunds import compare_returns
from agent99.systems.shop._check_sources import (
    Databases,
    Event,
    FileSide,
    Frame,
    StoreSide,
    frame_of,
    load_polars,
    read_file,
    read_stores,
)
from agent99.systems.shop._check_stock import compare_lines, compare_reservations

_INVENTORY, _PAYMENT = "INVENTORY_ERROR", "PAYMENT_ERROR"
_STEPS: Final = (
    "receive received",
    "received reserve reserved",
    "received refuse rejected",
    "received await_stock back_ordered",
    "back_ordered reserve reserved",
    "back_ordered refuse rejected",
    "back_ordered cancel cancelled",
    "reserved authorise authorised",
    "reserved lose_sight_of_payment pending_payment",
    "reserved decline rejected",
    "pending_payment authorise authorised",
    "pending_payment decline rejected",
    "authorised pay paid",
    "authorised decline rejected",
    "paid confirm confirmed",
    "received cancel cancelled",
    "reserved cancel cancelled",
    "pending_payment cancel cancelled",
    "authorised cancel cancelled",
    "confirmed cancel cancelled",
    "cancelled notify cancelled",
    "confirmed ship confirmed",
    "confirmed notify confirmed",
    "confirmed refund confirmed",
)
"""Where an order stands, what happens, and where it stands then."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The options that a run had."""

    decline_rate: float = 0.05
    seed: int = 0
    scarcity: float = 1.0


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
    cancelled: int
    """Orders cancelled, by the database."""
    back_orders: int
    """Orders of what others lacked, by the database."""
    revenue_pence: int
    """Of the confirmed orders, at the file's prices."""
    captured_pence: int
    """Money taken, by the database."""
    refunded_pence: int
    """Money given back, by the database."""
    shipped: int
    """Orders shipped, by the database."""
    notified: int
    """Orders of whose confirmation the customer was told, by the database."""
    messages: int
    """Messages that customers were sent, of whatever kind."""
    events: int
    """Different events in the log."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def check_shop(
    path: str | Path, databases: Databases, events: Sequence[Event], *, terms: Terms
) -> CheckReport:
    """Compare the databases and the log of a finished run with the file that it replayed.

    Blocks for a few seconds on a whole year; an asynchronous caller runs it in a thread.

    Args:
        path: The file.
        databases: Where the agents kept what they did.
        events: What the log holds, the oldest first.
        terms: What the run was started with.

    Raises:
        StoreUnavailableError: a database cannot be read.
        UsageError: a URL that is none; polars or SQLAlchemy is not installed.
        what polars raises for a file that it cannot read.
    """
    file = read_file(
        Path(path), decline_rate=terms.decline_rate, seed=terms.seed, scarcity=terms.scarcity
    )
    return compare(file, read_stores(databases), frame_of(events), terms)


def compare(file: FileSide, stores: StoreSide, events: Frame, terms: Terms) -> CheckReport:
    """Return everything in which databases, log and file differ."""
    file = taken_apart(file, stores, terms)
    confirmed = stores.orders.filter(state="confirmed")
    rejected = stores.orders.filter(state="rejected")["reason"].fill_null("").value_counts()
    sold = file.orders.join(confirmed, on="order_id", how="semi")
    return CheckReport(
        findings=(
            *_orders(file, stores),
            *_outcomes(file, stores, terms),
            *_stock(file, stores),
            *_reservations(file, stores),
            *compare_lines(stores),
            *compare_reservations(stores),
            *compare_apart(stores),
            *compare_payments(file, stores),
            *compare_refunds(stores),
            *compare_returns(file, stores),
            *compare_ledger(stores),
            *compare_aftercare(file, stores),
            *compare_messages(stores),
            *compare_events(stores, events),
        ),
        counts=file.counts,
        skipped=file.skipped,
        confirmed=confirmed.height,
        rejected=dict(sorted(rejected.iter_rows())),
        cancelled=stores.orders.filter(state="cancelled").height,
        back_orders=file.orders.filter("is_back_order")
        .join(stores.orders, on="order_id", how="semi")
        .height,
        revenue_pence=sold["total_pence"].sum(),
        captured_pence=stores.payments["captured_pence"].sum(),
        refunded_pence=stores.refunds["amount_pence"].sum(),
        shipped=stores.shipments.filter(state="shipped").height,
        notified=stores.notifications.filter(state="sent", type="order_confirmation").height,
        messages=stores.notifications.filter(state="sent").height,
        events=events["id"].n_unique(),
    )


def _orders(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    pl = load_polars()
    missing = file.orders.join(stores.orders, on="order_id", how="anti")
    yield from found("order_missing", "every order of the file was taken", missing)
    invented = stores.orders.join(file.orders, on="order_id", how="anti")
    yield from found("order_invented", "every order taken is in the file", invented)
    both = stores.orders.join(file.orders, on="order_id", suffix="_file")
    yield from found(
        "order_total_wrong",
        "an order's total is the file's",
        both.filter(pl.col("total_pence") != pl.col("total_pence_file")),
    )
    yield from found(
        "order_customer_wrong",
        "an order belongs to the file's customer",
        both.filter(pl.col("customer_id") != pl.col("customer_id_file")),
    )
    kept = stores.order_lines.group_by(
        "order_id", "product_id", price_pence=pl.col("unit_price_pence")
    ).agg(pl.col("quantity").sum(), lines=pl.len().cast(pl.Int64))
    keys = ["order_id", "product_id", "price_pence"]
    wrong = differ(file.lines, kept, keys, ["quantity", "lines"]).unique("order_id")
    yield from found("order_lines_wrong", "an order's lines are the file's", wrong)
    yield from found(
        "order_history_broken",
        "an order's history has every step, and ends in its state",
        _broken_histories(stores),
    )
    yield from found(
        "order_step_illegal",
        "an order takes no step but those that it may take where it stands",
        _illegal_steps(stores),
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


def _illegal_steps(stores: StoreSide) -> Frame:
    pl = load_polars()
    before = pl.col("state").shift(1).over("order_id").fill_null("")
    steps = stores.order_history.sort("order_id", "step").with_columns(
        taken=pl.concat_str(before, "event", "state", separator=" ").str.strip_chars()
    )
    return steps.filter(~pl.col("taken").is_in(_STEPS)).unique("order_id")


def _outcomes(file: FileSide, stores: StoreSide, terms: Terms) -> Iterator[Finding]:
    pl = load_polars()
    state, reason = pl.col("state"), pl.col("reason")
    ends = ["confirmed", "rejected", "cancelled"]
    yield from found(
        "order_unfinished",
        "every order is confirmed, rejected or cancelled",
        stores.orders.filter(~state.is_in(ends)),
    )
    both = stores.orders.join(file.orders, on="order_id")
    rejected = both.filter(state == "rejected")
    yield from found(
        "rejection_unexplained",
        "an order is rejected for its stock or its payment",
        rejected.filter(~reason.is_in([_INVENTORY, _PAYMENT]) | reason.is_null()),
    )
    if terms.scarcity >= 1.0:
        short = rejected.filter(reason == _INVENTORY)
        yield from found("shortage_without_scarcity", "nothing runs out at this scarcity", short)
    yield from found(
        "decline_missed",
        "an order that the rule declines is not confirmed",
        both.filter(pl.col("declined") & (state == "confirmed")),
    )
    yield from found(
        "decline_invented",
        "an order is declined only by the rule",
        rejected.filter(~pl.col("declined") & (reason == _PAYMENT)),
    )


def _stock(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    pl = load_polars()
    stock, key = stores.stock, "product_id"
    parts = pl.col("on_hand") + pl.col("reserved") + pl.col("shipped")
    opening = differ(file.stock, stock.select(key, "opening"), [key], ["opening"])
    yield from found(
        "stock_opening_wrong", "stock opened with the file's units, by scarcity", opening, key
    )
    yield from found(
        "stock_not_conserved",
        "on hand + reserved + shipped is what there ever was",
        stock.filter(parts != pl.col("opening") + pl.col("restocked")),
        key,
    )
    columns = ["on_hand", "reserved", "shipped", "restocked"]
    negative = stock.filter(pl.any_horizontal(pl.col(each) < 0 for each in columns))
    yield from found("stock_negative", "no part of the stock is negative", negative, key)
    yield from found(
        "stock_left_reserved",
        "nothing is held when every order is finished",
        stock.filter(pl.col("reserved") != 0),
        key,
    )
    confirmed = stores.orders.filter(state="confirmed")
    undone = (
        stores.reservation_lines.join(confirmed, on="order_id", how="anti")
        .group_by(key)
        .agg(undone=pl.col("returned").sum())
    )
    sold = (
        file.lines.join(confirmed, on="order_id", how="semi")
        .group_by(key)
        .agg(shipped=pl.col("quantity").sum())
    )
    gone = (
        stock.join(undone, on=key, how="left")
        .select(key, shipped=pl.col("shipped") - pl.col("undone").fill_null(0))
        .filter(pl.col("shipped") != 0)
    )
    yield from found(
        "stock_shipped_wrong",
        "the units that left are those of the confirmed orders",
        differ(sold, gone, [key], ["shipped"]),
        key,
    )


def _reservations(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    pl = load_polars()
    came_back = stores.reservation_lines.group_by("order_id").agg(
        came_back=(pl.col("returned") == pl.col("quantity")).all()
    )
    both = stores.orders.join(
        stores.reservations, on="order_id", how="full", coalesce=True, suffix="_held"
    ).join(came_back, on="order_id", how="left")
    held = pl.col("state_held")
    let_go = held.is_null() | held.is_in(["released", "expired"])
    is_back = (held == "committed") & pl.col("came_back")
    over = pl.col("state").is_in(["rejected", "cancelled"])
    fits = ((pl.col("state") == "confirmed") & (held == "committed")) | (over & (let_go | is_back))
    yield from found(
        "reservation_wrong",
        "a confirmed order's stock is committed, any other's let go, back or never held",
        both.filter(~fits.fill_null(value=False)),
    )
    confirmed = stores.orders.filter(state="confirmed")
    sold, held = (
        lines.join(confirmed, on="order_id", how="semi")
        .group_by("order_id", "product_id")
        .agg(pl.col("quantity").sum(), pl.col("shipped").sum())
        for lines in (
            file.lines.with_columns(shipped=pl.col("quantity")),
            stores.reservation_lines,
        )
    )
    columns = ["quantity", "shipped"]
    wrong = differ(sold, held, ["order_id", "product_id"], columns).unique("order_id")
    yield from found(
        "reservation_lines_wrong", "a confirmed order held and ships the file's units", wrong
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
