"""The agent that knows what became of each order, from its events alone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99 import Failure, follow, operation
from agent99.agent import link_of
from agent99.clock import Clock
from agent99.errors import StoreError
from agent99.ids import Ids
from agent99.systems.shop._agents import ATTEMPTS_MAX, DELAY_S_MAX, ShopAgent
from agent99.systems.shop._events import TOLD, read_told
from agent99.systems.shop._history_log import HistoryLog
from agent99.systems.shop._history_model import (
    HistoryDigest,
    OrderAudit,
    OrderRecord,
    Rebuild,
    Rebuilt,
)
from agent99.systems.shop._model import OrderQuery
from agent99.systems.shop._settings import ShopSettings

if TYPE_CHECKING:
    from agent99.systems.shop._history import History

LOG_INCOMPLETE: Final = "LOG_INCOMPLETE"
EVENT_UNREADABLE: Final = "EVENT_UNREADABLE"
LOOK_S: Final = 0.2
"""Seconds between two comparisons, while the live model catches up."""


class OrderHistoryAgent(ShopAgent):
    """Keeps a read model of all orders by following their events; it asks no other agent.

    Args:
        settings: Where the read model is; None: what the environment says.
        clock: The source of time.
        ids: The source of randomness.
    """

    capabilities = ("order_history",)

    _history: History

    def __init__(
        self,
        settings: ShopSettings | None = None,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        super().__init__(settings, clock=clock, ids=ids)
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Open the store."""
        from agent99.systems.shop._opening import open_history  # noqa: PLC0415 - loads SQLAlchemy

        self._store, self._history = await open_history(self._settings, self._clock, self._ids)

    @follow("order.*", attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def hear_order(self, content: dict[str, Any]) -> None:
        """Fold a step of an order, or a refund, into its record."""
        await self._hear(content)

    @follow("shipment.*", attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def hear_shipment(self, content: dict[str, Any]) -> None:
        """Fold what became of a shipment into its order's record."""
        await self._hear(content)

    @follow(TOLD, attempts_max=ATTEMPTS_MAX, delay_s_max=DELAY_S_MAX)
    async def hear_message(self, content: dict[str, Any]) -> None:
        """Fold a message into its order's record."""
        await self._hear(content)

    @operation(idempotent=True)
    async def status(self, query: OrderQuery) -> OrderRecord:
        """Return an order as its events tell it."""
        return await self._history.record(query.order_id)

    @operation(idempotent=True)
    async def audit(self, query: OrderQuery) -> OrderAudit:
        """Return every event of an order that the log keeps, in the log's order."""
        from agent99.systems.shop._history import no_order  # noqa: PLC0415 - loads SQLAlchemy

        events = await self._log().of_order(query.order_id)
        if not events:
            raise no_order(query.order_id)
        return OrderAudit(query.order_id, events)

    @operation(idempotent=True)
    async def digest(self) -> HistoryDigest:
        """Return how many orders there are, by state, and the hash of all records."""
        return await self._history.digest()

    @operation(idempotent=True)
    async def rebuild(self, request: Rebuild) -> Rebuilt:
        """Make the read model anew from the first event of the log, and compare it with the old."""
        async with self._turn:
            return await self._rebuild(request.patience_s)

    async def _hear(self, content: dict[str, Any]) -> None:
        topic = self.context.request.to_uuid
        try:
            told = read_told(topic, content)
        except msgspec.ValidationError as error:  # it never will be: to the quarantine at once
            raise Failure(f"{topic}: {error}", code=EVENT_UNREADABLE) from error
        if told is not None:
            await self._history.hear(told)

    async def _rebuild(self, patience_s: float) -> Rebuilt:
        """Build a second model beside the first; what is told meanwhile goes into both.

        Read after the second was begun, the log has all that was told before; so nothing is
        missing. The live one may be behind the log: it has some time to catch up.
        """
        log = self._log()
        first = await log.first_sequence()
        if first > 1:
            raise Failure(
                "the log no longer keeps its oldest events; the read model stays as it is",
                code=LOG_INCOMPLETE,
                details={"first_sequence": first},
            )
        generation = await self._history.begin()
        try:
            return await self._build(log, generation, patience_s)
        finally:  # one that was broken off would be kept up with the live one
            with suppress(StoreError):
                await self._history.forget(generation)

    async def _build(self, log: HistoryLog, generation: int, patience_s: float) -> Rebuilt:
        events = 0
        async for batch in log.batches():
            events += len(batch)
            await self._history.add(generation, batch)
        until_s = self._clock.monotonic_s() + patience_s
        while True:
            before, after = await self._history.compare(generation)
            if before.hash == after.hash or self._clock.monotonic_s() >= until_s:
                break
            await self._clock.sleep(LOOK_S)
        await self._history.replace(generation)
        return Rebuilt(before, after, events, before.hash == after.hash)

    def _log(self) -> HistoryLog:
        link = link_of(self)
        return HistoryLog(link.journal, link.subjects, link.durable.streams.log)
