"""Who is slow costs itself, within a bound, and every message is accounted for (F11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import quantiles

import pytest

from agent99 import Mesh, Settings
from agent99.testing import ChaosProxy
from agent99.wire import WireOptions
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.agent._load import (
    COOK_S,
    COOKS,
    Counterhand,
    Demand,
    Kitchen,
    Listener,
    PlainEngine,
    probing,
    status_of,
    wire_of,
)

RATE = 10 * COOKS / COOK_S
"""Ten times what the kitchen can do; a handler takes as long as a hundred of them to come."""
SECONDS = 3.0
ORDER = "x" * 32_768
"""What would be kept without a bound: 1,000 of these a second."""
GROWTH_MIB_MAX = 64.0
SLACK_MS = 50.0
"""What a busy machine may cost; a neighbour that waited for the slow one would take twice that."""
SLOW_S = 0.02
"""Each 64 KiB of a slow link take so long: 3.2 MB a second."""
EVENTS = 5_000
BUFFER_BYTES = 1_000_000
TRANSPORT_BYTES = 600_000
"""What the event loop's transport may have in hand beyond that: its own bound and one piece."""

pytestmark = pytest.mark.slow


OpenMesh = Callable[..., Awaitable[Mesh]]


@pytest.fixture
async def server(start_nats_server: Callable[[], NatsServer]) -> NatsServer:
    """Give a server of the test's own: its log says whom it cut off."""
    return await asyncio.to_thread(start_nats_server)


@pytest.fixture
async def proxy(server: NatsServer) -> AsyncIterator[ChaosProxy]:
    """Give a proxy in front of it."""
    async with ChaosProxy(server.port) as made:
        yield made


@pytest.fixture
async def open_mesh(server: NatsServer, tmp_path: Path) -> AsyncIterator[OpenMesh]:
    """Give a function that opens a mesh to the server, or through a proxy with a small buffer."""
    # Every request is made once: else the refused come again.
    settings = Settings(
        project=tmp_path, state_folder=tmp_path, mesh="slow", request_attempts_max=1
    )
    async with AsyncExitStack() as stack:

        async def open_one(proxy: ChaosProxy | None = None) -> Mesh:
            if proxy is None:
                engine = PlainEngine(server.url, server=server)
            else:
                url = f"nats://127.0.0.1:{proxy.port}"
                options = WireOptions(pending_bytes_max=BUFFER_BYTES, ping_interval_s=60)
                engine = PlainEngine(url, server=server, options=options)
            return await stack.enter_async_context(Mesh(settings=settings, engine=engine))

        yield open_one


def exactly(what: str, measured: float, expected: float) -> Figure:
    """Return a figure that must be so."""
    return Figure(what, measured, at_least=expected, at_most=expected)


def p99(values: list[float]) -> float:
    """Return the ninety-ninth percentile."""
    return quantiles(values, n=100)[98]


@pytest.mark.fault("F11", "requests at 10 x an operation's capacity, 32 KiB each")
async def test_an_operation_at_ten_times_its_capacity(
    server: NatsServer, open_mesh: OpenMesh, fault: Fault
) -> None:
    """Answered, refused and dropped are all that were sent; its neighbours do not notice."""
    here, there = await open_mesh(), await open_mesh()
    kitchen, counter = Kitchen(), Counterhand()
    await there.host(kitchen, counter)
    (kitchen_peer,) = await here.wait_for("kitchen")
    (counter_peer,) = await here.wait_for("counter")
    quick = Demand(here, counter_peer, "serve", timeout_s=5)
    async with probing(here) as before_ms:
        await quick.go_on(RATE, SECONDS / 2, {"order": ORDER})
    slow = Demand(here, kitchen_peer, "cook", timeout_s=1.5)
    async with probing(here) as during_ms:
        await slow.go_on(RATE, SECONDS, {"order": ORDER})
    grown_mib = (slow.peak_bytes - quick.peak_bytes) / 2**20
    await eventually(lambda: there.in_flight == 0)
    await settle(there, here)
    operations = (await status_of(here, "kitchen"))["operations"]
    dropped, refused = sum(operations["dropped"].values()), operations["refused"]
    late = wire_of(here).statistics().dropped["late_answer"]
    assert quick.outcomes == {"ok": quick.sent}
    unsent = slow.outcomes["BUFFER_FULL"]  # of a burst, where this process stood still a while
    assert set(slow.outcomes) - {"BUFFER_FULL"} == {"ok", "OVERLOADED", "DEADLINE_EXCEEDED"}
    assert set(operations["dropped"]) == {"deadline"}
    answers = kitchen.cooked + refused
    fault.report(
        Figure("requests sent", slow.sent, at_least=0.9 * RATE * SECONDS),
        Figure("refused", refused),
        Figure("dropped at their deadline", dropped),
        exactly(
            "answered, refused and dropped by the agent", answers + dropped, slow.sent - unsent
        ),
        exactly("ended at the caller, one way or another", slow.outcomes.total(), slow.sent),
        exactly("answers that came in time", in_time(slow), answers - late),
        Figure("memory grew by", grown_mib, "MiB", at_most=GROWTH_MIB_MAX),
        Figure("p99 of a neighbour, with the same load on a quick one", p99(before_ms), "ms"),
        Figure("p99 of a neighbour", p99(during_ms), "ms", at_most=2 * p99(before_ms) + SLACK_MS),
        Figure("connections cut", cuts(server, here, there), at_most=0),
    )


def in_time(demand: Demand) -> int:
    """Return how many answers came in time, the refusals among them."""
    return demand.outcomes["ok"] + demand.outcomes["OVERLOADED"]


