"""What the tests of the stores share: the three parts of the shop on one database, and orders."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID, uuid5

from agent99.store import Store
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._events import CustomerTold, OrderShipped
from agent99.systems.shop._handover import tell
from agent99.systems.shop._identity import NAMESPACE, order_uuid
from agent99.systems.shop._messages import Messages
from agent99.systems.shop._model import (
    Address,
    IfShort,
    MessageType,
    Notify,
    OrderCancelled,
    OrderLine,
    PlaceOrder,
    Reservation,
    Reserve,
    Ship,
    StockLine,
)
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._payment_model import (
    Authorisation,
    Authorise,
    Capture,
    CaptureReceipt,
    PaymentView,
    Refund,
)
from agent99.systems.shop._payments import Payments
from agent99.systems.shop._shipments import Shipments
from agent99.systems.shop._states import OrderEvent
from agent99.systems.shop._stock import Stock
from agent99.systems.shop._stock_model import TakeBack
from tests.saga._programme import Deaths

T = TypeVar("T")


class Shop(NamedTuple):
    """The logic of the five agents."""

    stock: Stock
    payments: Payments
    orders: Orders
    shipments: Shipments
    messages: Messages
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


def order_of(
    *lines: tuple[UUID, int, str], customer: object = "someone", if_short: IfShort = "refuse"
) -> PlaceOrder:
    """Return an order of lines: product, quantity, pounds."""
    return PlaceOrder(
        if_short=if_short,
        customer_id=an_id(customer),
        items=tuple(OrderLine(product, units, Decimal(pounds)) for product, units, pounds in lines),
        shipping_address=Address("1 High Street", "Leeds", "", "LS1 1AA", "United Kingdom"),
    )


TEA, MUG = an_id("tea"), an_id("mug")
PRICES = PriceList.of([(TEA, 110), (TEA, 125), (MUG, 300)])
ORDER = order_of((TEA, 2, "1.10"), (MUG, 1, "3.00"))
"""Worth 5.20 pounds."""
CONFIRMING = (OrderEvent.RESERVE, OrderEvent.AUTHORISE, OrderEvent.PAY, OrderEvent.CONFIRM)
"""What happens to an order until it is confirmed."""


def shipped(order_id: UUID) -> OrderShipped:
    """Return the event that an order is on its way."""
    return OrderShipped(order_id, an_id("shipment"), "Evri", 1)


def told(order_id: UUID, kind: MessageType = "order_confirmation", number: int = 1) -> CustomerTold:
    """Return the event that the customer of an order was told."""
    return CustomerTold(
        order_id, ORDER.customer_id, an_id("message"), kind, "email", 1, number=number
    )


class AtOnce:
    """What follows a confirmed order, done at once and noted, without the bus."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.rests: dict[str, PlaceOrder] = {}
        """The back-orders that were begun, by their keys."""

    async def ship(self, request: Ship) -> None:
        """Ship it, unless it stays in the house for a while."""
        shipment = await self._shop.shipments.ship(request)
        if shipment.status == "prepared":
            return
        await self._shop.orders.note_shipment(shipped(request.order_id))
        await tell(self._shop.orders, self, request.order_id, "order_shipped")

    async def order_rest(self, request: PlaceOrder, key: str) -> None:
        """Take the back-order, and note it for who goes on with it."""
        self.rests[key] = request
        await self._shop.orders.take(request, order_uuid(key))

    async def notify(self, request: Notify) -> None:
        """Tell its customer."""
        await self._shop.messages.send(request)
        await self._shop.orders.note_message(told(request.order_id, request.type, request.number))


