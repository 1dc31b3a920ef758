"""A group that goes on from elsewhere, while its members work and others notice nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agent99 import Mesh, UsageError
from agent99.groups import (
    Active,
    EventGroup,
    Group,
    Start,
    delete_group,
    inspect_group,
    list_groups,
    preview_reset,
    reset_group,
)
from agent99.store import open_store
from tests._wait import eventually
from tests.groups.conftest import OpenMesh
from tests.groups.test_event_group import QUICK, Heard
from tests.groups.test_group import fill


@pytest.mark.parametrize(
    ("start", "again"), [("first", [0, 1, 2, 3]), (3, [2, 3]), ("last", [3]), ("new", [])], ids=str
)
async def test_a_group_that_is_reset(open_mesh: OpenMesh, start: Start, again: list[int]) -> None:
    """Its events from there on come once more, whoever has them in hand; another group's do not."""
    mesh, heard, others = await open_mesh(), Heard(), Heard()
    await fill(mesh, 1, range(4))
    async with (
        EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK) as group,
        EventGroup(mesh, "others", [">"], others.handle, options=QUICK) as other,
    ):
        await eventually(lambda: heard.count == 4 and others.count == 4)
        await reset_group(await open_mesh(), "mails", start)
        await eventually(lambda: group.statistics().fenced == 64)  # each has let go
        await fill(mesh, 1, range(4, 6))
        await eventually(lambda: heard.done["k0"] == [0, 1, 2, 3, *again, 4, 5])
        await eventually(lambda: others.count == 6)
        assert 0 == other.statistics().fenced
    assert [0, 1, 2, 3, 4, 5] == others.done["k0"]


@pytest.mark.parametrize("start", ["first", "new", "last", "last-per-key", 7], ids=str)
@pytest.mark.parametrize("active", ["all", "one"])
async def test_a_preview_says_what_a_reset_does(mesh: Mesh, active: Active, start: Start) -> None:
    """As many events wait after it, from the same place on; the preview itself does nothing."""
    heard = Heard()
    await fill(mesh, 5, range(2))
    options = msgspec.structs.replace(QUICK, active=active)
    async with EventGroup(mesh, "mails", ["order.*"], heard.handle, options=options):
        await eventually(lambda: heard.count == 10)
    await mesh.append("invoice.sent", {"number": 2}, key="k0")
    await fill(mesh, 5, range(2, 3))
    preview = await preview_reset(mesh, "mails", start)
    assert 5 == (await inspect_group(mesh, "mails")).lag
    assert preview.position == await reset_group(mesh, "mails", start)
    assert preview.lag == (await inspect_group(mesh, "mails")).lag


async def test_reset_to_the_last_of_each_key(mesh: Mesh) -> None:
    """The newest event of each key comes once more, and nothing before it."""
    heard = Heard()
    await fill(mesh, 5, range(3))
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK):
        await eventually(lambda: heard.count == 15)
    await reset_group(mesh, "mails", "last-per-key")
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK):
        await eventually(lambda: heard.count == 20)
        await fill(mesh, 5, range(3, 4))
        await eventually(lambda: heard.count == 25)
    assert {f"k{key}": [0, 1, 2, 2, 3] for key in range(5)} == heard.done


async def test_a_batch_that_is_reset(mesh: Mesh) -> None:
    """A group that is handed batches is reset alike."""
    heard: list[int] = []

    async def handle(batch: object) -> None:
        heard.append(len(getattr(batch, "records", ())))

    await fill(mesh, 1, range(4))
    async with Group(mesh, "mails", [">"], handle):
        await eventually(lambda: sum(heard) == 4)
        await reset_group(mesh, "mails", "first")
        await eventually(lambda: sum(heard) == 8)


async def test_what_cannot_be_reset(mesh: Mesh, tmp_path: Path) -> None:
    """An unknown group, one whose positions are in a store, a place in the future: in words."""
    heard = Heard()
    await fill(mesh, 1, range(4))
    with pytest.raises(UsageError, match="no group 'mails'"):
        await reset_group(mesh, "mails", "first")
    with pytest.raises(UsageError, match="yesterday"):
        await reset_group(mesh, "mails", "yesterday")  # type: ignore[arg-type]  # it is no word

    async def handle(batch: object) -> None:
        del batch

    async with open_store(f"sqlite:///{tmp_path}/books.db") as store:
        async with Group(mesh, "books", [">"], handle, store=store):
            pass
        with pytest.raises(UsageError, match="in a store"):
            await reset_group(mesh, "books", "first")
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK):
        await eventually(lambda: heard.count == 4)
    with pytest.raises(UsageError, match="in the future"):
        await reset_group(mesh, "mails", 99)


async def test_a_group_that_is_deleted(mesh: Mesh) -> None:
    """A group without members can be forgotten, and is another one then; else it is refused."""
    heard = Heard()
    await fill(mesh, 1, range(2))
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK):
        await eventually(lambda: heard.count == 2)
        with pytest.raises(UsageError, match="has 1 members"):
            await delete_group(mesh, "mails")
    await delete_group(mesh, "mails")
    assert () == await list_groups(mesh)
    with pytest.raises(UsageError, match="no group"):
        await delete_group(mesh, "mails")
    async with EventGroup(mesh, "mails", ["order.*"], heard.handle, options=QUICK):
        await eventually(lambda: heard.count == 4)
