"""What a customer gives back: a saga that only goes forward, once it is known of which orders."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from agent99.saga import Saga, Step
from agent99.systems.shop._identity import derived_uuid, order_uuid, refund_uuid
from agent99.systems.shop._model import StockLine
from agent99.systems.shop._return_model import GiveBack, GivenBack, Matched, OrderReturn
from agent99.systems.shop._returns import Returns


class Services(Protocol):
    """What a return needs of others, each once for its id."""

    async def take_back(
        self, order_id: UUID, return_id: UUID, items: tuple[StockLine, ...], key: str
    ) -> None:
        """Put back what was shipped."""
        ...

    async def refund(self, order_id: UUID, refund_id: UUID, amount_pence: int, key: str) -> None:
        """Give money back."""
        ...


class GivingBack:
    """Takes goods back, and gives the money for them."""

    def __init__(self, returns: Returns, services: Services) -> None:
        self._returns = returns
        self._services = services

    def __repr__(self) -> str:
        return f"GivingBack({self._returns!r})"

    async def give_back(self, request: GiveBack, saga: Saga) -> GivenBack:
        """Find what was bought, put it on the shelf again, and give back what was paid for it."""
        named = None if saga.key is None else order_uuid(saga.key)
        return_id = saga.uuid() if named is None else derived_uuid("return", named)
        matched = await saga.pivot("match", self.match, request, return_id)
        for part in matched.orders:
            await self.settle(return_id, part, saga)
        return GivenBack(
            return_id,
            matched.matched,
            matched.unmatched,
            sum(part.amount_pence for part in matched.orders),
            tuple(part.order_id for part in matched.orders),
        )

    async def settle(self, return_id: UUID, part: OrderReturn, saga: Saga) -> None:
        """Put what a return takes of one order on the shelf again, and give the money for it."""
        if part.items:
            await saga.step("take back", self.take_back, return_id, part)
        if part.amount_pence:
            await saga.step("refund", self.refund, return_id, part)
            await saga.step("note", self.note, return_id, part)

    async def match(self, step: Step, request: GiveBack, return_id: UUID) -> Matched:
        """Find what was bought, and note that it is given back."""
        del step
        return await self._returns.match(request, return_id)

    async def take_back(self, step: Step, return_id: UUID, part: OrderReturn) -> None:
        """Put the goods of one order on the shelf again."""
        named = refund_uuid(return_id, part.order_id)
        await self._services.take_back(part.order_id, named, part.items, step.key)

    async def refund(self, step: Step, return_id: UUID, part: OrderReturn) -> None:
        """Give the money for one order back."""
        named = refund_uuid(return_id, part.order_id)
        await self._services.refund(part.order_id, named, part.amount_pence, step.key)

    async def note(self, step: Step, return_id: UUID, part: OrderReturn) -> None:
        """Write it into the order's history."""
        del step
        await self._returns.note(return_id, part)
