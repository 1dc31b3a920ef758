"""Ten thousand orders to which anything happens, in any order, and much of it twice (E7)."""

from __future__ import annotations

import asyncio
import random

import pytest

from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._states import INITIAL, TRANSITIONS, OrderEvent
from tests.systems.shop._shop import OpenShop, an_id, order_of

ORDERS = 10_000
EVENTS_MAX = 16
AT_ONCE = 64
_ORDER = order_of((an_id("tea"), 1, "1.00"))


def _model(events: list[OrderEvent], luck: random.Random) -> tuple[list[str], list[OrderEvent]]:
    """Return an order's states as the naive model has them, and the events with repetitions.

    What is illegal is ignored; what took effect may come again at any time after that.
    """
    path, took_effect, repeated = [INITIAL], list[OrderEvent](), list[OrderEvent]()
    for event in events:
        repeated.append(event)
        after = TRANSITIONS.get((path[-1], event))
        if after is not None:
            path.append(after)
            took_effect.append(event)
        if took_effect:
            repeated += luck.choices(took_effect, k=luck.randint(0, 2))
    return [state.value for state in path], repeated


async def _live(orders: Orders, number: int, events: list[OrderEvent]) -> list[str]:
    order_id = order_uuid(str(number))
    await orders.take(_ORDER, order_id)
    for event in events:
        try:
            await orders.move(order_id, event)
        except IllegalTransitionError:
            continue
    return [entry.state for entry in (await orders.view(order_id)).history]


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_histories_are_legal(open_shop: OpenShop, seed: int) -> None:
    """Only legal steps are taken, and what comes twice changes nothing."""
    luck, shop = random.Random(seed), await open_shop()
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        events = luck.choices(list(OrderEvent), k=luck.randint(1, EVENTS_MAX))
        path, repeated = _model(events, luck)
        async with places:
            assert path == await _live(shop.orders, number, repeated)

    await asyncio.gather(*map(one, range(ORDERS)))
