"""What the check at the end looks at: the file by polars, databases by plain SQL, events as JSON.

It shares no code with the agents or with the reader of the data, on purpose: the rules are written
down a second time, so that a mistake in the first writing shows as a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias
from uuid import NAMESPACE_URL, uuid5

import msgspec

from agent99.errors import UsageError, how_to_install
from agent99.systems.shop._check_links import snapshot

Frame: TypeAlias = Any
"""A polars data frame; without its type, since polars is loaded late."""

_NAMESPACE = uuid5(NAMESPACE_URL, "https://doi.org/10.24432/C5CG6D")


class FileSide(msgspec.Struct, frozen=True):
    """What the file says must come out."""

    counts: dict[str, int]
    """`invoices`, `orders`, `cancellations`, `adjustments`, `unsellable`."""
    skipped: dict[str, int]
    """Lines by reason."""
    orders: Frame
    """order_id, customer_id, total_pence, declined, is_back_order: one row per order."""
    lines: Frame
    """order_id, product_id, price_pence, quantity, lines: lines alike are one row."""
    stock: Frame
    """product_id, opening."""
    replay: Frame
    """is_order, order_id, customer_id, product_id, price_pence, quantity: the lines that can match
    one another (rule 10), in the order in which a customer's invoices are replayed."""


class Databases(msgspec.Struct, frozen=True, kw_only=True):
    """Where the agents kept what they did; all may be one."""

    orders_url: str
    stock_url: str
    payments_url: str
    shipments_url: str
    messages_url: str

    def __repr__(self) -> str:
        return "Databases()"  # the URLs may hold a credential


class StoreSide(msgspec.Struct, frozen=True):
    """What the databases hold: the tables as they are."""

    orders: Frame
    order_lines: Frame
    order_history: Frame
    order_messages: Frame
    stock: Frame
    reservations: Frame
    reservation_lines: Frame
    deliveries: Frame
    payments: Frame
    refunds: Frame
    ledger: Frame
    shipments: Frame
    shipment_items: Frame
    notifications: Frame
    provider_messages: Frame


class Event(msgspec.Struct, frozen=True):
    """One event of the log, as far as the check needs it."""

    id: str
    topic: str
    order_id: str
    step: int | None
    """Of an order; None: it is about something else."""


class _Header(msgspec.Struct, frozen=True):
    event_uuid: str
    to_uuid: str


class _Message(msgspec.Struct, frozen=True):
    header: _Header
    order_id: str
    step: int | None = None


_Tables: TypeAlias = dict[str, tuple[str, str]]
"""By table: its columns of text, its columns of whole numbers."""
_ORDER_TABLES: Final[_Tables] = {
    "orders": ("order_id customer_id state reason back_ordered", "total_pence steps"),
    "order_lines": ("order_id product_id", "quantity unit_price_pence refunded"),
    "order_history": ("order_id event state", "step"),
    "order_messages": ("order_id type", "number told_us"),
}
_STOCK_TABLES: Final[_Tables] = {
    "stock": ("product_id", "opening on_hand reserved shipped restocked"),
    "reservations": ("order_id state wanted", "updated_us expires_us"),
    "reservation_lines": ("order_id product_id", "quantity shipped returned"),
    "deliveries": ("product_id", "units"),
}
_PAYMENT_TABLES: Final[_Tables] = {
    "payments": (
        "payment_id order_id customer_id state transaction_id",
        "amount_pence captured_pence refunded_pence",
    ),
    "refunds": ("refund_id payment_id transaction_id", "amount_pence"),
    "ledger": ("transaction_id payment_id account", "pence"),
}
_SHIPMENT_TABLES: Final[_Tables] = {
    "shipments": ("shipment_id order_id state", "part leaves_us"),
    "shipment_items": ("shipment_id product_id", "quantity"),
}
_MESSAGE_TABLES: Final[_Tables] = {
    "notifications": ("notification_id order_id customer_id type state", "number"),
    "provider_messages": ("key customer_id", ""),
}


