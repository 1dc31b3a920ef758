"""Reading the data: every figure of its rules, and every sort of bad file."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from agent99.errors import UsageError
from agent99.systems.shop._check import Terms, check_shop
from agent99.systems.shop._check_sources import Databases
from agent99.systems.shop._data import EXTRACT, read_year
from agent99.systems.shop._errors import DataFileError
from agent99.systems.shop._identity import customer_uuid, guest_uuid, product_uuid
from agent99.systems.shop._year import Year, match_cancellations, place_order

_AT = datetime(2010, 4, 12, 10, 30)  # noqa: DTZ001 - the file tells no time zone


def _frame(**columns: object) -> pl.DataFrame:
    """Return one good line with the columns given changed."""
    good: dict[str, object] = {
        "Invoice": ["500001"],
        "StockCode": ["10002"],
        "Quantity": [3],
        "InvoiceDate": [_AT],
        "Price": [0.85],
        "CustomerID": [13085],
        "Country": ["France"],
    }
    return pl.DataFrame({**good, **columns})


def _write(folder: Path, frame: pl.DataFrame) -> Path:
    path = folder / "lines.parquet"
    frame.write_parquet(path)
    return path


@pytest.mark.slow
def test_every_invoice_of_the_year_ends_in_one_count(whole_year: Year) -> None:
    """28,816 = 20,573 orders + 4,592 C + 3 A + 3,648 without a sellable line (rule 4)."""
    counts = whole_year.counts
    assert 28_816 == counts.invoices
    assert (20_573, 4_592, 3, 3_648) == (
        counts.orders,
        counts.cancellations,
        counts.adjustments,
        counts.unsellable,
    )
    assert 20_573 == len(whole_year.orders())
    assert 20_573 + 4_592 == sum(map(len, whole_year.customers))


@pytest.mark.slow
def test_every_line_of_the_year_ends_in_one_count(whole_year: Year) -> None:
    """525,461 lines; skipped are counted over all invoices that begin with no letter (rule 3)."""
    counts = whole_year.counts
    assert (525_461, 509_152, 10_206, 3) == (
        counts.lines,
        counts.sellable_lines,
        counts.cancellation_lines,
        counts.adjustment_lines,
    )
    assert {
        "not_a_product": 2_469,
        "returned_or_damaged": 2_102,
        "free": 1_529,
    } == counts.skipped
    assert 509_152 == sum(len(order.lines) for order in whole_year.orders())


@pytest.mark.slow
def test_the_money_of_the_year_is_exact(whole_year: Year) -> None:
    """The year is worth 9,837,960.79 pounds (rule 4)."""
    assert 983_796_079 == whole_year.revenue_pence()


@pytest.mark.slow
def test_the_catalogue_of_the_year(whole_year: Year) -> None:
    """4,064 products have 13,990 prices (rule 6); stock opens with what is sold (rule 8)."""
    prices = whole_year.price_list()
    assert (4_064, 13_990) == (len(prices), prices.pairs())
    opening = whole_year.opening_stock()
    assert 4_064 == len(opening)
    sold = sum(line.quantity for order in whole_year.orders() for line in order.lines)
    assert sold == sum(opening.values())


@pytest.mark.slow
def test_guests_and_repeated_products_of_the_year(whole_year: Year) -> None:
    """1,607 orders are guests' (rule 1); a product is repeated 11,924 times (rule 7)."""
    orders = whole_year.orders()
    guests = [order for order in orders if order.is_guest]
    assert 1_607 == len(guests)
    assert 1_607 == len({order.customer_id for order in guests})
    repeated = sum(
        count > 1
        for order in orders
        for count in Counter(line.product_id for line in order.lines).values()
    )
    assert 11_924 == repeated


@pytest.mark.slow
def test_the_cancellations_of_the_year(whole_year: Year) -> None:
    """7,461 lines refund 201,863.26 pounds and 2,745 match nothing (rule 10)."""
    refunds = match_cancellations(whole_year.customers)
    matched = [refund for refund in refunds if refund.order is not None]
    assert (7_461, 2_745) == (len(matched), len(refunds) - len(matched))
    assert 20_186_326 == sum(refund.pence for refund in refunds)


@pytest.mark.slow
def test_every_order_of_the_year_is_a_request_at_listed_prices(whole_year: Year) -> None:
    """The request of an order passes the messages' bounds and is worth what the file says."""
    prices = whole_year.price_list()
    total = 0
    for order in whole_year.orders():
        request = place_order(order)
        prices.refuse_invented(request.items)
        total += request.total_pence
    assert 983_796_079 == total


