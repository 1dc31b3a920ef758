"""Delivers what orders wait for: the shop's supplier, who looks at its order book."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from agent99 import Mesh
from agent99.systems.shop._model import OrderQuery, OrderView, Restock, StockLevel, StockQuery
from agent99.systems.shop._states import OrderState


class Supplier:
    """Puts on the shelves what orders wait for.

    What arrives is anybody's: where others were faster it is delivered again.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._deliveries: Counter[UUID] = Counter()

    def __repr__(self) -> str:
        return f"Supplier(deliveries={self._deliveries.total()})"

    async def deliver(self, order_id: UUID) -> OrderView:
        """Deliver what an order waits for, if it waits; return how it stood.

        Raises:
            RequestError, TransportError: there is no such order, or nobody answers; what was
                delivered is not delivered again for that.
        """
        view = await self._mesh.request(
            "order_processing", "query", OrderQuery(order_id), returns=OrderView
        )
        if view.state != OrderState.BACK_ORDERED:
            return view
        number = self._deliveries[order_id]
        wanted: Counter[UUID] = Counter()
        for line in view.items:
            wanted[line.product_id] += line.quantity
        for product_id, units in wanted.items():
            level = await self._mesh.request(
                "inventory", "level", StockQuery(product_id), returns=StockLevel
            )
            if level.on_hand >= units:
                continue  # it has arrived, and the order has not looked since
            await self._mesh.request(
                "inventory",
                "restock",
                Restock(product_id, units),
                idempotency_key=f"{order_id}:{product_id}:{number}",
            )
        self._deliveries[order_id] = number + 1
        return view