def load_polars() -> Any:
    """Return polars.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import polars as pl  # noqa: PLC0415 - costs 0.1 s, which an agent should not pay
    except ImportError as error:
        message = f"the check needs polars: {how_to_install('shop')}"
        raise UsageError(message) from error
    return pl


def read_file(path: Path, *, decline_rate: float, seed: int, scarcity: float) -> FileSide:
    """Read what must come out of a file."""
    pl = load_polars()
    whole = pl.scan_parquet(path).with_columns(
        code=pl.col("StockCode").str.strip_chars().str.to_uppercase(),
        first=pl.col("Invoice").str.head(1).str.to_uppercase(),
    )
    bills = whole.filter(~pl.col("first").str.contains(r"^\p{L}$"))
    product = pl.col("code").str.head(5).str.contains("^[0-9]{5}$")
    sold = bills.filter(product, pl.col("Quantity") >= 1, pl.col("Price") >= 0.01)
    rows = (
        sold.select(
            "Invoice",
            "CustomerID",
            "code",
            quantity=pl.col("Quantity").cast(pl.Int64),
            price_pence=(pl.col("Price") * 100 + 0.5).floor().cast(pl.Int64),
        )
        .collect()
        .pipe(_with_ids)
    )
    return FileSide(
        counts=_counted(whole, bills, sold),
        skipped=_skipped(bills, product),
        orders=_orders(rows, decline_rate, seed),
        lines=rows.group_by("order_id", "product_id", "price_pence").agg(
            pl.col("quantity").sum(), lines=pl.len().cast(pl.Int64)
        ),
        stock=rows.group_by("product_id").agg(
            opening=(pl.col("quantity").sum() * scarcity).floor().cast(pl.Int64)
        ),
        replay=_replay(whole, product),
    )


def _replay(whole: Frame, product: Any) -> Frame:
    """Return what known customers bought and gave back, line by line, in the order of rule 10."""
    pl = load_polars()
    price = (pl.col("Price") * 100 + 0.5).floor().cast(pl.Int64)
    units = pl.when(pl.col("first") == "C").then(-pl.col("Quantity")).otherwise(pl.col("Quantity"))
    lines = whole.with_row_index("place").with_columns(
        at=pl.col("InvoiceDate").min().over("Invoice"),
        began=pl.col("place").min().over("Invoice"),
        is_order=~pl.col("first").str.contains(r"^\p{L}$"),
        quantity=units.cast(pl.Int64),
    )
    wanted = lines.filter(
        product,
        pl.col("is_order") | (pl.col("first") == "C"),
        pl.col("CustomerID").is_not_null(),
        pl.col("quantity") >= 1,
        pl.col("Price") >= 0.01,
    ).sort("at", "began", "place")
    rows = wanted.select(
        "is_order", "Invoice", "CustomerID", "code", "quantity", price_pence=price
    ).collect()
    ids = _with_ids(rows.with_row_index("row")).sort("row")
    return ids.select(
        "is_order", "order_id", "customer_id", "product_id", "price_pence", "quantity"
    )


def _counted(whole: Frame, bills: Frame, sold: Frame) -> dict[str, int]:
    pl = load_polars()
    count = pl.col("Invoice").n_unique()
    other = whole.filter(pl.col("first").str.contains(r"^\p{L}$"))
    orders = sold.select(count).collect().item()
    return {
        "invoices": whole.select(count).collect().item(),
        "orders": orders,
        "cancellations": other.filter(first="C").select(count).collect().item(),
        "adjustments": other.filter(pl.col("first") != "C").select(count).collect().item(),
        "unsellable": bills.select(count).collect().item() - orders,
    }


def _skipped(bills: Frame, product: Any) -> dict[str, int]:
    pl = load_polars()
    taken = product & (pl.col("Quantity") >= 1)
    sums = bills.select(
        not_a_product=(~product).sum(),
        returned_or_damaged=(product & (pl.col("Quantity") < 1)).sum(),
        free=(taken & (pl.col("Price") < 0.01)).sum(),
    )
    found: dict[str, int] = sums.collect().row(0, named=True)
    return found


def _with_ids(rows: Frame) -> Frame:
    """Put ids in the place of invoices, customers and codes."""
    pl = load_polars()
    for column, name in (("Invoice", "order_id"), ("code", "product_id")):
        rows = rows.join(_ids(rows[column].unique(), name), on=column)
    known = _ids(rows["CustomerID"].drop_nulls().unique(), "customer_id")
    return rows.join(known, on="CustomerID", how="left").with_columns(
        # A guest's id is made of the invoice, as the order's own is.
        customer_id=pl.coalesce("customer_id", "order_id")
    )


def back_order_id(order_id: str) -> str:
    """Return the id of the order of what another lacked."""
    return str(uuid5(_NAMESPACE, f"{order_id}:rest"))


def _ids(values: Any, name: str) -> Frame:
    pl = load_polars()
    made = pl.Series(name, [str(uuid5(_NAMESPACE, str(each))) for each in values], dtype=pl.String)
    return pl.DataFrame([values, made])


def _orders(rows: Frame, rate: float, seed: int) -> Frame:
    pl = load_polars()
    orders = rows.group_by("order_id").agg(
        pl.col("customer_id").first(),
        total_pence=(pl.col("quantity") * pl.col("price_pence")).sum(),
    )
    return with_declines(orders, rate, seed).with_columns(is_back_order=pl.lit(value=False))


def with_declines(orders: Frame, rate: float, seed: int) -> Frame:
    """Add to orders whether the rule declines them."""
    pl = load_polars()
    digests = [sha256(f"{seed}:{each}".encode()).hexdigest() for each in orders["order_id"]]
    declined = [int(digest[:16], 16) < rate * 2**64 for digest in digests]
    return orders.with_columns(declined=pl.Series(declined, dtype=pl.Boolean))


def read_event(message: bytes) -> Event:
    """Read one event, as it is stored.

    Raises:
        msgspec.ValidationError: it is none of the shop's.
    """
    said = msgspec.json.decode(message, type=_Message)
    return Event(said.header.event_uuid, said.header.to_uuid, said.order_id, said.step)


def frame_of(events: Sequence[Event]) -> Frame:
    """Return events as rows, in their order."""
    pl = load_polars()
    schema = {"id": pl.String, "topic": pl.String, "order_id": pl.String, "step": pl.Int64}
    rows = [(each.id, each.topic, each.order_id, each.step) for each in events]
    return pl.DataFrame(rows, schema=schema, orient="row")


def read_stores(databases: Databases) -> StoreSide:
    """Read the tables of the shop.

    Raises:
        StoreUnavailableError: a database cannot be read.
        UsageError: a URL that is none, or SQLAlchemy is not installed.
    """
    tables: dict[str, Frame] = {}
    for url, wanted in (
        (databases.orders_url, _ORDER_TABLES),
        (databases.stock_url, _STOCK_TABLES),
        (databases.payments_url, _PAYMENT_TABLES),
        (databases.shipments_url, _SHIPMENT_TABLES),
        (databases.messages_url, _MESSAGE_TABLES),
    ):
        tables |= _read_tables(url, wanted)
    return StoreSide(**tables)


def _read_tables(url: str, wanted: _Tables) -> dict[str, Frame]:
    import sqlalchemy as sql  # noqa: PLC0415 - as late as polars

    pl = load_polars()
    tables: dict[str, Frame] = {}
    with snapshot(url) as connection:
        for table, columns in wanted.items():
            texts, numbers = (each.split() for each in columns)
            kinds = dict.fromkeys(texts, pl.String) | dict.fromkeys(numbers, pl.Int64)
            statement = sql.text(f"SELECT {', '.join(kinds)} FROM {table}")  # noqa: S608 - our names
            rows = [tuple(row) for row in connection.execute(statement)]
            tables[table] = pl.DataFrame(rows, schema=kinds, orient="row")
    return tables
