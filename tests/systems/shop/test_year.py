"""The year in memory: counts that must close, addresses, and the matching of cancellations."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.shop._identity import NAMESPACE, customer_uuid
from agent99.systems.shop._year import (
    Counts,
    Invoice,
    Line,
    Refund,
    RefundBook,
    Year,
    address_in,
    match_cancellations,
    place_order,
)

_START = datetime(2010, 1, 4)  # noqa: DTZ001 - the file tells no time zone
_PRODUCTS = [uuid5(NAMESPACE, str(number)) for number in range(2)]
_CUSTOMER = customer_uuid(1)


def _invoice(index: int, kind: str, lines: list[tuple[UUID, int, int]], *, guest: bool) -> Invoice:
    return Invoice(
        number=f"{'C' if kind == 'cancellation' else ''}{500_000 + index}",
        kind="cancellation" if kind == "cancellation" else "order",
        customer_id=_CUSTOMER,
        is_guest=guest,
        at=_START + timedelta(hours=index),
        country="Spain",
        lines=tuple(Line(index * 100 + place, *line) for place, line in enumerate(lines)),
    )


_LINES = st.lists(
    st.tuples(st.sampled_from(_PRODUCTS), st.integers(1, 4), st.integers(1, 2)), max_size=4
)
_INVOICES = st.lists(st.tuples(st.sampled_from(["order", "cancellation"]), _LINES), max_size=8)


def _naive(invoices: list[Invoice]) -> list[str | None]:
    """Match by trying every earlier line, latest first, on a list of single units left."""
    left: dict[int, int] = {}
    earlier: list[tuple[str, Line]] = []
    matched: list[str | None] = []
    for invoice in invoices:
        if invoice.kind == "order":
            earlier += [(invoice.number, line) for line in invoice.lines]
            left |= {line.place: line.quantity for line in invoice.lines}
            continue
        for back in invoice.lines:
            fits = [
                (number, line)
                for number, line in earlier
                if (line.product_id, line.price_pence) == (back.product_id, back.price_pence)
                and left[line.place] >= back.quantity
            ]
            matched.append(fits[-1][0] if fits else None)
            if fits:
                left[fits[-1][1].place] -= back.quantity
    return matched


@given(_INVOICES)
def test_a_cancellation_takes_back_the_latest_line_that_fits(
    drawn: list[tuple[str, list[tuple[UUID, int, int]]]],
) -> None:
    """Against a model that tries every earlier line (rule 10)."""
    invoices = [
        _invoice(index, kind, lines, guest=False) for index, (kind, lines) in enumerate(drawn)
    ]
    refunds = match_cancellations([invoices])
    assert _naive(invoices) == [refund.order for refund in refunds]
    taken: dict[int, int] = {}
    for refund in refunds:
        if refund.order_line is not None:
            place = refund.order_line.place
            taken[place] = taken.get(place, 0) + refund.line.quantity
            assert taken[place] <= refund.order_line.quantity


def test_a_guest_never_matches() -> None:
    """A line without a customer refunds nothing, even where an order would fit (rule 10)."""
    order = _invoice(0, "order", [(_PRODUCTS[0], 3, 5)], guest=True)
    back = _invoice(1, "cancellation", [(_PRODUCTS[0], 3, 5)], guest=True)
    assert [None] == [refund.order for refund in match_cancellations([[order, back]])]


def test_a_cancellation_of_nothing_never_matches() -> None:
    """A line that takes back no units, as the file may have it, is unmatched."""
    book = RefundBook()
    book.add_order(_invoice(0, "order", [(_PRODUCTS[0], 3, 5)], guest=False))
    refunds = book.match(
        _invoice(1, "cancellation", [(_PRODUCTS[0], 0, 5), (_PRODUCTS[0], -2, 5)], guest=False)
    )
    assert [(None, 0), (None, 0)] == [(refund.order, refund.pence) for refund in refunds]
    assert "RefundBook(lines=1)" == repr(book)


def test_a_refund_is_worth_what_was_paid() -> None:
    """Its pence are the units taken back at the price of the line."""
    line = Line(0, _PRODUCTS[0], 3, 250)
    assert 750 == Refund("C1", line, "1", line).pence


def test_counts_that_do_not_close_are_refused() -> None:
    """An invoice or a line that ended nowhere, or twice, is noticed."""
    right = {
        "invoices": 4,
        "orders": 1,
        "cancellations": 1,
        "adjustments": 1,
        "unsellable": 1,
        "lines": 6,
        "sellable_lines": 1,
        "cancellation_lines": 1,
        "adjustment_lines": 1,
    }
    skipped = {"not_a_product": 1, "returned_or_damaged": 1, "free": 1}
    Counts(**right, skipped=skipped)
    for name in right:
        with pytest.raises(ValueError, match="are counted"):
            Counts(**{**right, name: 9}, skipped=skipped)


def test_an_order_becomes_a_request() -> None:
    """Lines keep their order and price; the address is in the country, the same every time."""
    order = _invoice(0, "order", [(_PRODUCTS[0], 3, 250), (_PRODUCTS[1], 1, 5)], guest=False)
    request = place_order(order)
    assert request == place_order(order)
    assert (755, 755) == (order.total_pence, request.total_pence)
    assert ["2.50", "0.05"] == [str(line.unit_price) for line in request.items]
    assert address_in("Spain", _CUSTOMER) == request.shipping_address
    assert address_in("Spain", _CUSTOMER) != address_in("Spain", customer_uuid(2))


def test_scarce_stock_is_rounded_down(extract: Year) -> None:
    """Opening stock is the units sold, times the scarcity, never more (rule 8)."""
    full, scarce, none = (extract.opening_stock(share) for share in (1.0, 0.9, 0.0))
    assert set(full) == set(scarce) == set(none)
    assert all(units * 9 // 10 == scarce[product] for product, units in full.items())
    assert {0} == set(none.values())
    assert "orders=1446" in repr(extract)
