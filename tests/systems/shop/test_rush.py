"""E1: far more customers than units, all at once, over a real server and two inventories."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from agent99.clock import SystemClock
from agent99.errors import RequestError
from agent99.ids import SystemIds
from agent99.systems.shop import InventoryAgent
from agent99.systems.shop._model import StockLevel
from agent99.systems.shop._replay import may_ask_again
from tests._nats_server import NatsServer
from tests.systems.shop._shop import MUG, TEA, order_of
from tests.systems.shop._stand import Stand, a_stand

_ORDERS, _UNITS = 1_000, 100
_TIME_S = 120.0
"""A customer's patience; the machine may be busy."""


class Door:
    """Where customers wait while the shop is full, and ask again by the same key."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._clock = SystemClock()
        self._ids = SystemIds()
        self.turned_away: Counter[str] = Counter()
        """Answers that were no confirmation, by code."""

    async def order(self, number: int) -> str:
        """Order one unit; returns how that ended: a status, or the code of a refusal."""
        order = order_of((TEA, 1, "1.10"), customer=number)
        until_s, pause_s = self._clock.monotonic_s() + _TIME_S, 0.02
        while True:
            try:
                return (await self._stand.place(order, f"k{number}", timeout_s=10.0)).status
            except RequestError as error:
                self.turned_away[error.code] += 1
                if not may_ask_again(error) or self._clock.monotonic_s() > until_s:
                    return error.code
            await self._clock.sleep(pause_s * self._ids.fraction())
            pause_s = min(2 * pause_s, 1.0)


@pytest.mark.slow
async def test_a_thousand_orders_for_a_hundred_units(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """Exactly a hundred are confirmed; nothing is left, held or, at any moment, negative."""
    stock = {TEA: _UNITS, MUG: 0}
    async with a_stand(tmp_path, stock=stock, url=nats_server.url) as stand:
        await stand.host_all(InventoryAgent(stand.settings), InventoryAgent(stand.settings))
        is_over = asyncio.Event()

        async def watch() -> int:
            looks = 0
            while not is_over.is_set():
                level = await stand.client.request(
                    "inventory", "level", {"product_id": TEA}, returns=StockLevel, timeout_s=30.0
                )
                parts = (level.on_hand, level.reserved, level.shipped)
                assert min(parts) >= 0
                assert _UNITS == sum(parts)
                looks += 1
            return looks

        watching = asyncio.ensure_future(watch())
        door = Door(stand)
        ends = Counter(await asyncio.gather(*map(door.order, range(_ORDERS))))
        is_over.set()
        assert await watching > 1
        assert {"confirmed": _UNITS, "INVENTORY_ERROR": _ORDERS - _UNITS} == dict(ends)
        assert (0, 0, _UNITS) == await stand.level(TEA)
        assert door.turned_away["OVERLOADED"] > 0, "they really came at once"
