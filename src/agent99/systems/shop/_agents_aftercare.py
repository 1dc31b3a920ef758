"""The agents of the shop that follow up on orders: fulfilment and notification."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent99 import Failure, job, operation
from agent99.clock import Clock
from agent99.ids import Ids
from agent99.systems.shop._agents import ATTEMPTS_MAX, DELAY_S_MAX, ShopAgent
from agent99.systems.shop._delivery import (
    CancelShipment,
    OrderShipments,
    ProviderView,
    SetProvider,
    ShipmentView,
)
from agent99.systems.shop._departures import Departures
from agent99.systems.shop._model import Notified, Notify, OrderQuery, Ship, Shipment
from agent99.systems.shop._provider import PretendProvider, Provider
from agent99.systems.shop._settings import ShopSettings

if TYPE_CHECKING:
    from agent99.systems.shop._messages import Messages
    from agent99.systems.shop._shipments import Shipments


class FulfillmentAgent(ShopAgent):
    """Hands orders to a carrier, whole or in parts; a shipment is named by its order and part."""

    capabilities = ("fulfillment",)

    _shipments: Shipments
    _departures: Departures | None = None

    async def start(self) -> None:
        """Open the store, let its events leave, and look for what was held back long enough."""
        from agent99.systems.shop._opening import open_shipments  # noqa: PLC0415 - loads SQLAlchemy

        self._store, self._shipments = await open_shipments(
            self._settings, self._clock, self._ids, self._traceparent
        )
        self.relay(self._store)
        self._departures = Departures(self._shipments, self._clock, self.log)
        self._departures.start()

    async def stop(self) -> None:
        """Look no longer, and close the store."""
        if self._departures is not None:
            await self._departures.stop()
        await super().stop()

    @job(attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def process_request(self, request: Ship) -> Shipment:
        """Ship a part of an order, or hold it back; the same part is the same shipment."""
        return await self._shipments.ship(request)

    @operation(idempotent=True)
    async def cancel(self, request: CancelShipment) -> ShipmentView:
        """Let a part stay in the house, unless it has left; one that comes later stays too."""
        return await self._shipments.cancel(request.order_id, request.part)

    @operation(idempotent=True)
    async def query(self, query: OrderQuery) -> OrderShipments:
        """Return the shipments of an order."""
        return await self._shipments.of_order(query.order_id)


class NotificationAgent(ShopAgent):
    """Tells customers, once; a message is named by its order, its type and its number.

    Args:
        settings: Where the data is; None: what the environment says.
        provider: Who carries the messages; None: one that pretends to, and keeps them in the store.
        clock: The source of time.
        ids: The source of randomness.
    """

    capabilities = ("notification",)

    _messages: Messages

    def __init__(
        self,
        settings: ShopSettings | None = None,
        *,
        provider: Provider | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        super().__init__(settings, clock=clock, ids=ids)
        self._provider = provider

    async def start(self) -> None:
        """Open the store, and let the events of messages leave."""
        from agent99.systems.shop._opening import open_messages  # noqa: PLC0415 - loads SQLAlchemy

        self._store, self._messages = await open_messages(
            self._settings, self._clock, self._ids, self._traceparent, self._provider
        )
        self.relay(self._store)

    @job(attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def process_request(self, request: Notify) -> Notified:
        """Tell a customer, by the first channel that works; the same again is the same message."""
        return await self._messages.send(request)

    @operation(idempotent=True)
    async def provider(self, wanted: SetProvider) -> ProviderView:
        """Let channels of the pretend provider work or fail, and return how it stands.

        Raises:
            Failure: `PROVIDER_IS_REAL`: it is another, which nobody switches here.
        """
        pretend = self._messages.provider
        if not isinstance(pretend, PretendProvider):
            raise Failure("this provider does not only pretend", code="PROVIDER_IS_REAL")
        if wanted.mode is not None:
            await pretend.set_mode(wanted.channel, wanted.mode)
        return await pretend.view()
