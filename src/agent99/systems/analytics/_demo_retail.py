"""A retailer's file as the records of the demo: a till's lines and orders, in the order of time.

What a line is, and which of them are sold, is told by the rules of `data/README.md` beside the
shop's extract (2 and 3).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar
from zlib import crc32

import msgspec

from agent99.errors import UsageError, how_to_install

Frame: TypeAlias = Any
"""A polars data frame; without its type, since polars is loaded late."""
T = TypeVar("T")

COLUMNS: Final = (
    *("Invoice", "StockCode", "Quantity", "InvoiceDate", "Price", "CustomerID", "Country"),
)
_MAY_BE_NULL: Final = "CustomerID"
_SOLD: Final = "sold"


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line that was sold: a record of the source `lines`."""

    sold_at: datetime
    """The line's InvoiceDate, read as UTC."""
    product: str
    country: str
    customer: int | None
    """None: the file names nobody."""
    quantity: int
    price_pence: int
    """Of one unit."""


class Order(msgspec.Struct, frozen=True, gc=False):
    """An invoice with a line that was sold: a record of the source `orders`."""

    placed_at: datetime
    """The earliest InvoiceDate of its lines that were sold, read as UTC."""
    customer: int | None
    country: str
    lines: int
    """That were sold."""
    total_pence: int


class Retail(msgspec.Struct, frozen=True):
    """What a file holds, split to tills: an invoice is at one of them."""

    path: str
    lines: tuple[tuple[Line, ...], ...]
    """By till, in the order of their times."""
    orders: tuple[tuple[Order, ...], ...]
    """By till, in the order of their times."""
    left_out: Mapping[str, int]
    """Lines that were not sold, by the reason."""

    def __repr__(self) -> str:
        return f"Retail({self.path!r}, tills={len(self.lines)})"


def read_retail(path: str | Path, *, tills: int) -> Retail:
    """Read a Parquet file of order lines.

    Args:
        path: With the columns of `COLUMNS`.
        tills: In how many parts, 1 or more.

    Raises:
        UsageError: there is no such file, it is no Parquet, it lacks a column or nothing in it was
            sold; or polars is not installed.
    """
    frame = _judged(_read(str(path)))
    pl = _polars()
    counts: dict[str, int] = dict(frame["fate"].value_counts().iter_rows())
    sold = frame.filter(fate=_SOLD)
    if sold.is_empty():
        raise UsageError(f"{path}: nothing in it was sold")
    invoices = (
        sold.group_by("Invoice", maintain_order=True)
        .agg(
            pl.col("at").min(),
            pl.col("CustomerID", "Country").first(),
            pl.len().alias("lines"),
            (pl.col("Quantity") * pl.col("pence")).sum().alias("total"),
        )
        .sort("at", maintain_order=True)
    )
    lines = sold.select(
        *("Invoice", "at", "StockCode", "Country", "CustomerID", "Quantity", "pence")
    )
    return Retail(
        path=str(path),
        lines=_by_till(lines, tills, Line),
        orders=_by_till(
            invoices.select("Invoice", "at", "CustomerID", "Country", "lines", "total"),
            tills,
            Order,
        ),
        left_out={fate: count for fate, count in sorted(counts.items()) if fate != _SOLD},
    )


def _polars() -> Any:
    try:
        import polars as pl  # noqa: PLC0415 - costs 0.1 s, which an agent should not pay
    except ImportError as error:
        message = f"the demo needs polars: {how_to_install('analytics')}"
        raise UsageError(message) from error
    return pl


def _read(path: str) -> Frame:
    pl = _polars()
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path}: it cannot be read as Parquet ({reason})") from error
    if missing := [column for column in COLUMNS if column not in frame.columns]:
        raise UsageError(f"{path}: it lacks the columns {', '.join(missing)}")
    for column in COLUMNS:
        if column != _MAY_BE_NULL and (empty := frame[column].null_count()):
            raise UsageError(f"{path}: {column} has no value on {empty:,} of the lines")
    try:
        return frame.select(
            pl.col("Invoice").cast(pl.String),
            pl.col("StockCode").cast(pl.String).str.strip_chars().str.to_uppercase(),
            pl.col("Quantity", "CustomerID").cast(pl.Int64),
            pl.col("InvoiceDate").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("at"),
            (pl.col("Price").cast(pl.Float64) * 100).round().cast(pl.Int64).alias("pence"),
            pl.col("Country").cast(pl.String),
        )
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path}: a column is of another type ({reason})") from error


def _judged(frame: Frame) -> Frame:
    """Say of each line whether it was sold, or why not; and bring them into the order of time."""
    pl = _polars()
    letter = pl.col("Invoice").str.slice(0, 1).str.to_uppercase()
    fate = (
        pl.when(letter == "C")
        .then(pl.lit("cancellation"))
        .when(letter.str.contains("[A-Z]"))
        .then(pl.lit("adjustment"))
        .when(~pl.col("StockCode").str.contains("^[0-9]{5}"))
        .then(pl.lit("not a product"))
        .when(pl.col("Quantity") <= 0)
        .then(pl.lit("returned or damaged"))
        .when(pl.col("pence") <= 0)
        .then(pl.lit("free"))
        .otherwise(pl.lit(_SOLD))
    )
    return frame.with_columns(fate.alias("fate")).sort("at", maintain_order=True)


def _by_till(frame: Frame, tills: int, kind: type[T]) -> tuple[tuple[T, ...], ...]:
    """Return records by till; the first column is the invoice, the others are their fields."""
    parts: list[list[T]] = [[] for _ in range(tills)]
    for invoice, *fields in frame.iter_rows():
        parts[crc32(invoice.encode()) % tills].append(kind(*fields))
    return tuple(map(tuple, parts))
