"""The agent that answers for orders and days from their projections."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec

from agent99 import Agent, Failure, operation
from agent99.projections import ProjectionOptions, Projector
from agent99.systems.events._order_views import (
    DailyRevenue,
    Day,
    OrderSteps,
    Step,
    days_of,
    steps_of,
)

if TYPE_CHECKING:
    from agent99.projections import ProjectionStatus

NO_ORDER = "NO_ORDER"
OPTIONS = ProjectionOptions(poll_s=0.2)
ROWS_MAX = 10_000_000
"""Of a table that is hashed."""


class OrderQuery(msgspec.Struct, frozen=True):
    """Which order."""

    order_id: str


class History(msgspec.Struct, frozen=True):
    """All that was told of an order."""

    order_id: str
    steps: tuple[Step, ...]


class Revenue(msgspec.Struct, frozen=True):
    """What was sold, by day."""

    days: tuple[Day, ...]
    orders: int
    pence: int


class ViewState(msgspec.Struct, frozen=True):
    """How far a projection is."""

    name: str
    generation: int
    backlog: int
    is_rebuilding: bool
    set_aside: int
    digest: str


class Views(msgspec.Struct, frozen=True):
    """How far all projections are."""

    views: tuple[ViewState, ...]


class OrderViewsAgent(Agent):
    """Answers what became of each order, and what was sold on each day, from the events alone.

    Any number of instances may run on one database.

    Args:
        url: The database.
    """

    capabilities = ("order_views",)

    def __init__(self, url: str) -> None:
        self._url = url
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Open the database, and go on where the projections are."""
        from agent99.store import (  # noqa: PLC0415 - loads SQLAlchemy
            StoreOptions,
            make_folder,
            open_store,
        )

        make_folder(self._url)
        async with AsyncExitStack() as stack:
            options = StoreOptions(rows_max=ROWS_MAX)
            store = await stack.enter_async_context(open_store(self._url, options=options))
            steps, revenue = (
                Projector(self, projection, store, options=OPTIONS)
                for projection in (OrderSteps(), DailyRevenue())
            )
            self._steps = await stack.enter_async_context(steps)
            self._revenue = await stack.enter_async_context(revenue)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """Hand over what is in hand, and close."""
        await self._stack.aclose()

    @operation(idempotent=True)
    async def order_history(self, query: OrderQuery) -> History:
        """Return all that was told of an order, in its order."""
        steps = await self._steps.read(lambda tables: steps_of(tables, query.order_id))
        if not steps:
            raise Failure(f"nothing was told of order {query.order_id!r}", code=NO_ORDER)
        return History(query.order_id, steps)

    @operation(idempotent=True)
    async def daily_revenue(self) -> Revenue:
        """Return what was sold on each day: of the orders that are confirmed, gross."""
        days = await self._revenue.read(days_of)
        return Revenue(days, sum(day.orders for day in days), sum(day.pence for day in days))

    @operation(idempotent=True)
    async def views(self) -> Views:
        """Return how far the projections are, each with a hash of its tables."""
        return Views((await self._state(self._steps), await self._state(self._revenue)))

    @operation(idempotent=True)
    async def rebuild(self) -> Views:
        """Build both anew from the first event, beside those that are read, and switch."""
        await self._steps.rebuild()
        await self._revenue.rebuild()
        return await self.views()

    async def _state(self, projector: Projector) -> ViewState:
        status: ProjectionStatus = await projector.status()
        return ViewState(
            name=status.name,
            generation=status.live.generation,
            backlog=status.live.backlog,
            is_rebuilding=status.is_rebuilding,
            set_aside=status.live.set_aside,
            digest=await projector.read(lambda tables: tables.digest()),
        )
