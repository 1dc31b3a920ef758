"""What the tests of the stores share: the three parts of the shop on one database, and orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID, uuid5

from agent99.store import Store
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._identity import NAMESPACE
from agent99.systems.shop._model import (
    Address,
    Charge,
    ChargeReceipt,
    OrderLine,
    PlaceOrder,
    Reservation,
    Reserve,
    StockLine,
)
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._payments import Payments
from agent99.systems.shop._stock import Stock

T = TypeVar("T")


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


class Local:
    """What an order needs of others, without the bus; `broken` makes calls fail, before or after.

    A call named `"charge"` there raises before it takes effect, `"charge:late"` after it.
    """

    def __init__(self, stock: Stock, payments: Payments) -> None:
        self._stock = stock
        self._payments = payments
        self.broken: dict[str, Exception] = {}
        self.calls: Counter[str] = Counter()

    async def reserve(self, request: Reserve) -> Reservation:
        """Hold."""
        return await self._call("reserve", lambda: self._stock.reserve(request))

    async def commit(self, order_id: UUID) -> Reservation:
        """Ship."""
        return await self._call("commit", lambda: self._stock.commit(order_id))

    async def release(self, order_id: UUID) -> Reservation:
        """Put back."""
        return await self._call("release", lambda: self._stock.release(order_id))

    async def charge(self, request: Charge) -> ChargeReceipt:
        """Take the money."""
        return await self._call("charge", lambda: self._payments.charge(request))

    async def _call(self, name: str, effect: Callable[[], Awaitable[T]]) -> T:
        self.calls[name] += 1
        if name in self.broken:
            raise self.broken[name]
        answer = await effect()
        if f"{name}:late" in self.broken:
            raise self.broken[f"{name}:late"]
        return answer
