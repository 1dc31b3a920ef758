"""The five agents of the shop: the sample's names, operations, answers and codes.

Each is a thin skin: what it decides is in the files beside it, and what it knows is in its store.
SQLAlchemy loads when an agent starts, so that naming the agents costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent99 import Agent, Context, Failure, Handler, operation
from agent99.clock import Clock, SystemClock
from agent99.errors import StoreError
from agent99.ids import Ids, SystemIds
from agent99.systems.shop._aftercare import notify, ship
from agent99.systems.shop._asking import Asker, Patience
from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._model import (
    Charge,
    ChargeReceipt,
    CheckStock,
    Notified,
    Notify,
    OrderConfirmation,
    OrderQuery,
    OrderView,
    PaymentView,
    PlaceOrder,
    Reservation,
    Reserve,
    Restock,
    Ship,
    Shipment,
    StockAnswer,
    StockLevel,
    StockQuery,
)
from agent99.systems.shop._services import MeshServices
from agent99.systems.shop._settings import ShopSettings, load_shop_settings

if TYPE_CHECKING:
    from agent99.store import Store
    from agent99.systems.shop._checkout import Checkout
    from agent99.systems.shop._handover import Handover
    from agent99.systems.shop._orders import Orders
    from agent99.systems.shop._payments import Payments
    from agent99.systems.shop._stock import Stock


async def tell_store_errors(context: Context, payload: Any, proceed: Handler) -> Any:
    """Answer what the store says by its own code, so that the caller knows what may be repeated.

    Raises:
        Failure: with the code of the `StoreError` or `IllegalTransitionError`.
    """
    try:
        return await proceed(context, payload)
    except (StoreError, IllegalTransitionError) as error:
        raise Failure(str(error), code=error.code, retryable=error.retryable) from error


class _ShopAgent(Agent):
    """What all agents of the shop have in common."""

    middleware = (tell_store_errors,)


class _WithStore(_ShopAgent):
    """What the agents with a store have in common.

    Args:
        settings: Where the data is; None: what the environment says.
        clock: The source of time.
        ids: The source of randomness.
    """

    def __init__(
        self,
        settings: ShopSettings | None = None,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        self._settings = settings or load_shop_settings()
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIds()
        self._store: Store | None = None

    async def stop(self) -> None:
        """Close the store."""
        store, self._store = self._store, None
        if store is not None:
            await store.aclose()


class OrderProcessingAgent(_WithStore):
    """Takes orders from request to confirmation, and sees to what follows.

    Args:
        settings: Where the data is; None: what the environment says.
        patience: How long it waits for others, and how often it asks.
        clock: The source of time.
        ids: The source of randomness.
    """

    capabilities = ("order_processing", "e_commerce")
    uses = ("inventory", "payment", "fulfillment", "notification")

    _orders: Orders
    _checkout: Checkout
    _handover: Handover

    def __init__(
        self,
        settings: ShopSettings | None = None,
        *,
        patience: Patience | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        super().__init__(settings, clock=clock, ids=ids)
        self._asker = Asker(self._clock, self._ids, patience)

    async def start(self) -> None:
        """Open the store and read the price list."""
        from agent99.systems.shop._checkout import Checkout  # noqa: PLC0415 - as late as its store
        from agent99.systems.shop._handover import Handover  # noqa: PLC0415 - as late as its store
        from agent99.systems.shop._opening import open_orders  # noqa: PLC0415 - loads SQLAlchemy

        self._store, self._orders = await open_orders(self._settings, self._clock, self._ids)
        services = MeshServices(self, self._asker)
        prices = await self._orders.price_list()
        self._checkout = Checkout(self._orders, prices, services)
        self._handover = Handover(self._orders, services, self.log)

    async def stop(self) -> None:
        """Finish what is in hand, then close the store."""
        try:
            await self._handover.aclose()
        finally:
            await super().stop()

    async def process_request(self, order: PlaceOrder) -> OrderConfirmation:
        """Take an order, or go on with it: the same idempotency key is the same order."""
        confirmation = await self._checkout.place(order, self.context.idempotency_key)
        await self._handover.take(order, confirmation)
        return confirmation

    @operation(idempotent=True)
    async def query(self, query: OrderQuery) -> OrderView:
        """Return an order with its lines and its history."""
        return await self._orders.view(query.order_id)


class InventoryAgent(_WithStore):
    """Holds stock for orders, all lines or none; then ships it or lets it go."""

    capabilities = ("inventory", "stock_management")

    _stock: Stock

    async def start(self) -> None:
        """Open the store."""
        from agent99.systems.shop._opening import open_stock  # noqa: PLC0415 - loads SQLAlchemy

        self._store, self._stock = await open_stock(self._settings, self._clock, self._ids)

    async def process_request(self, request: CheckStock) -> StockAnswer:
        """Hold so many of one product, or say how many there are; once per idempotency key."""
        return await self._stock.hold(request, self.context.idempotency_key)

    @operation(idempotent=True)
    async def reserve(self, request: Reserve) -> Reservation:
        """Hold the stock of an order; an order is held once."""
        return await self._stock.reserve(request)

    @operation(idempotent=True)
    async def commit(self, query: OrderQuery) -> Reservation:
        """Ship what is held for an order."""
        return await self._stock.commit(query.order_id)

    @operation(idempotent=True)
    async def release(self, query: OrderQuery) -> Reservation:
        """Put back what is held for an order."""
        return await self._stock.release(query.order_id)

    @operation(idempotent=True)
    async def reservation(self, query: OrderQuery) -> Reservation:
        """Return what is held for an order."""
        return await self._stock.reservation(query.order_id)

    @operation
    async def restock(self, request: Restock) -> StockLevel:
        """Put new units on the shelf; once per idempotency key."""
        return await self._stock.restock(request, self.context.idempotency_key)

    @operation(idempotent=True)
    async def level(self, query: StockQuery) -> StockLevel:
        """Return one product's stock."""
        return await self._stock.level(query.product_id)


class PaymentAgent(_WithStore):
    """Takes money, once per order, and enters it in the ledger."""

    capabilities = ("payment", "billing")

    _payments: Payments

    async def start(self) -> None:
        """Open the store."""
        from agent99.systems.shop._opening import open_payments  # noqa: PLC0415 - loads SQLAlchemy

        self._store, self._payments = await open_payments(self._settings, self._clock, self._ids)

    async def process_request(self, request: Charge) -> ChargeReceipt:
        """Take the money, or decline; once per order, without one once per idempotency key."""
        return await self._payments.charge(request, _key_without_order(request, self.context))

    @operation(idempotent=True)
    async def query(self, query: OrderQuery) -> PaymentView:
        """Return the payment of an order: how an outcome that is unknown becomes known."""
        return await self._payments.payment_of(query.order_id)


class FulfillmentAgent(_ShopAgent):
    """Hands confirmed orders to a carrier; a shipment is named by its order."""

    capabilities = ("fulfillment",)

    async def process_request(self, request: Ship) -> Shipment:
        """Ship an order; the same order is the same shipment."""
        return ship(request)


class NotificationAgent(_ShopAgent):
    """Tells customers; a message is named by its order."""

    capabilities = ("notification",)

    async def process_request(self, request: Notify) -> Notified:
        """Tell a customer; the same order is the same message."""
        return notify(request)


def _key_without_order(request: Charge, context: Context) -> str | None:
    """Return the key where it is needed: a charge of an order is named by the order already."""
    return context.idempotency_key if request.order_id is None else None
