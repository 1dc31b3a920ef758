"""An instance that stops hands over what it has in hand, wherever that stands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent99 import Mesh
from agent99.errors import RemoteError
from agent99.saga import PENDING, Desk
from agent99.saga._log import SagaLog
from agent99.saga._markers import Markers
from tests._wait import eventually
from tests.saga._journals import OWNER, Hand
from tests.saga._trips import Trips, World, keeper_of

ROME = {"to": "Rome"}


class Gate:
    """Holds the first call of a method until it is opened."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.waiting = asyncio.Event()
        self.opened = asyncio.Event()
        method = getattr(owner, name)

        async def held(*args: Any, **how: Any) -> Any:
            self.waiting.set()
            await self.opened.wait()
            return await method(*args, **how)

        patch.setattr(owner, name, held)


async def test_a_saga_that_is_being_begun_is_handed_over(
    mesh: Mesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stored, for that was asked for, and nothing of it runs at who stops."""
    world, gate = World(), Gate(monkeypatch, Markers, "create")
    agent = Trips(world)
    await mesh.host(agent)
    keeper = keeper_of(agent)
    call = asyncio.create_task(
        client.request("trips", "book", ROME, idempotency_key="k", timeout_s=0.5)
    )
    await gate.waiting.wait()
    stopping = asyncio.create_task(mesh.stop(agent))
    await eventually(lambda: keeper.is_stopping)
    gate.opened.set()
    await stopping
    with pytest.raises(RemoteError) as pending:
        await call
    assert PENDING == pending.value.code
    (found,) = await Hand(client).markers.every()
    assert ("left", {}) == (found.marker.flag, world.attempts)


async def test_a_saga_that_is_being_read_is_let_be(
    mesh: Mesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose journal is read to take it over is nobody's work yet: it stays as it was."""
    world, gate = World(), Gate(monkeypatch, SagaLog, "read")
    agent = Trips(world)
    saga_id = await Hand(client).open(1)
    await mesh.host(agent)
    keeper = keeper_of(agent)
    await gate.waiting.wait()
    stopping = asyncio.create_task(mesh.stop(agent))
    await eventually(lambda: keeper.is_stopping)
    gate.opened.set()
    await stopping
    view = await Desk(client).find(saga_id)
    assert view is not None
    (found,) = await Hand(client).markers.every()
    assert (OWNER, OWNER, {}) == (view.history.owner, found.marker.owner, world.attempts)


async def test_a_saga_that_is_being_undone_is_handed_over(
    mesh: Mesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The undo that runs is finished, and the next one is another instance's."""
    world, gate = World(), Gate(monkeypatch, Trips, "let_go")
    agent = Trips(world)
    await mesh.host(agent)
    keeper = keeper_of(agent)
    trip = {"to": "Rome", "days": 101}
    call = asyncio.create_task(client.request("trips", "book", trip, timeout_s=0.5))
    await gate.waiting.wait()
    stopping = asyncio.create_task(mesh.stop(agent))
    (held,) = keeper.held.values()
    await eventually(lambda: held.drive is not None and held.drive._is_leaving)
    gate.opened.set()
    await stopping
    with pytest.raises(RemoteError):
        await call
    (found,) = await Hand(client).markers.every()
    assert ("left", ["room"]) == (found.marker.flag, [name for name, _ in world.undone])
