"""What an operator asks for is never lost, whenever he asks: in memory and on a server alike."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from agent99 import Mesh
from agent99.envelope import Name
from agent99.saga import Desk
from agent99.saga._log import SagaLog
from agent99.saga._markers import Flag, Marker, Markers, OpenSaga
from agent99.saga._records import Taken
from tests._wait import eventually
from tests.saga._trips import Trips, World, refusal
from tests.saga.conftest import OpenMesh

ROME = {"to": "Rome"}


def before_flag(
    monkeypatch: pytest.MonkeyPatch, wanted: Flag, act: Callable[[str], Awaitable[object]]
) -> None:
    """Have something done right before a marker is flagged so for the first time."""
    flag, left = Markers.flag, [wanted]

    async def first_act(markers: Markers, agent: str, saga_id: str, what: Flag) -> None:
        if what in left:
            left.clear()
            await act(saga_id)
        await flag(markers, agent, saga_id, what)

    monkeypatch.setattr(Markers, "flag", first_act)


async def test_retry_at_the_moment_at_which_it_is_stuck(
    mesh: Mesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner says in the marker that it is stuck, and must not wipe out what is asked there."""
    world, desk = World(), Desk(client)
    await mesh.host(Trips(world))
    world.fails["print"] = [refusal()]
    before_flag(monkeypatch, "stuck", desk.retry)
    assert await client.request("trips", "paid", ROME, idempotency_key="k")
    (view,) = await desk.every_saga()
    assert ["begun", "stuck", "retry asked", "done"] == [event.what for event in view.events()]


async def test_cancel_at_the_moment_at_which_it_looks(
    mesh: Mesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner takes the flag off when it looks, and must not take that off which came since."""
    world, desk = World(), Desk(client)
    await mesh.host(Trips(world))
    call = asyncio.create_task(
        client.request("trips", "patient", {"trip": ROME, "seconds": 3600}, timeout_s=10)
    )
    await eventually(lambda: world.booked)
    (saga_id,) = await desk.open_ids()

    async def cancel_after_the_look(saga_id: str) -> None:
        await asyncio.sleep(0)
        for _ in range(20):  # the owner has looked by then, if it looks first
            await desk.find(saga_id)
        await desk.cancel(saga_id)

    before_flag(monkeypatch, "", cancel_after_the_look)
    await desk.retry(saga_id)
    view = await desk.wait_settled(saga_id, timeout_s=5)
    assert "cancelled" == view.history.state
    await asyncio.gather(call, return_exceptions=True)


async def test_cancel_at_the_moment_at_which_it_is_taken_over(
    open_mesh: OpenMesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes it over writes its marker anew, and must see what was flagged there just before."""
    one, two = await open_mesh(), await open_mesh()
    world, desk = World(), Desk(client)
    await one.host(Trips(world))
    call = asyncio.create_task(
        client.request("trips", "patient", {"trip": ROME, "seconds": 3600}, timeout_s=10)
    )
    await eventually(lambda: world.booked)
    (saga_id,) = await desk.open_ids()
    take = SagaLog.take

    async def take_before_the_cancel(log: SagaLog) -> None:
        await take(log)
        await desk.cancel(saga_id)

    monkeypatch.setattr(SagaLog, "take", take_before_the_cancel)
    await two.host(Trips(world))
    await one.aclose()
    view = await desk.wait_settled(saga_id, timeout_s=5)
    assert "cancelled" == view.history.state
    await asyncio.gather(call, return_exceptions=True)


async def test_what_is_handed_over_is_taken_once(
    open_mesh: OpenMesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sees a marker that its new owner has not written yet lets the saga be."""
    one, two, three = await open_mesh(), await open_mesh(), await open_mesh()
    world, desk, put, looks = World(), Desk(client), Markers.put, Counter[str]()
    await one.host(Trips(world))
    call = asyncio.create_task(
        client.request("trips", "patient", {"trip": ROME, "seconds": 0.5}, timeout_s=20)
    )
    await eventually(lambda: world.booked)

    async def count(markers: Markers, agent: str = "*") -> list[OpenSaga]:
        looks["all"] += 1
        return await every(markers, agent)

    async def put_late(markers: Markers, agent: Name, saga_id: str, marker: Marker) -> None:
        if not marker.flag:
            until = looks["all"] + 10  # the others look several times in between
            await eventually(lambda: looks["all"] >= until)
        await put(markers, agent, saga_id, marker)

    every = Markers.every
    monkeypatch.setattr(Markers, "every", count)
    monkeypatch.setattr(Markers, "put", put_late)
    await two.host(Trips(world))
    await three.host(Trips(world))
    await one.aclose()
    await call
    (view,) = await desk.every_saga()
    assert 1 == sum(isinstance(record, Taken) for record in view.records)


async def test_cancel_at_the_moment_at_which_its_marker_is_corrected(
    open_mesh: OpenMesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who corrects a marker that is behind takes off no flag of its true owner."""
    one, two = await open_mesh(), await open_mesh()
    world, desk, put, left = World(), Desk(client), Markers.put, [True]
    await one.host(Trips(world))
    call = asyncio.create_task(
        client.request("trips", "patient", {"trip": ROME, "seconds": 3600}, timeout_s=10)
    )
    await eventually(lambda: world.booked)
    (saga_id,) = await desk.open_ids()
    markers = Markers(one.link.journal, one.link.subjects.mesh, replicas=1)
    (found,) = await markers.every("trips")
    await put(markers, Name("trips"), saga_id, replace(found.marker, owner="gone"))

    async def put_after_the_cancel(
        markers: Markers, agent: Name, saga_id: str, marker: Marker
    ) -> None:
        if left:
            left.clear()
            await desk.cancel(saga_id)
        await put(markers, agent, saga_id, marker)

    monkeypatch.setattr(Markers, "put", put_after_the_cancel)
    await two.host(Trips(world))
    view = await desk.wait_settled(saga_id, timeout_s=5)
    assert "cancelled" == view.history.state
    await asyncio.gather(call, return_exceptions=True)
