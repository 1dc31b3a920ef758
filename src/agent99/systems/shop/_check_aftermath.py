"""The check of what follows: shipments, messages, and the log of what happened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent99.systems.shop._check_findings import Finding, differ, found
from agent99.systems.shop._check_sources import FileSide, Frame, StoreSide, load_polars

_FOLLOWED: Final = ("ship", "notify")
"""Entries of a history that are no steps of the order: told by who does them."""


def compare_aftercare(file: FileSide, stores: StoreSide) -> Iterator[Finding]:
    """Compare shipments, messages and what the histories say of them with the confirmed orders."""
    confirmed = stores.orders.filter(state="confirmed")
    told = confirmed.select("order_id", "customer_id")
    shipped = stores.shipments.filter(state="shipped")
    sent = stores.notifications.filter(state="sent")
    kinds = (
        ("shipment", "ship", shipped, confirmed.select("order_id")),
        ("message", "notify", sent, told),
    )
    for what, event, made, wanted in kinds:
        columns = wanted.columns
        noted = stores.order_history.filter(event=event)
        yield from found(
            f"{what}_missing",
            f"a confirmed order has its {what}",
            wanted.join(made, on=columns, how="anti"),
        )
        yield from found(
            f"{what}_unexpected",
            f"only a confirmed order has a {what}, and only one",
            made.filter(made["order_id"].is_duplicated()).vstack(
                made.join(wanted, on=columns, how="anti")
            ),
        )
        yield from found(
            f"{what}_not_noted",
            f"an order's history has its {what}, once",
            differ(_counted(made), _counted(noted), ["order_id"], ["count"]),
        )

    yield from found(
        "shipment_lines_wrong",
        "what is shipped of a confirmed order are its lines",
        _wrong_lines(file, stores, shipped.join(confirmed, on="order_id", how="semi")),
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


def _wrong_lines(file: FileSide, stores: StoreSide, shipped: Frame) -> Frame:
    pl = load_polars()
    keys = ["order_id", "product_id"]
    sold = file.lines.join(shipped, on="order_id", how="semi")
    gone = stores.shipment_items.join(shipped, on="shipment_id")
    wanted, left = (rows.group_by(keys).agg(pl.col("quantity").sum()) for rows in (sold, gone))
    return differ(wanted, left, keys, ["quantity"]).unique("order_id")


def _counted(rows: Frame) -> Frame:
    pl = load_polars()
    return rows.group_by("order_id").agg(count=pl.len().cast(pl.Int64))


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
