"""What the shop's events come to: an order's history, and what was sold on each day.

Two projections that know the shop by its topics alone, and an agent that answers from them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from agent99.groups import Event
from agent99.projections import Projection, Tables

INVOICE: Final = "till.invoice"
"""The till's event: an order is about to be placed, and this is its invoice."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_STEP: Final = (
    "CREATE TABLE {step} (order_id TEXT NOT NULL, sequence BIGINT NOT NULL, topic TEXT NOT NULL,"
    " at_us BIGINT NOT NULL, said TEXT NOT NULL, PRIMARY KEY (order_id, sequence))"
)
_STEPS: Final = (
    "SELECT sequence, topic, at_us, said FROM {step} WHERE order_id = :order_id ORDER BY sequence"
)
_DAYS: Final = "SELECT day, orders, pence FROM {day} WHERE orders > 0 ORDER BY day"
_NOTE: Final = (
    "INSERT INTO {step} (order_id, sequence, topic, at_us, said)"
    " VALUES (:order_id, :sequence, :topic, :at_us, :said)"
)
_INVOICED: Final = (
    "INSERT INTO {sale} (order_id, day, pence) VALUES (:order_id, :day, 0) ON CONFLICT DO NOTHING"
)
_OF_SALE: Final = "SELECT day, pence FROM {sale} WHERE order_id = :order_id"
_SOLD: Final = "UPDATE {sale} SET pence = :pence WHERE order_id = :order_id"
_ADD: Final = (
    "INSERT INTO {day} (day, orders, pence) VALUES (:day, :orders, :pence)"
    " ON CONFLICT (day) DO UPDATE"
    " SET orders = {day}.orders + excluded.orders, pence = {day}.pence + excluded.pence"
)


class Invoice(msgspec.Struct, frozen=True):
    """What the till says of an order."""

    order_id: str
    invoice: str
    at: datetime
    """When it was written; without a zone, as in the file."""
    country: str = ""


class _Moved(msgspec.Struct, frozen=True):
    order_id: str
    total_pence: int
    at_us: int


class OrderSteps(Projection):
    """Everything that was ever told of each order, in its order."""

    name = "order_steps"
    topics = ("order.*", "shipment.*", "notification.*", INVOICE)
    tables = (_STEP,)

    def apply(self, tables: Tables, event: Event) -> None:
        """Keep an event under its order."""
        tables.execute(
            _NOTE,
            {
                "order_id": event.subject,
                "sequence": event.sequence,
                "topic": event.type,
                "at_us": event.time_us,
                "said": bytes(event.data).decode(),
            },
        )


class DailyRevenue(Projection):
    """What was sold on each day of the invoices: of the orders that are confirmed, gross."""

    name = "daily_revenue"
    topics = (INVOICE, "order.confirmed", "order.cancelled")
    tables = (
        "CREATE TABLE {sale} (order_id TEXT PRIMARY KEY, day TEXT NOT NULL, pence BIGINT NOT NULL)",
        "CREATE TABLE {day} (day TEXT PRIMARY KEY, orders BIGINT NOT NULL, pence BIGINT NOT NULL)",
    )

    def apply(self, tables: Tables, event: Event) -> None:
        """Note the day of an invoice; add what is confirmed, take off what is cancelled."""
        if event.type == INVOICE:
            invoice = event.decode(Invoice)
            day = invoice.at.date().isoformat()
            tables.execute(_INVOICED, {"order_id": invoice.order_id, "day": day})
            return
        moved = event.decode(_Moved)
        name = {"order_id": moved.order_id}
        sale = tables.execute(_OF_SALE, name).first()
        if sale is None:  # of what was not in stock at first: it has no invoice of its own
            day = (_EPOCH + timedelta(microseconds=moved.at_us)).date().isoformat()
            tables.execute(_INVOICED, {**name, "day": day})
            sold = 0
        else:
            day, sold = sale.day, sale.pence
        is_sold = event.type == "order.confirmed"
        pence = moved.total_pence if is_sold else 0
        if pence != sold:
            orders = is_sold - (sold > 0)
            tables.execute(_SOLD, {**name, "pence": pence})
            tables.execute(_ADD, {"day": day, "orders": orders, "pence": pence - sold})


class Step(msgspec.Struct, frozen=True):
    """Something that was told of an order."""

    sequence: int
    topic: str
    at_us: int
    """When, microseconds since the epoch, UTC."""
    said: msgspec.Raw


class Day(msgspec.Struct, frozen=True):
    """What was sold on a day."""

    day: str
    orders: int
    pence: int


def steps_of(tables: Tables, order_id: str) -> tuple[Step, ...]:
    """Return all that was told of an order, in its order."""
    rows = tables.execute(_STEPS, {"order_id": order_id})
    return tuple(
        Step(row.sequence, row.topic, row.at_us, msgspec.Raw(row.said.encode())) for row in rows
    )


def days_of(tables: Tables) -> tuple[Day, ...]:
    """Return what was sold on each day, in the order of the days."""
    rows = tables.execute(
        "SELECT day, orders, pence FROM {day} WHERE orders > 0 ORDER BY day"
    ).all()
    return tuple(Day(row.day, row.orders, row.pence) for row in rows)
