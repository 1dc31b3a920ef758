"""One order, live: every step from its first, each once and in order, until its last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Final
from uuid import UUID

from agent99 import Mesh
from agent99.clock import Clock
from agent99.errors import Agent99Error, DeadlineExceededError
from agent99.journal import ConsumerConfig, Deliveries, Delivery
from agent99.systems.shop._events import OrderMoved, Told
from agent99.systems.shop._history_log import HistoryLog, told_by
from agent99.systems.shop._states import ENDS

FORGOTTEN_S: Final = 60.0
"""Seconds after which the server forgets a caller that went without a word."""


async def follow_order(
    mesh: Mesh, order_id: UUID, *, timeout_s: float = 60.0
) -> AsyncGenerator[OrderMoved]:
    """Yield the steps of an order: those that it took already, then each as it takes it.

    It ends with the step by which the order is confirmed, or rejected or cancelled before that;
    what follows a confirmation (shipments, refunds, a late cancellation) is for `order_history`. An
    order that nobody placed yet is waited for.
    Use it with `async for`; who leaves it early closes it (`contextlib.aclosing`), or the server
    forgets the place a minute later.

    Args:
        mesh: Where the shop is.
        order_id: Which order.
        timeout_s: Seconds for all of it.

    Delivery: each step once, in order and without a gap, across restarts of the server and of the
        shop: steps are numbered, and one that comes early waits for those before it.

    Raises:
        DeadlineExceededError: the order has not ended by then; says how far it is.
        JournalError, TransportError, ClosedError
    """
    clock = mesh.link.clock
    until_s = clock.monotonic_s() + timeout_s
    queue = _Queue()
    async with _watched(mesh, order_id) as deliveries:
        while queue.state not in ENDS:
            delivery = await _next(deliveries, clock, until_s)
            if delivery is None:
                message = f"order {order_id} has not ended within {timeout_s:g} s: {queue.standing}"
                raise DeadlineExceededError(message)
            for step in queue.take(told_by(delivery.record)):
                yield step


class _Queue:
    """Steps in their order: one that comes early waits, one that came before is passed over."""

    def __init__(self) -> None:
        self.state = "not received"
        self._next = 0
        self._early: dict[int, OrderMoved] = {}

    def __repr__(self) -> str:
        return f"_Queue(next={self._next}, early={len(self._early)})"

    @property
    def standing(self) -> str:
        """How far the order is, and what is missing, for people."""
        if not self._early:
            return self.state
        return f"{self.state}, and its step {self._next} is not in the log (any more)"

    def take(self, told: Told | None) -> list[OrderMoved]:
        """Return the steps whose turn it is, now that this was told."""
        if isinstance(told, OrderMoved) and told.step >= self._next:
            self._early[told.step] = told
        due: list[OrderMoved] = []
        while (step := self._early.pop(self._next, None)) is not None:
            self._next, self.state = self._next + 1, step.state
            due.append(step)
        return due


@asynccontextmanager
async def _watched(mesh: Mesh, order_id: UUID) -> AsyncGenerator[Deliveries]:
    """Give what the log has of an order's steps, and will have; the server forgets it in the end.

    One consumer reads the past and goes on with the present, so that there is no seam.
    """
    link = mesh.link
    streams = link.durable.streams
    log = HistoryLog(link.journal, link.subjects, streams.log)
    consumer = ConsumerConfig(
        stream=log.stream,
        name=f"order-watch-{link.ids.token().decode()[:20]}",
        subjects=(log.subject_of(order_id, "order.*"),),
        inactive_s=FORGOTTEN_S,
    )
    await streams.ensure_log()
    try:
        async with link.journal.consume(consumer) as deliveries:
            yield deliveries
    finally:
        with suppress(Agent99Error):
            await link.journal.delete_consumer(log.stream, consumer.name)


async def _next(deliveries: Deliveries, clock: Clock, until_s: float) -> Delivery | None:
    """Return the next delivery, acknowledged; None: the time is up."""
    left_s = until_s - clock.monotonic_s()
    if left_s <= 0:
        return None
    try:
        async with asyncio.timeout(left_s):
            delivery = await anext(deliveries)
    except TimeoutError:
        return None
    with suppress(Agent99Error):  # then it comes again, and is known by its number
        await delivery.ack()
    return delivery
