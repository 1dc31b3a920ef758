"""Context variables belong to one request; what ends it is counted, wherever its caller is."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

from agent99.dispatch import Call
from agent99.envelope import Header
from tests._wait import eventually
from tests.dispatch.conftest import Bench
from tests.dispatch.test_dispatcher import settle

TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def submit(bench: Bench, route: Any, ttl_s: float = 5.0) -> Call:
    """Hand over a request from this process."""
    header = Header(type="request", from_uuid="c", to_uuid="w", event_uuid="e", timestamp=1)
    deadline_s = bench.clock.monotonic_s() + ttl_s
    return bench.dispatcher.submit(
        route, header, b"{}", sender="alice", deadline_s=deadline_s, headers={}
    )


@pytest.mark.parametrize("waits", [True, False])
async def test_what_a_handler_sets_no_other_request_sees(waits: bool) -> None:
    """Not the one that waited for its place either, and is started when it ends."""
    bench, seen, gate = Bench(concurrency_max=1, waiting_max=10), list[str](), asyncio.Event()

    async def first(_payload: Any) -> None:
        TENANT.set("first")
        await gate.wait()

    async def waiting(_payload: Any) -> None:
        seen.append(TENANT.get())
        TENANT.set("second")
        await asyncio.sleep(0)

    async def direct(_payload: Any) -> None:
        seen.append(TENANT.get())
        TENANT.set("second")

    holds = bench.offer(first, operation="holds")
    looks = bench.offer(waiting if waits else direct, operation="looks")
    bench.receive(holds, bench.message())
    for _ in range(3):
        bench.receive(looks, bench.message())
    gate.set()
    await eventually(lambda: len(seen) == 3)
    assert ["nobody"] * 3 == seen


async def test_a_callers_variables_do_not_travel() -> None:
    """Within a process as little as to another one."""
    bench, seen = Bench(), list[str]()

    async def look(_payload: Any) -> None:
        seen.append(TENANT.get())
        await asyncio.sleep(0)

    route = bench.offer(look)
    token = TENANT.set("caller")
    submit(bench, route)
    TENANT.reset(token)
    await settle()
    assert ["nobody"] == seen


async def test_errors_told_within_the_process_are_counted() -> None:
    """Out of time, or broken off: the status says so, as for those that travelled."""
    bench = Bench()
    route = bench.offer(lambda _: asyncio.get_running_loop().create_future())
    late, broken_off = submit(bench, route, ttl_s=1.0), submit(bench, route, ttl_s=60.0)
    await bench.clock.advance(2.0)
    bench.dispatcher.stop()
    await settle()
    assert ("error", "error") == (late.outcome, broken_off.outcome)
    counts = bench.dispatcher.statistics()
    assert (2, 2, {}) == (counts.requests, counts.errors, counts.dropped)
    assert "CANCELLED" in counts.last_error
