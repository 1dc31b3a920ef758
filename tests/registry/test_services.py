"""The NATS services protocol, asked by a stock client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.errors import NoRespondersError
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

from agent99.clock import SystemClock
from agent99.envelope import Subjects
from agent99.ids import SystemIds
from agent99.registry import Description, OperationCounts, Services
from agent99.registry._services import semantic_version
from agent99.wire import NatsWire, open_wire
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S
from tests.registry._describe import describe

_STARTED_US = 1_700_000_000_123_456


class _Running:
    def __init__(self, description: Description) -> None:
        self.description = description

    def counts(self, operation: str) -> OperationCounts:
        return (
            OperationCounts(4, 1, "no stock", 4_000)
            if operation == "reserve"
            else (OperationCounts())
        )


@pytest.fixture
async def wire(nats_server: NatsServer) -> AsyncIterator[NatsWire]:
    """Give a connection of ours."""
    ids = SystemIds()
    opened = await open_wire(nats_server.url, sender=ids.token()[:8], clock=SystemClock(), ids=ids)
    yield opened
    await opened.aclose()


@pytest.fixture
async def stock(nats_server: NatsServer) -> AsyncIterator[Client]:
    """Give a connection of the stock client."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest.fixture
async def running(wire: NatsWire) -> list[Description]:
    """Give three instances under names that no other test uses, answered for by one process."""
    ids = SystemIds()
    unique = ids.token().decode()[:8]
    services = Services(wire, Subjects("m1", wire.sender.decode()))
    descriptions = [
        describe(
            ids.uuid(),
            f"{name}-{unique}",
            "inventory",
            "stock",
            version="1.2",
            description="Keeps the stock.",
            operations=("reserve", "release"),
            metadata={"region": "eu"},
            started_us=_STARTED_US,
        )
        for name in ("stock", "stock", "till")
    ]
    for description in descriptions:
        services.add(_Running(description))
    await wire.flush()
    return descriptions


async def _ask(client: Client, subject: str, count: int) -> list[dict[str, Any]]:
    """Return the first `count` answers."""
    answers: list[dict[str, Any]] = []
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(subject, b"", reply=inbox)
    async with asyncio.timeout(PATIENCE_S):
        async for message in subscription.messages:
            answers.append(json.loads(message.data))
            if len(answers) >= count:
                break
    await subscription.unsubscribe()
    return answers


async def test_ping_by_name(stock: Client, running: list[Description]) -> None:
    """Every instance of a name answers a ping to the name, as the stock client understands it."""
    name = running[0].name
    answers = await _ask(stock, f"$SRV.PING.{name}", 2)
    pings = [ServicePing.from_dict(answer) for answer in answers]
    assert {d.instance for d in running[:2]} == {ping.id for ping in pings}
    assert {(name, "1.2.0")} == {(ping.name, ping.version) for ping in pings}
    assert {"io.nats.micro.v1.ping_response"} == {answer["type"] for answer in answers}


async def test_info_by_name_and_id(stock: Client, running: list[Description]) -> None:
    """One instance tells its endpoints, with subject and queue group."""
    about = running[0]
    message = await stock.request(f"$SRV.INFO.{about.name}.{about.instance}", b"", timeout=5)
    info = ServiceInfo.from_dict(json.loads(message.data))
    assert "io.nats.micro.v1.info_response" == info.type
    assert ("Keeps the stock.", about.instance) == (info.description, info.id)
    assert "eu" == info.metadata["region"]
    assert "inventory,stock" == info.metadata["agent99.capabilities"]
    assert [
        ("reserve", f"a99.m1.name.{about.name}.reserve.*", "q"),
        ("release", f"a99.m1.name.{about.name}.release.*", "q"),
    ] == [(e.name, e.subject, e.queue_group) for e in info.endpoints]


