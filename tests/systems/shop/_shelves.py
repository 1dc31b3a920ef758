"""Shelves whose time stands still: a stock alone, in any number of processes, on a manual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import pytest

from agent99.errors import Failure
from agent99.ids import SystemIds
from agent99.store import Store, Transaction, open_store
from agent99.systems.shop._model import StockLine
from agent99.systems.shop._settings import HOLD_S
from agent99.systems.shop._stock import Stock
from agent99.systems.shop._stock_model import Commit, TakeBack, TakenBack
from agent99.systems.shop._tables import STOCK_MIGRATIONS, STOCK_SCHEMA
from agent99.testing import ManualClock
from tests._wait import PATIENCE_S
from tests.systems.shop._shop import an_id

TEA, MUG, BAG = an_id("tea"), an_id("mug"), an_id("bag")
Levels = dict[UUID, tuple[int, int, int, int]]
"""By product: on hand, reserved, shipped, restocked."""


class Shelves:
    """One database of stock, empty at first, and what opens it as one more process does."""

    def __init__(self, stack: AsyncExitStack, url: str) -> None:
        self.clock = ManualClock()
        self._stack = stack
        self._url = url
        self.store: Store
        """That of the first process."""

    async def open(self, hold_s: float = HOLD_S) -> Stock:
        """Return the stock as one more process has it; the first one clears the tables."""
        store = open_store(self._url, migrations=STOCK_MIGRATIONS, schema=STOCK_SCHEMA)
        await self._stack.enter_async_context(store)
        if not hasattr(self, "store"):
            self.store = store
            await store.transaction(clear)
        return Stock(store, self.clock, SystemIds(), hold_s)

    async def levels(self) -> Levels:
        """Return the stock of every product, after a look at whether it adds up."""
        return await self.store.read(_levels)

    async def states(self) -> dict[UUID, str]:
        """Return the state of every reservation."""
        sql = "SELECT order_id, state FROM reservations"
        found = await self.store.read(lambda tx: tx.execute(sql).all())
        return {UUID(row.order_id): row.state for row in found}


def clear(tx: Transaction) -> None:
    """Empty the tables of the stock."""
    for table in ("stock_moves", "reservation_lines", "reservations", "stock"):
        tx.execute(f"DELETE FROM {table}")
    tx.execute("DELETE FROM agent99_idempotency")


def _levels(tx: Transaction) -> Levels:
    held = {
        row.product_id: (int(row.held or 0), int(row.shipped), int(row.returned))
        for row in tx.execute(
            "SELECT product_id, sum(CASE WHEN state = 'reserved' THEN quantity - shipped END)"
            " AS held, sum(shipped) AS shipped, sum(returned) AS returned"
            " FROM reservation_lines JOIN reservations USING (order_id) GROUP BY product_id"
        )
    }
    found: Levels = {}
    for row in tx.execute("SELECT * FROM stock"):
        assert row.on_hand + row.reserved + row.shipped == row.opening + row.restocked
        assert min(row.on_hand, row.reserved, row.shipped, row.restocked) >= 0
        reserved, shipped, returned = held.get(row.product_id, (0, 0, 0))
        assert (reserved, shipped) == (row.reserved, row.shipped), "the lines say so"
        assert returned <= row.restocked
        levels = (row.on_hand, row.reserved, row.shipped, row.restocked)
        found[UUID(row.product_id)] = levels
    return found


def lines(*wanted: tuple[UUID, int]) -> tuple[StockLine, ...]:
    """Return lines of products and units."""
    return tuple(StockLine(*each) for each in wanted)


def part(order: object, name: object, *wanted: tuple[UUID, int], keep: bool = False) -> Commit:
    """Return a request to ship a part of an order; a name of None names it by the order."""
    part_id = None if name is None else an_id(name)
    return Commit(an_id(order), lines(*wanted), "keep" if keep else "release", part_id)


def back(order: object, name: object, *wanted: tuple[UUID, int]) -> TakeBack:
    """Return a request to take back units of an order."""
    return TakeBack(an_id(order), an_id(name), lines(*wanted))


def taken(order: object, name: object, products: int, units: int) -> TakenBack:
    """Return the answer to it."""
    return TakenBack(an_id(order), an_id(name), products, units)


async def until_expired(stock: Stock, order_id: UUID) -> None:
    """Wait until the reservation of an order has expired: by others, in real time."""
    async with asyncio.timeout(PATIENCE_S):
        while (await stock.reservation(order_id)).state != "expired":
            await asyncio.sleep(0.005)


async def refused(attempt: Awaitable[Any], code: str) -> dict[str, Any]:
    """Return the details of a refusal, which must come, with this code."""
    with pytest.raises(Failure) as caught:
        await attempt
    assert code == caught.value.code
    return caught.value.details
