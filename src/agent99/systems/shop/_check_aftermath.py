"""The check of what follows: shipments, messages, and the log of what happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent99.systems.shop._check_findings import Finding, differ, found
from agent99.systems.shop._check_sources import FileSide, Frame, StoreSide, load_polars

_FOLLOWED: Final = ("ship", "notify")
"""Entries of a history that are no steps of the order: told by who does them."""


def compare_aftercare(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    """Compare shipments, and what the histories say of them, with the confirmed orders."""
    pl = load_polars()
    confirmed = stores.orders.filter(state="confirmed")
    wanted = confirmed.select("order_id")
    shipped = stores.shipments.filter(state="shipped")
    yield from found(
        "shipment_missing",
        "a confirmed order has its shipment",
        wanted.join(shipped, on="order_id", how="anti"),
    )
    yield from found(
        "shipment_unexpected",
        "only a confirmed order has a shipment, and only one",
        shipped.filter(pl.col("order_id").is_duplicated()).vstack(
            shipped.join(wanted, on="order_id", how="anti")
        ),
    )
    yield from found(
        "shipment_not_noted",
        "an order's history has its shipment, once",
        _differ_in_count(shipped, stores.order_history.filter(event="ship")),
    )
    yield from found(
        "shipment_lines_wrong",
        "what is shipped of a confirmed order are its lines",
        _wrong_lines(file, stores, shipped.join(confirmed, on="order_id", how="semi")),
    )


def compare_messages(stores: StoreSide) -> Iterator[Finding]:
    """Compare what customers were told with what became of their orders."""
    pl = load_polars()
    keys = ["order_id", "type", "number"]
    sent = stores.notifications.filter(state="sent")
    owed = _owed(stores).join(stores.orders.select("order_id", "customer_id"), on="order_id")
    yield from found(
        "message_missing",
        "a customer is told of every state that an order is in, shipment and refund",
        owed.join(sent, on=[*keys, "customer_id"], how="anti"),
    )
    yield from found(
        "message_unexpected",
        "a customer is told of nothing else, and of each once",
        sent.filter(pl.struct(keys).is_duplicated()).vstack(
            sent.join(owed, on=[*keys, "customer_id"], how="anti")
        ),
    )
    yield from found(
        "message_not_noted",
        "an order knows what its customer was told, and its history has the confirmation, once",
        pl.concat(
            [
                _differ_in_count(
                    sent.filter(type="order_confirmation"),
                    stores.order_history.filter(event="notify"),
                ).select("order_id"),
                *_either(sent, stores.order_messages.filter(pl.col("told_us").is_not_null()), keys),
            ]
        ),
    )
    yield from found(
        "message_undelivered",
        "the provider has every message that a customer was told, once, and no other",
        differ(
            sent.select("customer_id", key="notification_id"),
            stores.provider_messages,
            ["key"],
            ["customer_id"],
        ),
        "key",
    )


def _owed(stores: StoreSide) -> Frame:
    """Return order, type and number of every message that there must be."""
    pl = load_polars()
    orders = stores.orders
    was_confirmed = stores.order_history.filter(event="confirm")
    cancelled = orders.filter(state="cancelled")
    once = (
        ("order_confirmation", orders.filter(state="confirmed")),
        ("order_confirmation", cancelled.join(was_confirmed, on="order_id", how="semi")),
        ("order_back_ordered", stores.order_history.filter(event="await_stock")),
        ("order_rejected", orders.filter(state="rejected")),
        ("order_cancelled", cancelled),
    )
    refunds = stores.order_history.filter(event="refund").with_columns(
        number=pl.col("step").rank("ordinal").over("order_id")
    )
    shipped = stores.shipments.filter(state="shipped").with_columns(number=pl.col("part"))
    told = (
        *((kind, rows.with_columns(number=pl.lit(1))) for kind, rows in once),
        ("order_refunded", refunds),
        ("order_shipped", shipped),
    )
    return pl.concat(
        rows.select("order_id", pl.col("number").cast(pl.Int64), type=pl.lit(kind))
        for kind, rows in told
    )


def _wrong_lines(file: FileSide, stores: StoreSide, shipped: Frame) -> Frame:
    pl = load_polars()
    keys = ["order_id", "product_id"]
    sold = file.lines.join(shipped, on="order_id", how="semi")
    gone = stores.shipment_items.join(shipped, on="shipment_id")
    wanted, left = (rows.group_by(keys).agg(pl.col("quantity").sum()) for rows in (sold, gone))
    return differ(wanted, left, keys, ["quantity"]).unique("order_id")


def _either(left: Frame, right: Frame, keys: list[str]) -> Iterator[Frame]:
    """Yield the orders of the rows that only one side has."""
    for one, other in ((left, right), (right, left)):
        yield one.join(other, on=keys, how="anti").select("order_id")


def _differ_in_count(left: Frame, right: Frame) -> Frame:
    """Return the orders that have more rows on one side than on the other."""
    pl = load_polars()
    one, other = (rows.group_by("order_id").agg(count=pl.len()) for rows in (left, right))
    return differ(one, other, ["order_id"], ["count"])


def compare_events(stores: StoreSide, events: Frame) -> Iterator[Finding]:
    """Compare the log with what it tells of; an event that is stored twice is one."""
    pl = load_polars()
    once = events.unique("id", keep="first", maintain_order=True)
    told = pl.when(pl.col("event") == "refund").then(pl.lit("refunded")).otherwise(pl.col("state"))
    steps = stores.order_history.filter(~pl.col("event").is_in(_FOLLOWED)).with_columns(
        topic=pl.concat_str(pl.lit("order."), told)
    )
    happened = pl.concat(
        [
            steps.select("order_id", "topic", "step"),
            *(
                rows.select("order_id", topic=pl.lit(topic), step=pl.lit(None, dtype=pl.Int64))
                for rows, topic in (
                    (stores.shipments.filter(state="shipped"), "shipment.shipped"),
                    (stores.shipments.filter(state="cancelled"), "shipment.cancelled"),
                    (
                        stores.shipments.filter(pl.col("leaves_us").is_not_null()),
                        "shipment.prepared",
                    ),
                    (stores.notifications.filter(state="sent"), "notification.sent"),
                )
            ),
        ]
    )
    keys = ["order_id", "topic", "step"]
    counts = happened.group_by(keys).agg(happened=pl.len())
    both = counts.join(
        once.group_by(keys).agg(told=pl.len()),
        on=keys,
        how="full",
        coalesce=True,
        nulls_equal=True,
    ).with_columns(pl.col("happened", "told").fill_null(0))
    yield from found(
        "event_missing",
        "every step, shipment and message is an event of the log",
        both.filter(pl.col("happened") > pl.col("told")),
    )
    yield from found(
        "event_invented",
        "every event of the log tells of one thing that happened",
        both.filter(pl.col("happened") < pl.col("told")),
    )
    ordered = once.filter(pl.col("step").is_not_null()).with_columns(
        before=pl.col("step").shift(1).over("order_id")
    )
    yield from found(
        "events_out_of_order",
        "the events of an order are in the order of its steps",
        ordered.filter(pl.col("before") > pl.col("step")),
    )
