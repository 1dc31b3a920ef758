"""A year of retail, once it is read: invoices, orders, and which cancellation refunds what. Pure.

`_data.py` reads it from a file; the rules that it follows are numbered in `data/README.md` beside
the extract.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._model import QUANTITY_MAX, Address, IfShort, OrderLine, PlaceOrder
from agent99.systems.shop._money import to_pounds
from agent99.systems.shop._return_model import GiveBack

SkipReason: TypeAlias = Literal["not_a_product", "returned_or_damaged", "free"]
"""Why a line of an invoice is not sellable (rule 3)."""


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line of an invoice."""

    place: int
    """Its place in the file; starts at 0."""
    product_id: UUID
    quantity: int
    """Units sold; on a cancellation the units taken back."""
    price_pence: int
    """Of one unit. On a cancellation it may be anything, as in the file."""


class Invoice(msgspec.Struct, frozen=True):
    """An order or a cancellation, as the file has it."""

    number: str
    """Its number in the file, and the idempotency key of its replay."""
    kind: Literal["order", "cancellation"]
    customer_id: UUID
    """The customer; a guest of its own where the file names none."""
    is_guest: bool
    at: datetime
    """When its first line was written; the file tells no time zone."""
    country: str
    lines: tuple[Line, ...]
    """An order's sellable lines, a cancellation's lines, in the file's order."""

    @property
    def total_pence(self) -> int:
        """The price of all lines."""
        return sum(line.quantity * line.price_pence for line in self.lines)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Where every invoice and every line of a file ended (rules 2 to 4).

    Invariant: the parts of each sum to the whole.
    """

    invoices: int
    orders: int
    cancellations: int
    adjustments: int
    unsellable: int
    """Invoices that would be orders, had they a sellable line."""
    lines: int
    sellable_lines: int
    cancellation_lines: int
    adjustment_lines: int
    skipped: Mapping[SkipReason, int]
    """Lines of invoices that are no cancellations or adjustments, by what makes them unsellable."""

    def __post_init__(self) -> None:
        invoices = self.orders + self.cancellations + self.adjustments + self.unsellable
        lines = self.sellable_lines + self.cancellation_lines + self.adjustment_lines
        lines += sum(self.skipped.values())
        if (invoices, lines) != (self.invoices, self.lines):
            message = f"{invoices} invoices and {lines} lines are counted: {self!r}"
            raise ValueError(message)


class Year(msgspec.Struct, frozen=True):
    """What a file holds, ready to be replayed."""

    path: str
    counts: Counts
    customers: tuple[tuple[Invoice, ...], ...]
    """The invoices of each customer in the order of their replay (rule 10); customers by the place
    of their first invoice. A guest is a customer of one order."""

    def __repr__(self) -> str:
        return f"Year({self.path!r}, orders={self.counts.orders}, customers={len(self.customers)})"

    def orders(self) -> list[Invoice]:
        """Return every order, customer by customer."""
        return [each for invoices in self.customers for each in invoices if each.kind == "order"]

    def revenue_pence(self) -> int:
        """Return the price of all orders: what is earned when every one is confirmed."""
        return sum(order.total_pence for order in self.orders())

    def price_list(self) -> PriceList:
        """Return every price at which the file sells each product (rule 6)."""
        return PriceList.of(
            (line.product_id, line.price_pence) for order in self.orders() for line in order.lines
        )

    def opening_stock(self, scarcity: float = 1.0) -> dict[UUID, int]:
        """Return the units of each product on the first day (rule 8), rounded down.

        Args:
            scarcity: The share of what the file sells, 0 or more: at 1.0 nothing runs out.
        """
        units: dict[UUID, int] = {}
        for order in self.orders():
            for line in order.lines:
                units[line.product_id] = units.get(line.product_id, 0) + line.quantity
        return {product_id: math.floor(sold * scarcity) for product_id, sold in units.items()}


def place_order(invoice: Invoice, if_short: IfShort = "refuse") -> PlaceOrder:
    """Return the request that an invoice of the kind `order` makes."""
    return PlaceOrder(
        if_short=if_short,
        customer_id=invoice.customer_id,
        items=tuple(
            OrderLine(line.product_id, line.quantity, to_pounds(line.price_pence))
            for line in invoice.lines
        ),
        shipping_address=address_in(invoice.country, invoice.customer_id),
    )


def give_back(invoice: Invoice) -> GiveBack:
    """Return the request that an invoice of the kind `cancellation` makes.

    Lines that no order can have are left out: they match nothing.
    """
    return GiveBack(
        customer_id=invoice.customer_id,
        items=tuple(
            OrderLine(line.product_id, line.quantity, to_pounds(line.price_pence))
            for line in invoice.lines
            if 0 < line.quantity <= QUANTITY_MAX and line.price_pence > 0
        ),
    )


def address_in(country: str, customer_id: UUID) -> Address:
    """Return an address that is made up, the same every time, in a country of the file."""
    drawn = int.from_bytes(sha256(customer_id.bytes).digest()[:4], "big")
    return Address(
        street=f"{drawn % 200 + 1} Market Street",
        city=f"{country} City",
        state="",
        zip_code=f"{drawn // 200 % 90_000 + 10_000}",
        country=country,
    )


class Refund(msgspec.Struct, frozen=True):
    """One line of a cancellation, and the line of an order that it takes back."""

    invoice: str
    """The cancellation's number."""
    line: Line
    order: str | None
    """The order's number; None: no earlier line fits, so nothing is refunded."""
    order_line: Line | None

    @property
    def pence(self) -> int:
        """What it gives back: 0 where nothing fits."""
        return 0 if self.order is None else self.line.quantity * self.line.price_pence


class _Sold(msgspec.Struct):
    order: str
    line: Line
    left: int


class RefundBook:
    """What one customer bought and may still give back (rule 10).

    Feed it the customer's invoices in the order of their replay, orders once they are confirmed.

    Invariant: no line is refunded for more than was sold on it.
    """

    def __init__(self) -> None:
        self._sold: dict[tuple[UUID, int], list[_Sold]] = {}

    def __repr__(self) -> str:
        return f"RefundBook(lines={sum(map(len, self._sold.values()))})"

    def add_order(self, invoice: Invoice) -> None:
        """Note the lines of an order."""
        for line in invoice.lines:
            key = (line.product_id, line.price_pence)
            self._sold.setdefault(key, []).append(_Sold(invoice.number, line, line.quantity))

    def match(self, invoice: Invoice) -> tuple[Refund, ...]:
        """Return what each line of a cancellation refunds, and take it off what may be refunded."""
        return tuple(self._match_line(invoice, line) for line in invoice.lines)

    def _match_line(self, invoice: Invoice, line: Line) -> Refund:
        if line.quantity > 0 and not invoice.is_guest:
            for sold in reversed(self._sold.get((line.product_id, line.price_pence), ())):
                if sold.left >= line.quantity:
                    sold.left -= line.quantity
                    return Refund(invoice.number, line, sold.order, sold.line)
        return Refund(invoice.number, line, None, None)


def match_cancellations(customers: Iterable[Sequence[Invoice]]) -> list[Refund]:
    """Return what every cancellation line refunds when every order is confirmed (rule 10)."""
    refunds: list[Refund] = []
    for invoices in customers:
        book = RefundBook()
        for invoice in invoices:
            if invoice.kind == "order":
                book.add_order(invoice)
            else:
                refunds.extend(book.match(invoice))
    return refunds