async def test_stats(stock: Client, running: list[Description]) -> None:
    """One instance tells its counts and when it started."""
    about = running[2]
    message = await stock.request(f"$SRV.STATS.{about.name}.{about.instance}", b"", timeout=5)
    raw = json.loads(message.data)
    assert "io.nats.micro.v1.stats_response" == raw["type"]
    stats = ServiceStats.from_dict(raw)
    assert "2023-11-14T22:13:20.123456" == stats.started.isoformat()
    assert [("reserve", 4, 1, "no stock", 4_000, 1_000), ("release", 0, 0, "", 0, 0)] == [
        (
            e.name,
            e.num_requests,
            e.num_errors,
            e.last_error,
            e.processing_time,
            e.average_processing_time,
        )
        for e in stats.endpoints
    ]


async def test_everybody_answers_the_bare_verb(stock: Client, running: list[Description]) -> None:
    """`$SRV.PING` is answered by each instance of the process."""
    wanted = {d.instance for d in running}
    seen: set[str] = set()
    inbox = stock.new_inbox()
    subscription = await stock.subscribe(inbox)
    await stock.publish("$SRV.PING", b"", reply=inbox)
    # Other tests' services on the shared server may answer, too.
    async with asyncio.timeout(PATIENCE_S):
        async for message in subscription.messages:
            seen.add(json.loads(message.data)["id"])
            if wanted <= seen:
                break


async def test_nobody_answers_for_who_is_not_there(
    stock: Client, running: list[Description]
) -> None:
    """An unknown id has no responders at all."""
    with pytest.raises(NoRespondersError):
        await stock.request(f"$SRV.PING.{running[0].name}.nobody", b"", timeout=5)


async def test_who_is_removed_answers_no_more(wire: NatsWire, stock: Client) -> None:
    """Subscriptions come and go with the instances, and are shared."""
    services = Services(wire, Subjects("m1", "s1"))
    unique = SystemIds().token().decode()[:8]
    one, two = describe("i1", f"one-{unique}"), describe("i2", f"one-{unique}")
    services.add(_Running(one))
    services.add(_Running(two))
    services.add(_Running(two))
    assert "Services(instances=2, subscriptions=4)" == repr(services)
    services.remove("i1")
    services.remove("i1")
    await wire.flush()
    with pytest.raises(NoRespondersError):
        await stock.request(f"$SRV.PING.{one.name}.i1", b"", timeout=5)
    assert "i2" == (await _ask(stock, f"$SRV.PING.{one.name}", 1))[0]["id"]
    services.close()
    services.close()
    assert "Services(instances=0, subscriptions=0)" == repr(services)


async def test_answers_go_to_inboxes_only(wire: NatsWire, stock: Client) -> None:
    """A request that names another subject for its answer is counted and not answered."""
    services = Services(wire, Subjects("m1", "s1"))
    unique = SystemIds().token().decode()[:8]
    services.add(_Running(describe("i1", f"one-{unique}")))
    await wire.flush()
    await stock.publish(f"$SRV.PING.one-{unique}", b"", reply="$JS.API.STREAM.DELETE.orders")
    await stock.publish(f"$SRV.PING.one-{unique}", b"")
    await stock.publish(f"$SRV.DANCE.one-{unique}", b"", reply=stock.new_inbox())
    await _ask(stock, f"$SRV.PING.one-{unique}", 1)  # in order: the others were received before
    assert {"no_inbox": 2, "unknown_verb": 1} == services.dropped
    services.close()


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.2.3", "1.2.3"),
        ("1.2.3-rc.1+build.5", "1.2.3-rc.1+build.5"),
        ("2", "2.0.0"),
        ("2.1", "2.1.0"),
        ("", "0.0.0"),
        ("1.2.3.4", "0.0.0"),
        ("01.2.3", "0.0.0"),
        ("latest", "0.0.0"),
    ],
)
def test_versions_are_semantic(version: str, expected: str) -> None:
    """What is no semantic version is made one."""
    assert expected == semantic_version(version)