class Faults:
    """What goes wrong, and when, of all that an order does; and how often each was asked for.

    `planned["capture"]` is raised before a call takes effect, `planned["capture:late"]` after it:
    an error each time, or those of a list one by one until it is empty.
    """

    def __init__(self, deaths: Deaths | None = None) -> None:
        self.planned: dict[str, BaseException | list[BaseException]] = {}
        self.calls: Counter[str] = Counter()
        self.keys: dict[str, set[str]] = defaultdict(set)
        """Under which each was asked for."""
        self.deaths = deaths or Deaths()
        """Where the process dies."""

    async def around(self, name: str, effect: Callable[[], Awaitable[T]]) -> T:
        """Let something take effect, unless it is to fail before that; or let it fail then."""
        self.calls[name] += 1
        self.deaths.point()
        self._raise(name)
        answer = await effect()
        self.deaths.point()
        self._raise(f"{name}:late")
        return answer

    def _raise(self, name: str) -> None:
        planned = self.planned.get(name)
        if isinstance(planned, list):
            planned = planned.pop(0) if planned else None
        if planned is not None:
            raise planned.with_traceback(None)


class Local:
    """What an order needs of others, without the bus; its calls go wrong by `faults`."""

    def __init__(self, stock: Stock, payments: Payments, faults: Faults | None = None) -> None:
        self._stock = stock
        self._payments = payments
        self.faults = faults or Faults()

    async def reserve(self, request: Reserve, key: str) -> Reservation:
        """Hold."""
        return await self._call("reserve", key, lambda: self._stock.reserve(request))

    async def commit(self, order_id: UUID, key: str) -> Reservation:
        """Ship."""
        return await self._call("commit", key, lambda: self._stock.commit(order_id))

    async def release(self, order_id: UUID, key: str) -> Reservation:
        """Put back."""
        return await self._call("release", key, lambda: self._stock.release(order_id))

    async def take_back(
        self, order_id: UUID, return_id: UUID, items: tuple[StockLine, ...], key: str
    ) -> None:
        """Put back what has left."""
        request = TakeBack(order_id, return_id, items)
        await self._call("take_back", key, lambda: self._stock.take_back(request))

    async def authorise(self, request: Authorise, key: str) -> Authorisation:
        """Hold the money."""
        return await self._call("authorise", key, lambda: self._payments.authorise(request))

    async def void(self, order_id: UUID, key: str) -> None:
        """Let go of the money."""
        await self._call("void", key, lambda: self._payments.void(order_id))

    async def capture(self, order_id: UUID, key: str) -> CaptureReceipt:
        """Take the money."""
        return await self._call("capture", key, lambda: self._payments.capture(Capture(order_id)))

    async def refund(self, order_id: UUID, refund_id: UUID, amount_pence: int, key: str) -> None:
        """Give money back."""
        request = Refund(order_id, refund_id, amount_pence)
        await self._call("refund", key, lambda: self._payments.refund(request))

    async def _call(self, name: str, key: str, effect: Callable[[], Awaitable[T]]) -> T:
        self.faults.keys[name].add(key)
        return await self.faults.around(name, effect)


class Others(Local):
    """Inventory, payment and fulfilment, without the bus.

    Back-orders are cancelled by whoever put himself at `cancels`.
    """

    cancels: Callable[[UUID], Awaitable[OrderCancelled]]

    def __init__(self, shop: Shop, faults: Faults) -> None:
        super().__init__(shop.stock, shop.payments, faults)
        self._shipments = shop.shipments

    async def turn_back(self, saga_id: str) -> None:
        """Nothing is under way here."""
        raise AssertionError(saga_id)

    async def cancel_rest(self, order_id: UUID, key: str) -> OrderCancelled:
        """Cancel a back-order."""
        return await self._call("cancel_rest", key, lambda: self.cancels(order_id))

    async def keep(self, order_id: UUID, key: str) -> None:
        """Keep a shipment in the house."""
        await self._call("keep", key, lambda: self._shipments.cancel(order_id, 1))

    async def payment(self, order_id: UUID, key: str) -> PaymentView:
        """Return the payment of an order."""
        return await self._call("payment", key, lambda: self._payments.payment_of(order_id))