async def settle(*meshes: Mesh) -> None:
    """Wait until what each has to write has gone, one after the other."""
    for mesh in meshes:
        await wire_of(mesh).flush(10)


def cuts(server: NatsServer, *meshes: Mesh) -> int:
    """Return how often the server has cut a connection, by its own log too."""
    slow = server.log.read_text().lower().count("slow consumer")
    return slow + sum(wire_of(mesh).statistics().reconnects for mesh in meshes)


@pytest.mark.fault("F11", "requests at 10 x what the caller's link carries, 32 KiB each")
async def test_a_slow_link_at_the_caller(
    server: NatsServer, proxy: ChaosProxy, open_mesh: OpenMesh, fault: Fault
) -> None:
    """The buffer keeps its bound; what it does not take is told, what it does arrives."""
    here, there = await open_mesh(proxy), await open_mesh()
    counter = Counterhand()
    await there.host(counter)
    (peer,) = await here.wait_for("counter")
    proxy.delay_s = SLOW_S
    demand = Demand(here, peer, "serve", timeout_s=0.5)
    await demand.go_on(RATE, SECONDS, {"order": ORDER})
    proxy.heal()
    await settle(here, there, here)
    operations = (await status_of(here, "counterhand"))["operations"]
    stale = operations["dropped"].get("stale", 0)
    late = wire_of(here).statistics().dropped["late_answer"]
    full = demand.outcomes["BUFFER_FULL"]
    assert set(demand.outcomes) <= {"ok", "BUFFER_FULL", "DEADLINE_EXCEEDED"}
    assert set(operations["dropped"]) <= {"stale"}
    fault.report(
        Figure("requests sent", demand.sent, at_least=0.9 * RATE * SECONDS),
        Figure("not taken: the buffer was full", full, at_least=1),
        Figure("dropped by the agent, long past their deadline", stale),
        exactly("ended at the caller, one way or another", demand.outcomes.total(), demand.sent),
        exactly("arrived at the agent", counter.served + stale, demand.sent - full),
        exactly("answers that came in time", demand.outcomes["ok"], counter.served - late),
        Figure(
            "bytes that waited to be written",
            demand.peak_pending,
            at_most=BUFFER_BYTES + TRANSPORT_BYTES,
        ),
        Figure("connections cut", cuts(server, here, there), at_most=0),
    )


@pytest.mark.fault("F11", "answers at 10 x what the agent's link carries, 32 KiB each")
async def test_a_slow_link_at_the_agent(
    server: NatsServer, proxy: ChaosProxy, open_mesh: OpenMesh, fault: Fault
) -> None:
    """An answer that the buffer does not take is counted, and shown; all others arrive."""
    here, there = await open_mesh(), await open_mesh(proxy)
    counter = Counterhand()
    await there.host(counter)
    (peer,) = await here.wait_for("counter")
    proxy.delay_s = SLOW_S
    demand = Demand(here, peer, "fetch", timeout_s=0.5)
    await demand.go_on(RATE, SECONDS, {"size": len(ORDER)})
    proxy.heal()
    await settle(here, there, here)
    operations = (await status_of(here, "counterhand"))["operations"]
    not_sent = operations["dropped"].get("answer_not_sent", 0)
    stale = operations["dropped"].get("stale", 0)
    late = wire_of(here).statistics().dropped["late_answer"]
    assert set(demand.outcomes) == {"ok", "DEADLINE_EXCEEDED"}
    assert set(operations["dropped"]) <= {"answer_not_sent", "stale"}
    fault.report(
        Figure("requests sent", demand.sent, at_least=0.9 * RATE * SECONDS),
        Figure("answers not sent: the buffer was full", not_sent, at_least=1),
        exactly("arrived at the agent", counter.served + stale, demand.sent),
        exactly("answers that came", demand.outcomes["ok"] + late, counter.served - not_sent),
        exactly("ended at the caller, one way or another", demand.outcomes.total(), demand.sent),
        Figure("connections cut", cuts(server, here, there), at_most=0),
    )


@pytest.mark.fault("F11", "5,000 events at once for a listener that hears none of them to its end")
async def test_events_for_a_slow_listener_are_all_accounted_for(
    server: NatsServer, open_mesh: OpenMesh, fault: Fault
) -> None:
    """So many are heard as run and wait; the rest are counted where `status` shows them."""
    here, there = await open_mesh(), await open_mesh()
    listener, quick = Listener(), Listener()
    quick.gate.set()
    await there.host(listener, quick)
    for number in range(EVENTS):
        await here.publish("news.today", {"number": number})
    await wire_of(here).flush()
    await eventually(lambda: quick.heard == EVENTS)
    places = Listener.concurrency_max + Listener.waiting_max
    (slow_one,) = [
        answer.result["events"]
        for answer in (await here.control(None, "status")).answers
        if answer.instance == listener.instance
    ]
    assert slow_one["in_flight"] + slow_one["waiting"] == places
    listener.gate.set()
    await eventually(lambda: there.in_flight == 0)
    dropped = slow_one["dropped"]
    assert set(dropped) == {"overloaded"}
    fault.report(
        Figure("events sent", EVENTS),
        exactly("heard by the slow one", listener.heard, places),
        exactly(
            "heard and dropped, as its status says", listener.heard + sum(dropped.values()), EVENTS
        ),
        exactly("heard by a quick one on the same connection", quick.heard, EVENTS),
        Figure("connections cut", cuts(server, here, there), at_most=0),
    )
