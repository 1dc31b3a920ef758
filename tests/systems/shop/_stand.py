"""A shop whose agents are each on a mesh of its own, as if in a process; mostly in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from agent99 import Agent, Mesh, Settings, follow
from agent99.clock import SystemClock
from agent99.errors import Failure
from agent99.ids import SystemIds
from agent99.systems.shop import (
    FulfillmentAgent,
    InventoryAgent,
    NotificationAgent,
    OrderProcessingAgent,
    PaymentAgent,
    ShopSettings,
)
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._events import OrderMoved
from agent99.systems.shop._model import OrderConfirmation, OrderView, PlaceOrder, StockLevel
from agent99.systems.shop._opening import open_orders, open_stock
from agent99.systems.shop._settings import settings_in
from agent99.testing import MemoryEngine
from tests._wait import PATIENCE_S
from tests.systems.shop._shop import MUG, ORDER, PRICES, TEA

T = TypeVar("T")

GIVES_UP_S = 1.25
"""A customer's patience: the shortest of which a saga keeps all it ever keeps to tell him so."""
_LOOK_S = 0.01


class Listener(Agent):
    """Follows the orders, and keeps what it hears."""

    uses = ("order_processing",)

    def __init__(self) -> None:
        self.heard: list[OrderMoved] = []

    @follow("order.*")
    async def hear(self, moved: OrderMoved) -> None:
        """Keep it."""
        self.heard.append(moved)


class Stand:
    """The agents of one shop, and a customer in front of it."""

    def __init__(
        self, stack: AsyncExitStack, folder: Path, declines: DeclineRule, url: str = ""
    ) -> None:
        self.settings: ShopSettings = settings_in(folder, declines)
        self._stack = stack
        self._engine = None if url else MemoryEngine()
        mesh = f"stand-{SystemIds().token().decode()[:10]}"
        self._mesh_settings = Settings(project=folder, state_folder=folder, mesh=mesh, url=url)
        self.client: Mesh

    async def open(self, stock: Mapping[UUID, int]) -> None:
        """Stock up, and let the customer in."""
        clock, ids = SystemClock(), SystemIds()
        store, orders = await open_orders(self.settings, clock, ids)
        await orders.add_prices(PRICES)
        await store.aclose()
        store, shelves = await open_stock(self.settings, clock, ids)
        await shelves.fill(stock)
        await store.aclose()
        self.client = await self.mesh()

    async def mesh(self) -> Mesh:
        """Return one more process's worth of the mesh."""
        mesh = Mesh(settings=self._mesh_settings, engine=self._engine)
        return await self._stack.enter_async_context(mesh)

    async def host(self, *agents: Agent) -> None:
        """Host agents, each on a mesh of its own, and wait until the customer sees them."""
        for agent in agents:
            await (await self.mesh()).host(agent)
            instance = agent.instance
            await self.client.registry.wait_until(
                lambda table, instance=instance: table.get(instance) is not None,  # type: ignore[misc]  # mypy sees no type for the default
                timeout_s=PATIENCE_S,
            )

    def order_processing(self) -> OrderProcessingAgent:
        """Return an agent that takes orders."""
        return OrderProcessingAgent(self.settings)

    async def host_all(self, *instead: Agent) -> None:
        """Host the five agents; those given take the place of the usual ones."""
        taken = {capability for agent in instead for capability in agent.capabilities}
        usual: list[Agent] = [
            InventoryAgent(self.settings),
            PaymentAgent(self.settings),
            FulfillmentAgent(self.settings),
            NotificationAgent(self.settings),
            self.order_processing(),
        ]
        await self.host(*instead, *(a for a in usual if not taken & set(a.capabilities)))

    # --- the customer -----------------------------------------------------------------------------

    async def place(
        self, order: PlaceOrder = ORDER, key: str | None = "k", *, timeout_s: float = PATIENCE_S
    ) -> OrderConfirmation:
        """Place an order."""
        return await self.client.request(
            "order_processing",
            payload=order,
            returns=OrderConfirmation,
            idempotency_key=key,
            timeout_s=timeout_s,
        )

    async def refused(
        self, order: PlaceOrder = ORDER, key: str | None = "k", *, timeout_s: float = PATIENCE_S
    ) -> Failure:
        """Place an order that is refused, and return how."""
        try:
            answer = await self.place(order, key, timeout_s=timeout_s)
        except Failure as failure:
            return failure
        message = f"it was confirmed: {answer}"
        raise AssertionError(message)

    async def view(self, order_id: UUID) -> OrderView:
        """Return an order as it stands."""
        return await self.client.request(
            "order_processing", "query", {"order_id": order_id}, returns=OrderView
        )

    async def events(self, order_id: UUID, count: int) -> list[str]:
        """Return what happened to an order, once it is so much."""
        seen: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(seen) < count:
                seen = [entry.event for entry in (await self.view(order_id)).history]
                if len(seen) < count:
                    await asyncio.sleep(_LOOK_S)
        return seen

    async def level(self, product_id: UUID) -> tuple[int, int, int]:
        """Return a product's stock: on hand, reserved, shipped."""
        level = await self.client.request(
            "inventory", "level", {"product_id": product_id}, returns=StockLevel
        )
        return level.on_hand, level.reserved, level.shipped

    async def ask(self, capability: str, payload: Any, operation: str = "request") -> Any:
        """Ask an agent, and return its answer as plain values."""
        return await self.client.request(capability, operation, payload)


@asynccontextmanager
async def a_stand(
    folder: Path,
    *,
    rate: float = 0.0,
    stock: Mapping[UUID, int] | None = None,
    url: str = "",
) -> AsyncIterator[Stand]:
    """Give a stand with stock and without agents; with a URL, on a real server."""
    async with AsyncExitStack() as stack:
        stand = Stand(stack, folder, DeclineRule(rate=rate), url)
        await stand.open({TEA: 100, MUG: 100} if stock is None else stock)
        yield stand