def test_the_extract_is_small_and_has_everything(extract: Year) -> None:
    """It ships in the package: under 500 KB, with every sort of invoice and line."""
    counts = extract.counts
    assert EXTRACT.stat().st_size < 500_000
    assert (1_984, 1_446, 377, 1, 160) == (
        counts.invoices,
        counts.orders,
        counts.cancellations,
        counts.adjustments,
        counts.unsellable,
    )
    assert (34_936, 33_786) == (counts.lines, counts.sellable_lines)
    assert all(counts.skipped.values())
    assert 120 == sum(order.is_guest for order in extract.orders())
    assert 65_402_180 == extract.revenue_pence()


def test_the_extract_carries_its_attribution() -> None:
    """CC BY asks for the author, the source and the licence beside the data."""
    text = (EXTRACT.parent / "README.md").read_text()
    for needed in ("Chen, D. (2019)", "10.24432/C5CG6D", "CC BY 4.0", "Changes:"):
        assert needed in text


def test_customers_are_replayed_in_order(extract: Year) -> None:
    """Each customer stands once, its invoices by time and then by place (rule 10)."""
    owners = [invoices[0].customer_id for invoices in extract.customers]
    assert len(owners) == len(set(owners))
    for invoices in extract.customers:
        assert {invoices[0].customer_id} == {invoice.customer_id for invoice in invoices}
        assert sorted(invoices, key=lambda each: each.at) == list(invoices)
        for invoice in invoices:
            places = [line.place for line in invoice.lines]
            assert sorted(places) == places


def test_an_invoices_time_and_place_are_its_first_lines(tmp_path: Path) -> None:
    """A first line that is not sellable still decides when the invoice is replayed (rule 10)."""
    later = datetime(2010, 4, 12, 10, 31)  # noqa: DTZ001 - the file tells no zone
    frame = _frame(
        Invoice=["A", "B", "A", "B"],
        StockCode=["POST", "10002", "10002", "10002"],
        Quantity=[1, 1, 1, 1],
        InvoiceDate=[_AT, _AT, later, later],
        Price=[1.0, 1.0, 1.0, 1.0],
        CustomerID=[1, 1, 1, 1],
        Country=["Italy"] * 4,
    ).with_columns(pl.concat_str(pl.lit("50"), pl.col("Invoice").replace({"A": "2", "B": "1"})))
    frame = frame.drop("Invoice").rename({"literal": "Invoice"})
    (invoices,) = read_year(_write(tmp_path, frame)).customers
    assert ["502", "501"] == [invoice.number for invoice in invoices]


def test_ids_follow_from_the_data(tmp_path: Path) -> None:
    """Codes are stripped and upper-cased; a line without a customer is a guest's (rule 1)."""
    frame = _frame(
        Invoice=["500001", "500002"],
        StockCode=[" 79323p ", "79323P"],
        Quantity=[1, 2],
        InvoiceDate=[_AT, _AT],
        Price=[6.75, 6.75],
        CustomerID=[13085, None],
        Country=["France", "France"],
    )
    known, guest = read_year(_write(tmp_path, frame)).customers
    assert customer_uuid(13085) == known[0].customer_id
    assert guest_uuid("500002") == guest[0].customer_id
    assert [product_uuid("79323P")] * 2 == [each[0].lines[0].product_id for each in (known, guest)]


def test_a_line_is_skipped_for_its_first_reason(tmp_path: Path) -> None:
    """A code that is no product comes before a quantity, a quantity before a price (rule 3)."""
    frame = _frame(
        Invoice=["1", "1", "1", "1", "1"],
        StockCode=["POST", "10002", "10002", "1000", "10002"],
        Quantity=[-1, -1, 1, 1, 1],
        InvoiceDate=[_AT] * 5,
        Price=[0.0, 0.0, 0.009, 1.0, 0.01],
        CustomerID=[None] * 5,
        Country=["France"] * 5,
    )
    counts = read_year(_write(tmp_path, frame)).counts
    assert {"not_a_product": 2, "returned_or_damaged": 1, "free": 1} == counts.skipped
    assert (1, 1) == (counts.orders, counts.sellable_lines)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(DataFileError, match=r"nowhere\.parquet: there is no such file"):
        read_year(tmp_path / "nowhere.parquet")
    with pytest.raises(DataFileError, match="it is a folder"):
        read_year(tmp_path)
    with pytest.raises(DataFileError, match="no ordinary file"):
        read_year("/dev/null")


