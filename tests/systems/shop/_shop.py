"""What the tests of the stores share: the three parts of the shop on one database, and orders."""

from __future__ import annotations

from collections.abc import Awaitable
from decimal import Decimal
from typing import NamedTuple, Protocol
from uuid import UUID, uuid5

from agent99.store import Store
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._identity import NAMESPACE
from agent99.systems.shop._model import Address, OrderLine, PlaceOrder, Reserve, StockLine
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._payments import Payments
from agent99.systems.shop._stock import Stock


class Shop(NamedTuple):
    """The logic of three agents."""

    stock: Stock
    payments: Payments
    orders: Orders
    store: Store
    """One of the stores: all are on the same database."""


class OpenShop(Protocol):
    """Opens one more process's share of the shop."""

    def __call__(self, declines: DeclineRule | None = None) -> Awaitable[Shop]: ...


def an_id(name: object) -> UUID:
    """Return an id that follows from a name."""
    return uuid5(NAMESPACE, f"test:{name}")


def reserve(order: object, *lines: tuple[UUID, int]) -> Reserve:
    """Return a request to hold lines for an order."""
    return Reserve(an_id(order), tuple(StockLine(*line) for line in lines))


def order_of(*lines: tuple[UUID, int, str], customer: object = "someone") -> PlaceOrder:
    """Return an order of lines: product, quantity, pounds."""
    return PlaceOrder(
        customer_id=an_id(customer),
        items=tuple(OrderLine(product, units, Decimal(pounds)) for product, units, pounds in lines),
        shipping_address=Address("1 High Street", "Leeds", "", "LS1 1AA", "United Kingdom"),
    )
