"""From a confirmed order to its shipment and its message: asked for behind the customer's back.

A failure there undoes nothing: the customer has the confirmation. It stands in the order's history,
and the same order asked for again asks again for what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import Context
from typing import Any, Final, Protocol
from uuid import UUID

from agent99.errors import ClosedError, RequestError, StoreError, TransportError
from agent99.systems.shop._model import (
    Notified,
    Notify,
    OrderConfirmation,
    PlaceOrder,
    Ship,
    Shipment,
)
from agent99.systems.shop._order import Aftermath, Step
from agent99.systems.shop._orders import Orders

IN_HAND_MAX: Final = 200
"""Confirmed orders whose shipment or message is being asked for; beyond them a customer waits."""
END_S: Final = 3.0
"""Seconds that a stopping agent gives to those in hand: of 5 that its `stop` may take."""


class Aftercare(Protocol):
    """What follows a confirmed order."""

    async def ship(self, request: Ship) -> Shipment:
        """Send an order on its way."""
        ...

    async def notify(self, request: Notify) -> Notified:
        """Tell a customer."""
        ...


class Log(Protocol):
    """Where a failure is told that could not even be written down."""

    def warning(self, msg: object, *args: object) -> None:
        """Tell of it."""
        ...


class Handover:
    """Asks for the shipment and the message of confirmed orders, and writes down what came of it.

    Invariant: at most `IN_HAND_MAX` orders are in hand, each once.
    """

    def __init__(self, orders: Orders, aftercare: Aftercare, log: Log) -> None:
        self._orders = orders
        self._aftercare = aftercare
        self._log = log
        self._places = asyncio.Semaphore(IN_HAND_MAX)
        self._in_hand: dict[UUID, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"Handover(in_hand={len(self._in_hand)})"

    async def take(self, request: PlaceOrder, confirmation: OrderConfirmation) -> None:
        """Take an order in hand; returns at once unless too many are."""
        order_id = confirmation.order_id
        if order_id in self._in_hand:
            return
        await self._places.acquire()
        # In a context of its own: it has no part in the deadline of the request in hand.
        task = asyncio.get_running_loop().create_task(
            self._attend(request, confirmation), context=Context()
        )
        self._in_hand[order_id] = task
        task.add_done_callback(lambda _: self._done(order_id))

    async def aclose(self) -> None:
        """Let those in hand finish; after `END_S` the rest is given up, which is logged."""
        tasks = list(self._in_hand.values())
        if not tasks:
            return
        _, unfinished = await asyncio.wait(tasks, timeout=END_S)
        for task in unfinished:
            task.cancel()
        if unfinished:
            self._log.warning(
                "%d shipments or messages were not asked for in time", len(unfinished)
            )
            await asyncio.wait(unfinished)

    def _done(self, order_id: UUID) -> None:
        del self._in_hand[order_id]
        self._places.release()

    async def _attend(self, request: PlaceOrder, confirmation: OrderConfirmation) -> None:
        order_id = confirmation.order_id
        try:
            done = await self._orders.steps_of(order_id)
            wanted: dict[Step, Awaitable[Any]] = {}
            if Step.SHIP not in done:
                ship = Ship(order_id, request.items, request.shipping_address)
                wanted[Step.SHIP] = self._aftercare.ship(ship)
            if Step.NOTIFY not in done:
                wanted[Step.NOTIFY] = self._aftercare.notify(_message(request, confirmation))
            if wanted:
                came = await asyncio.gather(*(_outcome(*each) for each in wanted.items()))
                await self._orders.note(order_id, came)
        except StoreError as error:
            self._log.warning("what came of order %s could not be kept: %s", order_id, error)


async def _outcome(step: Step, asking: Awaitable[Any]) -> Aftermath:
    try:
        await asking
    except (ClosedError, RequestError, TransportError) as error:
        return Aftermath(step, f"{error.code}: {error}")
    return Aftermath(step)


def _message(request: PlaceOrder, confirmation: OrderConfirmation) -> Notify:
    return Notify(
        type="order_confirmation",
        customer_id=request.customer_id,
        order_id=confirmation.order_id,
        template_data={
            "total": str(confirmation.total),
            "estimated_delivery": confirmation.estimated_delivery.isoformat(),
        },
    )
