"""Cancellation reaches out of every wait at once, whatever the server or the link does."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from agent99 import Mesh
from agent99.errors import RequestCancelledError
from agent99.testing import ChaosProxy
from agent99.wire import ConnectionState
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.agent._stuck import CALLS, Call, FreezingEngine, Near, World

REACHED_S = 0.05
"""From `cancel` to the end of the task, at most."""
WAITING_S = 0.01
"""So long a call is given to come to its wait."""

ROOMS = ("agent", "journal", "registry", "wire")
"""The rooms whose calls may wait for the server."""
PORTS = {"JetStreamJournal": "Journal", "NatsEngine": "Engine", "NatsWire": "Wire"}
"""What does the work of a port has the port's rows."""
EXCUSED = {
    "Agent.start": "the user's own code",
    "Agent.stop": "the user's own code",
    "Agent.discover": "a look-up: it waits for nothing",
    "Mesh.discover": "a look-up: it waits for nothing",
    "Agent.cache": "opens a namespace: it waits for nothing",
    "Mesh.cache": "opens a namespace: it waits for nothing",
    "Duty": "what a room above does; stopping an instance waits for it, and has its row",
    "Wire.connect_first": "a part of open_wire",
    "Wire.drain_subscription": "a part of Subscription.drain",
    "MemoryJournal": "it gives a turn to others and waits for nothing",
    "MemoryWire": "it waits for the loop alone, and for those that a test cuts and restores",
}
"""By method or by class, why it needs no row."""
_WAITS = ("Awaitable", "Async", "Coroutine", "Future")


def waiting_calls() -> Iterator[str]:
    """Yield every public function, by its port where it has one, that a caller has to await."""
    for room in ROOMS:
        module = importlib.import_module(f"agent99.{room}")
        for name in module.__all__:
            thing = getattr(module, name)
            if not inspect.isclass(thing):
                if _waits(thing):
                    yield name
                continue
            for attribute in dir(thing):
                is_public = not attribute.startswith("_") or attribute.startswith("__a")
                if is_public and _waits(inspect.getattr_static(thing, attribute)):
                    yield f"{PORTS.get(name, name)}.{attribute}"


def _waits(thing: Any) -> bool:
    function = inspect.unwrap(getattr(thing, "__func__", thing)) if callable(thing) else thing
    if not inspect.isfunction(function):
        return False
    returned = str(function.__annotations__.get("return", ""))
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    return is_async or any(word in returned for word in _WAITS)


def test_every_call_that_waits_has_its_row() -> None:
    """A new verb stands in the table of calls, or has a reason why it need not."""
    found = set(waiting_calls())
    excused = {name for name in found if name in EXCUSED or name.split(".")[0] in EXCUSED}
    assert sorted(found - excused - set(CALLS)) == []
    named = {name for name in CALLS if " " not in name}
    assert sorted(named - found) == []
    assert {name.split(".")[0] for name in excused} | excused >= set(EXCUSED)


@pytest.fixture
async def world(
    request: pytest.FixtureRequest, start_nats_server: Callable[[], NatsServer]
) -> AsyncIterator[World]:
    """Give a world whose links have just come to a stop; they go on when the test is over."""
    server = await asyncio.to_thread(start_nats_server)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(ChaosProxy(server.port))
        is_frozen = getattr(request, "param", "frozen server") == "frozen server"
        made = World(server.url if is_frozen else f"nats://127.0.0.1:{proxy.port}", stack)
        await made.open()
        if is_frozen:
            server.stop()
            stack.callback(server.cont)
        else:
            proxy.stall()
            stack.callback(proxy.heal)
        await made.fill()
        yield made


async def least(measure: Callable[[], Awaitable[float]]) -> float:
    """Return what a measurement takes; a machine that is busy gets two more chances."""
    took_s = await measure()
    for _ in range(2):
        if took_s > REACHED_S:
            took_s = min(took_s, await measure())
    return took_s


