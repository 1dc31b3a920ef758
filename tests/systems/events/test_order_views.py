"""What the shop's events come to: an order's history, and what was sold on each day."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent99 import Failure, Mesh
from agent99.systems.events import History, OrderViewsAgent, Revenue
from agent99.systems.events._order_views import INVOICE
from agent99.systems.events._views_agent import Views


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Give the address of a database that is not there yet."""
    return f"sqlite:///{tmp_path}/views.db"


async def invoice(mesh: Mesh, order: str, day: int) -> None:
    """Say what the till says of an order."""
    said = {
        "order_id": order,
        "invoice": order,
        "at": f"2010-05-{day:02}T12:00:00",
        "country": "UK",
    }
    await mesh.append(INVOICE, said, key=order)


async def move(mesh: Mesh, order: str, state: str, pence: int, **how: Any) -> None:
    """Say that an order has come into a state."""
    said = {"order_id": order, "total_pence": pence, "at_us": 86_400_000_000, "state": state}
    await mesh.append(f"order.{state}", said, key=order, **how)


async def settled(mesh: Mesh) -> None:
    """Wait until the views are behind nothing."""
    while True:
        views = await mesh.request("order_views", "views", returns=Views)
        if not any(view.backlog for view in views.views):
            return


async def test_a_day_is_what_was_confirmed_on_it(mesh: Mesh, database: str) -> None:
    """What is confirmed counts on its invoice's day, what is cancelled then is taken off again."""
    await mesh.host(OrderViewsAgent(database))
    for order, day, pence in (("a", 3, 100), ("b", 3, 50), ("c", 4, 7), ("d", 5, 1)):
        await invoice(mesh, order, day)
        await move(mesh, order, "received", pence)
        if order != "d":
            await move(mesh, order, "confirmed", pence)
    await move(mesh, "b", "cancelled", 50)
    await move(mesh, "d", "cancelled", 1)
    await move(mesh, "rest", "confirmed", 9)  # what was not in stock at first: no invoice
    await settled(mesh)
    revenue = await mesh.request("order_views", "daily_revenue", returns=Revenue)
    assert [("1970-01-02", 1, 9), ("2010-05-03", 1, 100), ("2010-05-04", 1, 7)] == [
        (day.day, day.orders, day.pence) for day in revenue.days
    ]
    assert (3, 116) == (revenue.orders, revenue.pence)


async def test_the_history_of_an_order(mesh: Mesh, database: str) -> None:
    """All that was told of it, in order, and of no other one; an unknown one is named."""
    await mesh.host(OrderViewsAgent(database))
    await invoice(mesh, "a", 3)
    for state in ("received", "reserved", "confirmed"):
        await move(mesh, "a", state, 5)
        await move(mesh, "b", state, 5)
    await mesh.append("shipment.shipped", {"order_id": "a"}, key="a")
    await settled(mesh)
    history = await mesh.request("order_views", "order_history", {"order_id": "a"}, returns=History)
    assert [INVOICE, "order.received", "order.reserved", "order.confirmed", "shipment.shipped"] == [
        step.topic for step in history.steps
    ]
    with pytest.raises(Failure, match="nothing was told of order 'x'"):
        await mesh.request("order_views", "order_history", {"order_id": "x"})


async def test_what_is_sent_twice_counts_once(mesh: Mesh, database: str, seed: int) -> None:
    """Whatever an outbox repeats, and however often all is built anew, the sums are the same."""
    luck = random.Random(seed)
    await mesh.host(OrderViewsAgent(database))
    expected: Counter[str] = Counter()
    for number in range(20):
        order, day, pence = f"o{number}", luck.randint(1, 5), luck.randint(1, 999)
        await invoice(mesh, order, day)
        for _ in range(luck.choice((1, 1, 2))):
            await move(mesh, order, "confirmed", pence, event_id=f"{order}-confirmed")
        expected[f"2010-05-{day:02}"] += pence
        if number == 10:
            before = await mesh.request("order_views", "rebuild", returns=Views, timeout_s=20)
            assert [2, 2] == [view.generation for view in before.views]
    await settled(mesh)
    revenue = await mesh.request("order_views", "daily_revenue", returns=Revenue)
    assert expected == {day.day: day.pence for day in revenue.days}
    old = await mesh.request("order_views", "views", returns=Views)
    new = await mesh.request("order_views", "rebuild", returns=Views, timeout_s=20)
    assert [view.digest for view in old.views] == [view.digest for view in new.views]