@pytest.mark.parametrize("content", [b"", b"Invoice,StockCode\n1,2\n", b"PAR1", b"PAR1xxxxPAR1"])
def test_a_file_that_is_no_parquet(tmp_path: Path, content: bytes) -> None:
    """An empty file, a CSV file and a cut one are refused, with the file's name."""
    path = tmp_path / "bad.parquet"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match="as Parquet .* needed are the columns Inv") as caught:
        read_year(path)
    assert (str(path), None) == (caught.value.path, caught.value.column)


@pytest.mark.parametrize(
    "column", ["Invoice", "StockCode", "Quantity", "InvoiceDate", "Price", "CustomerID", "Country"]
)
def test_a_column_that_is_missing(tmp_path: Path, column: str) -> None:
    """Every column that the rules speak of is needed; the error names it."""
    path = _write(tmp_path, _frame().drop(column))
    with pytest.raises(DataFileError, match=f"'{column}' .* is missing") as caught:
        read_year(path)
    assert column == caught.value.column


def test_columns_that_are_missing_are_named_together(tmp_path: Path) -> None:
    """A file of another form is mended once, not column by column."""
    path = _write(tmp_path, _frame().drop("Price", "Invoice", "Country"))
    rule = r"it lacks Invoice, Price, Country; needed are .* Price \(a number\)"
    with pytest.raises(DataFileError, match=rule):
        read_year(path)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("Invoice", [500001]),
        ("StockCode", [10002]),
        ("Quantity", [3.5]),
        ("Quantity", ["3"]),
        ("InvoiceDate", ["2010-04-12"]),
        ("InvoiceDate", [_AT.date()]),
        ("Price", ["0.85"]),
        ("CustomerID", ["13085"]),
        ("Country", [44]),
    ],
)
def test_a_column_of_another_type(tmp_path: Path, column: str, values: list[object]) -> None:
    """A type is not guessed at: the error names the column, what it must be and what it is."""
    with pytest.raises(DataFileError, match="it must be") as caught:
        read_year(_write(tmp_path, _frame(**{column: values})))
    assert column == caught.value.column


@pytest.mark.parametrize(
    ("column", "values", "rule"),
    [
        ("Price", [None], "no value on 1 of the lines"),
        ("Price", [float("nan")], "no number, on line 1"),
        ("Price", [float("inf")], "no number"),
        ("Price", [1e15], "too large"),
        ("Price", [0.855], "two decimal places"),
        ("Quantity", [1_000_001], "above 1,000,000"),
        ("Invoice", [""], "empty"),
    ],
)
def test_a_value_that_no_order_can_have(
    tmp_path: Path, column: str, values: list[object], rule: str
) -> None:
    """What the shop could not take is refused with the file, not met in the middle of a replay."""
    schema = {"Price": pl.Float64} if column == "Price" else {}
    frame = _frame(**{column: values}).cast(schema)
    with pytest.raises(DataFileError, match=rule) as caught:
        read_year(_write(tmp_path, frame))
    assert column == caught.value.column


def test_an_invoice_of_two_customers_or_too_many_lines(tmp_path: Path) -> None:
    """An invoice belongs to one customer, and fits into one request."""
    two = pl.concat([_frame(), _frame(CustomerID=[2])])
    with pytest.raises(DataFileError, match="two customers"):
        read_year(_write(tmp_path, two))
    many = pl.concat([_frame()] * 1_001)
    with pytest.raises(DataFileError, match="more than 1,000 sellable lines"):
        read_year(_write(tmp_path, many))


def test_a_file_without_lines(tmp_path: Path) -> None:
    """The right columns and no line is an error too."""
    with pytest.raises(DataFileError, match="it has no lines"):
        read_year(_write(tmp_path, _frame().clear()))


def test_other_forms_of_the_same_types_are_taken(tmp_path: Path) -> None:
    """Small integers, milliseconds and whole prices read the same."""
    frame = _frame(Price=[2]).cast({"Quantity": pl.Int16, "InvoiceDate": pl.Datetime("ms")})
    ((invoice,),) = read_year(_write(tmp_path, frame)).customers
    assert (600, _AT) == (invoice.total_pence, invoice.at)


def test_importing_the_shop_imports_no_polars() -> None:
    """An agent does not pay for what only the replay needs."""
    code = "import sys, agent99.systems.shop._data; sys.exit('polars' in sys.modules)"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_without_polars_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading and checking need an extra, and say which."""
    names = ("orders_url", "stock_url", "payments_url", "shipments_url", "messages_url")
    nowhere = Databases(**dict.fromkeys(names, ""))
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UsageError, match=r"extra 'shop': pip install '\.\[shop\]'"):
        read_year(EXTRACT)
    with pytest.raises(UsageError, match=r"extra 'shop': pip install '\.\[shop\]'"):
        check_shop(EXTRACT, nowhere, [], terms=Terms())
