"""The agents of the shop that take orders: the sample's names, operations, answers and codes.

Each is a thin skin: what it decides is in the files beside it, and what it knows is in its store.
Those that follow up on orders are in `_agents_aftercare`.
SQLAlchemy loads when an agent starts, so that naming the agents costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent99 import Agent, Context, Failure, Handler, follow, operation
from agent99.clock import Clock, SystemClock
from agent99.errors import StoreError
from agent99.ids import Ids, SystemIds
from agent99.saga import Saga, saga
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._events import (
    REFUNDED,
    SHIPPED,
    TOLD,
    CustomerTold,
    OrderMoved,
    OrderRefunded,
    OrderShipped,
    order_topic,
)
from agent99.systems.shop._expiry import Expiry
from agent99.systems.shop._handover import hand_over, tell
from agent99.systems.shop._model import (
    Backlog,
    Charge,
    ChargeReceipt,
    CheckStock,
    OrderCancelled,
    OrderConfirmation,
    OrderQuery,
    OrderView,
    PlaceOrder,
    Reservation,
    Reserve,
    Restock,
    StockAnswer,
    StockLevel,
    StockQuery,
)
from agent99.systems.shop._order import CANCELS_REST, WAITS_FOR_STOCK
from agent99.systems.shop._payment_model import (
    Authorisation,
    Authorise,
    Capture,
    CaptureReceipt,
    PaymentView,
    Refund,
    RefundReceipt,
    Voided,
)
from agent99.systems.shop._price_cache import NAMESPACE, NEAR_S, CachedPrices, Prices
from agent99.systems.shop._return_model import GiveBack, GivenBack
from agent99.systems.shop._services import MeshServices
from agent99.systems.shop._settings import ShopSettings, load_shop_settings
from agent99.systems.shop._states import OrderState
from agent99.systems.shop._stock_model import Commit, TakeBack, TakenBack

ATTEMPTS_MAX: Final = 100
DELAY_S_MAX: Final = 30.0
"""What can be done later is tried for three quarters of an hour: as long as a database may be away.
What can never be done ends in quarantine at once."""

if TYPE_CHECKING:
    from agent99.store import Store
    from agent99.systems.shop._cancelling import Cancelling
    from agent99.systems.shop._giving_back import GivingBack
    from agent99.systems.shop._journey import Journey
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


class ShopAgent(Agent):
    """What all agents of the shop have in common: a store, whose errors are told.

    Args:
        settings: Where the data is; None: what the environment says.
        clock: The source of time.
        ids: The source of randomness.
    """

    middleware = (tell_store_errors,)

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

    def _traceparent(self) -> str:
        """Return the trace of what is in hand, for the events that come of it."""
        return self.context.trace.traceparent


class OrderProcessingAgent(ShopAgent):
    """Takes orders from request to confirmation, and sees to what follows."""

    capabilities = ("order_processing", "e_commerce")
    uses = ("inventory", "payment", "fulfillment", "notification")

    _orders: Orders
    _journey: Journey
    _giving_back: GivingBack
    _cancelling: Cancelling
    _services: MeshServices

    async def start(self) -> None:
        """Open the store, read the price list, and let the events of orders leave."""
        from agent99.systems.shop._cancelling import Cancelling  # noqa: PLC0415 - as late as the store
        from agent99.systems.shop._giving_back import GivingBack  # noqa: PLC0415 - as above
        from agent99.systems.shop._journey import Journey  # noqa: PLC0415 - as above
        from agent99.systems.shop._opening import open_orders  # noqa: PLC0415 - loads SQLAlchemy
        from agent99.systems.shop._returns import Returns  # noqa: PLC0415 - as above

        self._store, self._orders = await open_orders(
            self._settings, self._clock, self._ids, self._traceparent
        )
        self._services = MeshServices(self)
        self._journey = Journey(self._orders, await self._prices(), self._services)
        returns = Returns(self._store, self._clock, self._traceparent)
        self._giving_back = GivingBack(returns, self._services)
        self._cancelling = Cancelling(self._orders, returns, self._giving_back, self._services)
        self.relay(self._store)

    async def _prices(self) -> PriceList | CachedPrices:
        if not self._settings.is_cached:
            return await self._orders.price_list()
        cache = await self.cache(NAMESPACE, Prices, near_s=NEAR_S)
        return CachedPrices(cache, self._orders.price_list)

    @saga(version=WAITS_FOR_STOCK)
    async def process_request(self, order: PlaceOrder, saga: Saga) -> OrderConfirmation:
        """Take an order, or go on with it: the same idempotency key is the same order."""
        return await self._journey.place(order, saga)

    @saga
    async def give_back(self, request: GiveBack, saga: Saga) -> GivenBack:
        """Take goods back, and give the money for them: the same key is the same return."""
        return await self._giving_back.give_back(request, saga)

    @saga(version=CANCELS_REST)
    async def cancel(self, query: OrderQuery, saga: Saga) -> OrderCancelled:
        """Cancel an order, and its back-order: undone, or kept in the house and given back."""
        return await self._cancelling.cancel(query.order_id, saga)

    @operation(idempotent=True)
    async def query(self, query: OrderQuery) -> OrderView:
        """Return an order with its lines and its history."""
        return await self._orders.view(query.order_id)

    @operation(idempotent=True)
    async def backlog(self) -> Backlog:
        """Return how many shipments, messages and events of orders are still to come."""
        return await self._orders.backlog()

    @follow(order_topic(OrderState.CONFIRMED), attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def hand_over(self, moved: OrderMoved) -> None:
        """Post the shipment and the message of a confirmed order, and begin its back-order."""
        hold_s = self._settings.grace_s
        await hand_over(self._orders, self._services, moved.order_id, hold_s=hold_s)

    @follow(
        order_topic(OrderState.BACK_ORDERED), attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX
    )
    async def tell_wait(self, moved: OrderMoved) -> None:
        """Post the message of an order that waits for its stock."""
        await tell(self._orders, self._services, moved.order_id, "order_back_ordered")

    @follow(order_topic(OrderState.REJECTED), attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def tell_rejection(self, moved: OrderMoved) -> None:
        """Post the message of a rejected order."""
        await tell(self._orders, self._services, moved.order_id, "order_rejected")

    @follow(order_topic(OrderState.CANCELLED), attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def tell_cancellation(self, moved: OrderMoved) -> None:
        """Post the message of a cancelled order."""
        await tell(self._orders, self._services, moved.order_id, "order_cancelled")

    @follow(REFUNDED, attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def tell_refund(self, refunded: OrderRefunded) -> None:
        """Post the message of a refund."""
        await tell(self._orders, self._services, refunded.order_id, "order_refunded")

    @follow(SHIPPED, attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def note_shipment(self, shipped: OrderShipped) -> None:
        """Write the shipment into its order's history, and post its message."""
        await self._orders.note_shipment(shipped)
        await tell(self._orders, self._services, shipped.order_id, "order_shipped")

    @follow(TOLD, attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def note_message(self, told: CustomerTold) -> None:
        """Write down that a customer was told."""
        await self._orders.note_message(told)


class InventoryAgent(ShopAgent):
    """Holds stock for orders, all lines or none, for a time; then ships it or lets it go."""

    capabilities = ("inventory", "stock_management")

    _stock: Stock
    _expiry: Expiry | None = None

    async def start(self) -> None:
        """Open the store, and let go of what is held for too long from now on."""
        from agent99.systems.shop._opening import open_stock  # noqa: PLC0415 - loads SQLAlchemy

        self._store, self._stock = await open_stock(self._settings, self._clock, self._ids)
        self._expiry = Expiry(self._stock, self._clock)
        self._expiry.start()

    async def stop(self) -> None:
        """Let go of nothing more, and close the store."""
        if self._expiry is not None:
            await self._expiry.stop()
        await super().stop()

    async def process_request(self, request: CheckStock) -> StockAnswer:
        """Hold so many of one product, or say how many there are; once per idempotency key."""
        answer = await self._stock.hold(request, self.context.idempotency_key)
        self._expect(answer.expires_us)
        return answer

    @operation(idempotent=True)
    async def reserve(self, request: Reserve) -> Reservation:
        """Hold the stock of an order for a time; an order is held once."""
        held = await self._stock.reserve(request)
        self._expect(held.expires_us)
        return held

    @operation(idempotent=True)
    async def commit(self, request: Commit) -> Reservation:
        """Ship what is held for an order, or a part of it; a part ships once."""
        return await self._stock.commit_part(request)

    @operation(idempotent=True)
    async def release(self, query: OrderQuery) -> Reservation:
        """Put back what is held for an order."""
        return await self._stock.release(query.order_id)

    @operation(idempotent=True)
    async def take_back(self, request: TakeBack) -> TakenBack:
        """Put what was shipped for an order on the shelf again; a return is taken back once."""
        return await self._stock.take_back(request)

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

    def _expect(self, expires_us: object) -> None:
        """Have what was held just now let go in time, where it was held."""
        if self._expiry is not None and isinstance(expires_us, int):
            self._expiry.expect(expires_us)


class PaymentAgent(ShopAgent):
    """Holds, takes and gives back money, once per order, and enters it in the ledger."""

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
    async def authorise(self, request: Authorise) -> Authorisation:
        """Hold the money of an order, or decline; an order's money is held once."""
        return await self._payments.authorise(request)

    @operation(idempotent=True)
    async def capture(self, request: Capture) -> CaptureReceipt:
        """Take what is held for an order, or a part of it, and let go the rest."""
        return await self._payments.capture(request)

    @operation(idempotent=True)
    async def void(self, query: OrderQuery) -> Voided:
        """Let go what is held for an order, or will be asked for."""
        return await self._payments.void(query.order_id)

    @operation(idempotent=True)
    async def refund(self, request: Refund) -> RefundReceipt:
        """Give back what was taken for an order, or a part of it; once per refund id."""
        return await self._payments.refund(request)

    @operation(idempotent=True)
    async def query(self, query: OrderQuery) -> PaymentView:
        """Return the payment of an order and its refunds: how an unknown outcome becomes known."""
        return await self._payments.payment_of(query.order_id)


def _key_without_order(request: Charge, context: Context) -> str | None:
    """Return the key where it is needed: a charge of an order is named by the order already."""
    return context.idempotency_key if request.order_id is None else None
