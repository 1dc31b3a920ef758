"""A saga that is begun is found, whatever fails while it is begun."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import pytest
from msgspec.structs import replace

from agent99 import Mesh
from agent99.envelope import Name
from agent99.errors import DeadlineExceededError, RequestError
from agent99.saga import Desk, _markers
from agent99.saga._markers import Marker, Markers
from agent99.saga._patrol import Patrol
from tests._wait import eventually
from tests.saga._trips import Trips, World

ROME = {"to": "Rome"}


async def test_without_a_marker_nothing_is_begun(
    mesh: Mesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it cannot be said that it is open, the caller is told, and no journal is written."""

    async def fail(_markers: Markers, _agent: Name, _saga_id: str, _marker: Marker) -> NoReturn:
        raise DeadlineExceededError("the server was killed")

    world = World()
    await mesh.host(Trips(world))
    with monkeypatch.context() as patched:
        patched.setattr(Markers, "create", fail)
        with pytest.raises(RequestError):
            await client.request("trips", "paid", ROME, idempotency_key="k")
    assert not world.booked
    assert [] == await Desk(client).every_saga()
    assert await client.request("trips", "paid", ROME, idempotency_key="k")


async def test_what_is_begun_is_marked_before(
    mesh: Mesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The marker stands before the first record: who dies in between leaves nothing hidden."""
    marked: list[str] = []
    create = Markers.create

    async def note(markers: Markers, agent: Name, saga_id: str, marker: Marker) -> None:
        assert [] == await Desk(client).every_saga()
        await create(markers, agent, saga_id, marker)
        marked.append(saga_id)

    await mesh.host(Trips(World()))
    monkeypatch.setattr(Markers, "create", note)
    await client.request("trips", "paid", ROME, idempotency_key="k")
    (view,) = await Desk(client).every_saga()
    assert [view.saga_id] == marked


async def test_an_orphan_that_is_begun_anew_stays_marked(mesh: Mesh) -> None:
    """Who removes a marker without a journal is too late once somebody is about to begin it."""
    await mesh.host(Trips(World()))
    markers = Markers(mesh.link.journal, mesh.link.subjects.mesh, replicas=1)
    marker = Marker(owner="gone", operation="unknown", version=1, started_us=1)
    await markers.create(Name("trips"), "x", marker)
    (found,) = await markers.every("trips")
    await markers.create(Name("trips"), "x", marker)
    await markers.remove_unchanged(found)
    (again,) = await markers.every("trips")
    await markers.remove_unchanged(again)
    assert [] == await markers.every("trips")


async def test_an_orphan_that_is_begun_anew_is_as_young(mesh: Mesh) -> None:
    """Who looks before its first record is stored must not find it too old."""
    await mesh.host(Trips(World()))
    markers = Markers(mesh.link.journal, mesh.link.subjects.mesh, replicas=1)
    old = Marker(owner="gone", operation="unknown", version=1, started_us=1)
    await markers.create(Name("trips"), "x", old)
    await markers.create(Name("trips"), "x", replace(old, owner="new", started_us=2))
    (found,) = await markers.every("trips")
    assert ("gone", 2) == (found.marker.owner, found.marker.started_us)


async def test_an_orphan_that_is_removed_while_it_is_begun_anew(
    mesh: Mesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever begins a saga has a marker, also where the old one goes in the middle of that."""
    await mesh.host(Trips(World()))
    markers, others = (
        Markers(one.link.journal, one.link.subjects.mesh, replicas=1) for one in (mesh, client)
    )
    marker = Marker(owner="gone", operation="unknown", version=1, started_us=1)
    await markers.create(Name("trips"), "x", marker)
    orphans = await markers.every("trips")

    def remove_first(value: bytes) -> Marker:
        removing.append(asyncio.ensure_future(others.remove_unchanged(orphans[0])))
        return decode(value)

    class Removing:
        """The bucket, whose update comes after the removal."""

        def __getattr__(self, name: str) -> Any:
            return getattr(bucket, name)

        async def update(self, key: str, value: bytes, *, revision: int) -> int:
            await asyncio.gather(*removing)
            return await bucket.update(key, value, revision=revision)

    removing: list[asyncio.Future[None]] = []
    decode, bucket = _markers._decode, await markers._open()
    monkeypatch.setattr(_markers, "_decode", remove_first)
    monkeypatch.setattr(markers, "_bucket", Removing())
    await markers.create(Name("trips"), "x", replace(marker, owner="new"))
    monkeypatch.setattr(_markers, "_decode", decode)
    (found,) = await others.every("trips")
    assert "new" == found.marker.owner


async def test_a_patrol_goes_on_after_any_error(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of ours in one round is logged, and the next round comes."""
    rounds: list[int] = []

    async def break_first(_patrol: Patrol) -> None:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise ZeroDivisionError

    monkeypatch.setattr(Patrol, "_go_round", break_first)
    await mesh.host(Trips(World()))
    await eventually(lambda: len(rounds) > 1)
    assert "the patrol of trips goes on after" in caplog.text
