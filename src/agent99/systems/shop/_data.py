"""Reads a year of retail from a Parquet file, by the rules of `data/README.md`.

The only file, beside the check at the end, that uses polars, and only once it is asked to read: an
agent that imports the shop does not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, get_args
from uuid import UUID

from agent99.errors import UsageError, how_to_install
from agent99.systems.shop._errors import DataFileError
from agent99.systems.shop._identity import customer_uuid, guest_uuid, product_uuid
from agent99.systems.shop._model import LINES_MAX, QUANTITY_MAX
from agent99.systems.shop._money import MONEY_PENCE_MAX
from agent99.systems.shop._year import Counts, Invoice, Line, SkipReason, Year

Frame: TypeAlias = Any
"""A polars data frame; without its type, since polars is loaded late."""

EXTRACT: Final = Path(__file__).parent / "data" / "online_retail_extract.parquet"
"""Four weeks of the year, in the package."""

_COLUMNS: Final = {
    "Invoice": "text",
    "StockCode": "text",
    "Quantity": "a whole number",
    "InvoiceDate": "a date and time",
    "Price": "a number",
    "CustomerID": "a whole number",
    "Country": "text",
}
_NEEDED: Final = ", ".join(f"{column} ({what})" for column, what in _COLUMNS.items())
_MAY_BE_NULL = "CustomerID"
_SKIPPED: Final[tuple[SkipReason, ...]] = get_args(SkipReason)
_INEXACT_PENCE = 1e-6  # a price of two places times 100 is this close to a whole number


def read_year(path: str | Path = EXTRACT) -> Year:
    """Read a file of order lines.

    Raises:
        DataFileError: no such file, no Parquet, no lines, a column that is missing, of another type
            or with a value that no order can have; names the file and the column.
        UsageError: polars is not installed.
    """
    frame = _classified(_checked(_read(Path(path)), str(path)))
    _refuse_impossible(frame, str(path))
    return Year(
        path=str(path),
        counts=_counts(frame),
        customers=_customers(frame),
    )


def _polars() -> Any:
    try:
        import polars as pl  # noqa: PLC0415 - costs 0.1 s, which an agent should not pay
    except ImportError as error:
        message = f"reading the data needs polars: {how_to_install('shop')}"
        raise UsageError(message) from error
    return pl


def _read(path: Path) -> Frame:
    pl = _polars()
    if not path.is_file():
        raise DataFileError(str(path), _what_it_is(path))
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        rule = f"it cannot be read as Parquet ({reason}); needed are the columns {_NEEDED}"
        raise DataFileError(str(path), rule) from error


def _what_it_is(path: Path) -> str:
    if path.is_dir():
        return "it is a folder, not a file"
    if path.exists():
        return "it is no ordinary file"
    return "there is no such file"


def _checked(frame: Frame, path: str) -> Frame:
    """Return the columns that the shop needs, in their types."""
    pl = _polars()
    missing = [column for column in _COLUMNS if column not in frame.columns]
    if len(missing) == 1:
        raise DataFileError(path, "it is missing", column=missing[0])
    if missing:
        raise DataFileError(path, f"it lacks {', '.join(missing)}; needed are {_NEEDED}")
    for column, what in _COLUMNS.items():
        found = frame.schema[column]
        fits = {
            "text": found == pl.String,
            "a whole number": found.is_integer() or found == pl.Null,
            "a date and time": found.is_temporal() and isinstance(found, pl.Datetime),
            "a number": found.is_numeric(),
        }[what]
        if not fits:
            raise DataFileError(path, f"it must be {what}, not {found}", column=column)
        empty = frame[column].null_count()
        if empty and column != _MAY_BE_NULL:
            raise DataFileError(path, f"it has no value on {empty:,} of the lines", column=column)
    if frame.is_empty():
        raise DataFileError(path, "it has no lines")
    return frame.select(
        "Invoice",
        pl.col("StockCode").str.strip_chars().str.to_uppercase(),
        pl.col("Quantity").cast(pl.Int64),
        pl.col("InvoiceDate").cast(pl.Datetime("us")),
        pl.col("Price").cast(pl.Float64),
        pl.col("CustomerID").cast(pl.Int64),
        "Country",
    ).with_row_index("place")


def _classified(frame: Frame) -> Frame:
    """Add what each invoice is, what each line is (rules 2 and 3), and its price in pence."""
    pl = _polars()
    letter = pl.col("Invoice").str.slice(0, 1).str.to_uppercase()
    is_product = pl.col("StockCode").str.contains(r"^[0-9]{5}")
    return frame.with_columns(
        pl.when(letter == "C")
        .then(pl.lit("cancellation"))
        .when(letter.str.contains("[A-Z]"))
        .then(pl.lit("adjustment"))
        .otherwise(pl.lit("order"))
        .alias("kind"),
        pl.when(~is_product)
        .then(pl.lit("not_a_product"))
        .when(pl.col("Quantity") <= 0)
        .then(pl.lit("returned_or_damaged"))
        .when(pl.col("Price") < 0.01)
        .then(pl.lit("free"))
        .otherwise(pl.lit("sellable"))
        .alias("line_kind"),
        (pl.col("Price") * 100).round().alias("pence"),
    )


def _refuse_impossible(frame: Frame, path: str) -> None:
    """Refuse a file with a line or an order that the shop could not take as it stands."""
    pl = _polars()
    sellable = frame.filter(kind="order", line_kind="sellable")
    pence = pl.col("Price") * 100
    rules = (
        ("Invoice", frame.filter(pl.col("Invoice").str.len_bytes() == 0), "it is empty"),
        ("Price", frame.filter(~pl.col("Price").is_finite()), "it is no number"),
        ("Price", frame.filter(pence.abs() > MONEY_PENCE_MAX), "it is too large"),
        (
            "Price",
            sellable.filter((pence - pence.round()).abs() > _INEXACT_PENCE),
            "it has more than two decimal places",
        ),
        (
            "Quantity",
            sellable.filter(pl.col("Quantity") > QUANTITY_MAX),
            f"it is above {QUANTITY_MAX:,}",
        ),
        (
            "Invoice",
            sellable.filter(pl.len().over("Invoice") > LINES_MAX),
            f"it has more than {LINES_MAX:,} sellable lines",
        ),
        (
            "CustomerID",
            frame.filter(pl.col("CustomerID").n_unique().over("Invoice") > 1),
            "its invoice names two customers",
        ),
    )
    for column, broken, rule in rules:
        if broken.height:
            line = broken["place"][0] + 1  # for people: the first is line 1
            raise DataFileError(path, f"{rule}, on line {line:,}", column=column)


def _counts(frame: Frame) -> Counts:
    pl = _polars()
    by_kind = frame.group_by("kind").agg(pl.len(), pl.col("Invoice").n_unique())
    lines: dict[str, int] = dict(zip(by_kind["kind"], by_kind["len"], strict=True))
    invoices: dict[str, int] = dict(zip(by_kind["kind"], by_kind["Invoice"], strict=True))
    orders = frame.filter(kind="order")
    by_line: dict[str, int] = dict(orders["line_kind"].value_counts().iter_rows())
    sold = orders.filter(line_kind="sellable")["Invoice"].n_unique()
    return Counts(
        invoices=frame["Invoice"].n_unique(),
        orders=sold,
        cancellations=invoices.get("cancellation", 0),
        adjustments=invoices.get("adjustment", 0),
        unsellable=invoices.get("order", 0) - sold,
        lines=frame.height,
        sellable_lines=by_line.get("sellable", 0),
        cancellation_lines=lines.get("cancellation", 0),
        adjustment_lines=lines.get("adjustment", 0),
        skipped={reason: by_line.get(reason, 0) for reason in _SKIPPED},
    )


def _customers(frame: Frame) -> tuple[tuple[Invoice, ...], ...]:
    """Return the orders and cancellations of each customer in the order of their replay."""
    groups: dict[UUID, list[Invoice]] = {}
    for invoice in _invoices(frame):
        groups.setdefault(invoice.customer_id, []).append(invoice)
    return tuple(map(tuple, groups.values()))


def _invoices(frame: Frame) -> Iterator[Invoice]:
    """Yield orders and cancellations by the time, then the place, of their first line (rule 10)."""
    pl = _polars()
    first = (
        # Over the whole file: an order's first line may be one that is not sellable.
        frame.group_by("Invoice").agg(
            pl.col("InvoiceDate").min().alias("at"), pl.col("place").min().alias("first")
        )
    )
    wanted = frame.filter(
        (pl.col("kind") == "cancellation")
        | ((pl.col("kind") == "order") & (pl.col("line_kind") == "sellable"))
    )
    grouped = (
        wanted.group_by("Invoice")
        .agg(
            pl.col("kind").first(),
            pl.col("CustomerID").first(),
            pl.col("Country").first(),
            pl.col("place"),
            pl.col("StockCode"),
            pl.col("Quantity"),
            pl.col("pence").cast(pl.Int64),
        )
        .join(first, on="Invoice", maintain_order="left")
        .sort("at", "first")
    )
    products = {code: product_uuid(code) for code in wanted["StockCode"].unique()}
    for row in grouped.iter_rows(named=True):
        yield _invoice(row, products)


def _invoice(row: dict[str, Any], products: dict[str, UUID]) -> Invoice:
    sign = -1 if row["kind"] == "cancellation" else 1
    columns = (row["place"], row["StockCode"], row["Quantity"], row["pence"])
    number: str = row["Invoice"]
    customer: int | None = row["CustomerID"]
    return Invoice(
        number=number,
        kind=row["kind"],
        customer_id=guest_uuid(number) if customer is None else customer_uuid(customer),
        is_guest=customer is None,
        at=row["at"],
        country=row["Country"],
        lines=tuple(
            Line(place, products[code], sign * quantity, pence)
            for place, code, quantity, pence in zip(*columns, strict=True)
        ),
    )
