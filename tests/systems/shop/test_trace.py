"""One order's way through all agents of the shop, each in a process of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent99.clock import SystemClock
from agent99.ids import SystemIds
from agent99.systems.shop._opening import open_orders, open_stock
from agent99.systems.shop._settings import settings_in
from tests._wait import wait_until
from tests.cli._cli import TIMEOUT_S, Cli
from tests.systems.shop._shop import MUG, ORDER, PRICES, TEA

AGENTS = ("OrderProcessing", "Inventory", "Payment", "Fulfillment", "Notification")
COUNTER = f"""
import json

from agent99 import Agent, control

ORDER = json.loads({msgspec.json.encode(ORDER).decode()!r})


class Counter(Agent):
    uses = ("order_processing",)

    @control
    async def sell(self, key: str) -> str:
        await self.request("order_processing", payload=ORDER, idempotency_key=key)
        return self.context.event_id
"""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Cli]:
    """Give the shop, open, with stock; six processes, one agent each."""
    cli = Cli(tmp_path / "shop")
    data = Path(cli.environ["AGENT99_STATE"]) / "shop"
    data.mkdir(parents=True)
    asyncio.run(_stock_up(data))
    cli.write("counter.py", COUNTER)
    try:
        started = [cli.start("run", f"agent99.systems.shop:{each}Agent") for each in AGENTS]
        started.append(cli.start("run", "counter.py"))
        for each in started:
            each.wait_line("^ready: ")
        yield cli
    finally:
        cli.close()


async def _stock_up(folder: Path) -> None:
    clock, ids, settings = SystemClock(), SystemIds(), settings_in(folder)
    store, orders = await open_orders(settings, clock, ids)
    await orders.add_prices(PRICES)
    await store.aclose()
    store, shelves = await open_stock(settings, clock, ids)
    await shelves.fill({TEA: 100, MUG: 100})
    await store.aclose()


@pytest.mark.slow
def test_the_trace_of_an_order_is_complete(shop: Cli) -> None:
    """From intake to what came of its shipment: requests, events of outboxes, and stored work."""
    wait_until(lambda: '"degraded"' not in shop.run("ps", "--json").out, timeout_s=TIMEOUT_S)
    sold = shop.run("ctl", "sell", "counter", "key=one", "--json", "--timeout", "20")
    assert 0 == sold.code, sold
    (answer,) = sold.document["answers"]
    event_id = answer["result"]
    last = "note_"  # what follows the answer ends with three entries in the order's history
    wait_until(lambda: shop.run("trace", event_id).out.count(last) == 3, timeout_s=TIMEOUT_S)
    done = shop.run("trace", event_id)
    assert (0, "") == (done.code, done.err)
    head, root, *hops = done.out.splitlines()
    assert re.fullmatch(r"trace [0-9a-f]{32}: 13 requests of 6 instances, [\d.]+ ms", head)
    assert root.startswith("control counter.sell  served by counter ")
    assert "?" not in done.out
    asked = {
        (0, "order_processing.request", "counter", "order-processing"),
        (1, "inventory.reserve", "order-processing", "inventory"),
        (1, "payment.authorise", "order-processing", "payment"),
        (1, "inventory.commit", "order-processing", "inventory"),
        (1, "payment.capture", "order-processing", "payment"),
    }
    followed = {
        (1, "event order.confirmed.hand_over", "", "order-processing"),
        (2, "job fulfillment.request", "", "fulfillment"),
        (3, "event shipment.shipped.note_shipment", "", "order-processing"),
        (2, "job notification.request", "", "notification"),
        (3, "event notification.sent.note_message", "", "order-processing"),
        (4, "job notification.request", "", "notification"),
        (5, "event notification.sent.note_message", "", "order-processing"),
    }
    assert asked | followed == {_hop(line) for line in hops}
    order = [_hop(line)[1] for line in hops]
    assert order.index("job fulfillment.request") + 1 == order.index(
        "event shipment.shipped.note_shipment"
    )


def _hop(line: str) -> tuple[int, str, str, str]:
    """Return how deep a hop stands, what it is, and by whom of whom it was asked."""
    found = re.fullmatch(
        r"(?P<bars>[ │]*)[├└]─ (?P<what>\S+|(?:job|event) \S+)"
        r"(?:  ok [\d.]+ ms  asked by (?P<asked>\S+) \w{8})?"
        r"  served by (?P<served>\S+) \w{8} in [\d.]+ ms(?: OK)?",
        line,
    )
    assert found, line
    bars, what, asked, served = found["bars"], found["what"], found["asked"], found["served"]
    return len(bars) // 3, what, asked or "", served
