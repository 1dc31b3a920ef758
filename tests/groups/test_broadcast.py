"""Every instance is given every event, from where it begins."""

from __future__ import annotations

import msgspec
import pytest

from agent99 import Mesh, UsageError
from agent99.groups import Broadcast, Event
from tests._wait import eventually
from tests.groups.conftest import OpenMesh
from tests.groups.test_event_group import QUICK, Heard, buried
from tests.groups.test_group import fill


async def test_each_instance_hears_each_event(open_mesh: OpenMesh) -> None:
    """Each instance is given what comes from its start on, once, in order per key."""
    meshes, heard = [await open_mesh() for _ in range(3)], [Heard() for _ in range(3)]
    await fill(meshes[0], 4, range(2))
    first, *others = (
        Broadcast(mesh, "prices", ["order.*"], each.handle, options=QUICK)
        for mesh, each in zip(meshes[:2], heard[:2], strict=True)
    )
    async with first, others[0]:
        await fill(meshes[0], 4, range(2, 5))
        options = msgspec.structs.replace(QUICK, start="first")
        async with Broadcast(meshes[2], "prices", ["order.*"], heard[2].handle, options=options):
            await eventually(lambda: [each.count for each in heard] == [12, 12, 20])
        await fill(meshes[0], 4, range(5, 6))
        await eventually(lambda: [each.count for each in heard] == [16, 16, 20])
    assert {f"k{key}": [2, 3, 4, 5] for key in range(4)} == heard[0].done == heard[1].done
    assert {f"k{key}": [0, 1, 2, 3, 4] for key in range(4)} == heard[2].done


async def test_what_one_instance_fails_at(open_mesh: OpenMesh) -> None:
    """It goes into quarantine, others have it, and all get it again when it is redriven."""
    meshes, heard = [await open_mesh() for _ in range(2)], [Heard(("k0", 1)), Heard()]
    one, other = (
        Broadcast(mesh, "prices", [">"], each.handle, options=QUICK)
        for mesh, each in zip(meshes, heard, strict=True)
    )
    async with one, other:
        await fill(meshes[0], 1, range(3))
        await eventually(lambda: [each.count for each in heard] == [2, 3])
        (kept,) = await buried(meshes[0])
        assert ("prices", "k0", "attempts") == (kept.capability, kept.key, kept.reason)
        heard[0].poison.clear()
        await meshes[0].link.durable.quarantine.redrive(kept)
        await eventually(lambda: [each.count for each in heard] == [3, 4])


async def test_what_no_instance_would_hear(mesh: Mesh) -> None:
    """What is redriven while no instance is there stays in quarantine, and is told so."""
    heard = Heard(("k0", 1))
    async with Broadcast(mesh, "prices", [">"], heard.handle, options=QUICK):
        await fill(mesh, 1, range(2))
        kept = await eventually(lambda: buried(mesh))
    with pytest.raises(UsageError, match="no instance of broadcast 'prices' is there"):
        await mesh.quarantine.redrive(kept[0])
    assert kept == await buried(mesh)
    heard.poison.clear()
    async with Broadcast(mesh, "prices", [">"], heard.handle, options=QUICK):
        await mesh.quarantine.redrive(kept[0])
        await eventually(lambda: heard.done["k0"] == [0, 1])
    assert [] == await buried(mesh)


async def test_an_instance_that_breaks(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the work of an instance ends by a bug, it goes on where it was."""
    heard = Heard()
    async with Broadcast(mesh, "prices", [">"], heard.handle, options=QUICK) as broadcast:
        await fill(mesh, 1, range(2))
        await eventually(lambda: heard.count == 2)
        monkeypatch.setattr(broadcast._lane, "_finish", None)
        await fill(mesh, 1, range(2, 4))
        await eventually(lambda: heard.count == 4)
    assert [0, 1, 2, 3] == heard.done["k0"]


async def test_what_cannot_be_a_broadcast(mesh: Mesh) -> None:
    """A wrong one is refused where it starts."""

    async def handle(event: Event) -> None:
        del event

    for topics in ([], ["a.*", "a.b"], ["a..b"]):
        with pytest.raises(UsageError):
            Broadcast(mesh, "prices", topics, handle)
    async with Broadcast(mesh, "prices", ["a"], handle) as broadcast:
        with pytest.raises(UsageError, match="used before"):
            await broadcast.__aenter__()