async def end_of(call: Awaitable[object], *, is_ready: Callable[[], bool] = lambda: True) -> float:
    """Let a call come to its wait and cancel it; returns how long it took to end.

    Raises:
        AssertionError: it did not wait, or did not end by being cancelled.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(call)
    await eventually(is_ready)
    await asyncio.wait([task], timeout=WAITING_S)
    assert not task.done(), f"it did not wait: {task!r}"
    began_s = loop.time()
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled(), f"it was not cancelled: {task!r}"
    return loop.time() - began_s


@pytest.mark.parametrize("world", ["frozen server", "stalled link"], indirect=True)
async def test_cancellation_reaches_out_of_every_call(world: World) -> None:
    """Each ends within 50 ms, with CancelledError, while nothing comes from the server."""
    took_s = {
        name: await least(lambda call=call: end_of(call(world))) for name, call in CALLS.items()
    }
    assert {name: one_s for name, one_s in took_s.items() if one_s > REACHED_S} == {}


@pytest.mark.parametrize("turns", [1, 3, 10, 30])
async def test_opening_can_be_cancelled_anywhere(
    start_nats_server: Callable[[], NatsServer], turns: int
) -> None:
    """Also between the connection and the end of the registry's first look; nothing stays open."""
    server = await asyncio.to_thread(start_nats_server)

    async def open_and_cancel() -> float:
        engine = FreezingEngine(server, turns)
        mesh = Mesh(engine=engine)
        took_s = await end_of(mesh.__aenter__(), is_ready=lambda: engine.has_frozen)
        server.cont()
        assert engine.wire.state is ConnectionState.CLOSED
        await mesh.aclose()
        return took_s

    assert await least(open_and_cancel) <= REACHED_S


async def test_a_mesh_whose_closing_was_cancelled_has_closed(world: World) -> None:
    """What ran is broken off, its agents stop, and to close it again is no wait."""
    mesh = world.spare()
    (near,) = mesh.hosted
    assert isinstance(near, Near)
    near.calls = {"wait": asyncio.Event().wait}
    held = asyncio.ensure_future(mesh.request("near", "call", {"what": "wait"}, timeout_s=60))
    await eventually(lambda: mesh.in_flight == 1)
    await end_of(mesh.aclose())
    with pytest.raises(RequestCancelledError):
        await held
    await mesh.aclose()
    await eventually(lambda: mesh.hosted == [])


async def test_timeouts_and_task_groups_end_what_waits_for_room(world: World) -> None:
    """A full buffer swallows no cancellation, whoever it comes from."""
    loop = asyncio.get_running_loop()

    async def time_out(call: Call) -> float:
        began_s = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await call(world)
        return loop.time() - began_s - 0.01

    async def fail_beside(call: Call) -> float:
        began_s = loop.time()
        with pytest.raises(ExceptionGroup) as caught:
            await _crowd(lambda: call(world))
        assert [ZeroDivisionError] == [type(error) for error in caught.value.exceptions]
        return loop.time() - began_s

    for name in ("Mesh.publish", "Agent.publish", "Wire.wait_writable"):
        for measure in (time_out, fail_beside):
            assert await least(functools.partial(measure, CALLS[name])) <= REACHED_S, name


async def _crowd(call: Callable[[], Awaitable[object]]) -> None:
    """Wait a hundred times, beside something that fails."""

    async def wait() -> None:
        await call()

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(wait())
        group.create_task(fail())


HANDLED = ("Agent.publish", "Agent.request", "Agent.survey", "Bucket.put", "Journal.append")


@pytest.mark.parametrize("how", ["given up", "out of time"])
async def test_cancellation_reaches_what_a_handler_waits_for(world: World, how: str) -> None:
    """A caller that gives up, or its deadline, ends the operation wherever it waits."""
    loop, agent = asyncio.get_running_loop(), world.full_agent
    agent.calls = {name: functools.partial(CALLS[name], world) for name in HANDLED}
    timeout_s = 60.0 if how == "given up" else 2 * WAITING_S

    async def ask(name: str) -> float:
        request = world.full.request("near", "call", {"what": name}, timeout_s=timeout_s)
        asking = asyncio.ensure_future(request)
        ends_s, agent.began, agent.ended_s = loop.time() + timeout_s, False, 0.0
        await eventually(lambda: agent.began)
        if how == "given up":
            await asyncio.wait([asking], timeout=WAITING_S)
            assert not asking.done()
            ends_s = loop.time()
            asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await eventually(lambda: agent.ended_s)
        return agent.ended_s - ends_s

    late = {name: await least(lambda name=name: ask(name)) for name in HANDLED}
    assert {name: late_s for name, late_s in late.items() if late_s > REACHED_S} == {}
