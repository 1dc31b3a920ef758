"""Stock NATS tooling sees hosted agents (ADR-32)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import nats
import pytest

from agent99 import Mesh
from agent99.errors import Agent99Error
from tests._nats_server import NatsServer
from tests.agent._agents import Shop


@asynccontextmanager
async def stock_client(url: str) -> AsyncIterator[nats.NATS]:
    """Give a stock client, closed whatever happens: an open one keeps the loop from ending."""
    stock = await nats.connect(url)
    try:
        yield stock
    finally:
        await stock.close()


async def ping_until_refused(stock: nats.NATS, subject: str) -> None:
    """Ping; one that overtakes the end of the subscription gets no answer, and is sent again."""
    for _ in range(5):
        with suppress(nats.errors.TimeoutError):
            await stock.request(subject)


async def test_a_stock_client_pings_reads_and_counts_an_agent(nats_server: NatsServer) -> None:
    """PING, INFO and STATS are answered while the agent runs, with counts per operation."""
    async with (
        stock_client(nats_server.url) as stock,
        Mesh(nats_server.url, mesh="services") as mesh,
    ):
        shop = Shop()
        await mesh.host(shop)
        await mesh.request("shop", "quote", {"quantity": 1})
        with pytest.raises(Agent99Error):
            await mesh.request("shop", "refuse", {"reason": "no"})
        ping = json.loads((await stock.request(f"$SRV.PING.shop.{shop.instance}")).data)
        assert (ping["type"], ping["name"]) == ("io.nats.micro.v1.ping_response", "shop")
        info = json.loads((await stock.request(f"$SRV.INFO.shop.{shop.instance}")).data)
        assert {"quote", "refuse"} <= {endpoint["name"] for endpoint in info["endpoints"]}
        stats = json.loads((await stock.request(f"$SRV.STATS.shop.{shop.instance}")).data)
        counts = {e["name"]: (e["num_requests"], e["num_errors"]) for e in stats["endpoints"]}
        assert (counts["quote"], counts["refuse"]) == ((1, 0), (1, 1))
        await mesh.stop(shop)
        with pytest.raises(nats.errors.NoRespondersError):
            await ping_until_refused(stock, f"$SRV.PING.shop.{shop.instance}")
