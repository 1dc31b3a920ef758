"""What a group of batches has put into quarantine comes to it alone once more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from agent99 import Mesh, UsageError
from agent99.envelope import (
    Name,
    key_text,
    parse_key,
    parse_log,
    partition_of,
    peek_header,
    split_message,
)
from agent99.errors import BadRequestError
from agent99.groups import Active, Batch, Group, GroupOptions, delete_group, inspect_group
from agent99.journal import Record
from agent99.store import open_store
from agent99.work import Outcome, Place, Quarantined
from tests._wait import eventually
from tests.groups.conftest import OpenMesh
from tests.groups.test_death import TABLES, add, effects
from tests.groups.test_event_group import QUICK as BY_EVENT
from tests.groups.test_event_group import EventGroup, Heard, buried
from tests.groups.test_group import Seen, fill, held

QUICK = GroupOptions(commit_s=0.05)


class Desk(Seen):
    """A handler that moves what it cannot handle into quarantine, and goes on."""

    def __init__(self, mesh: Mesh, *poison: int) -> None:
        super().__init__()
        self.poison = set(poison)
        self._mesh = mesh

    async def handle(self, batch: Batch) -> None:
        """Take a batch, but what is poison."""
        good = await self.sort_out(batch)
        for record in good.records if good is not None else ():
            number = msgspec.json.decode(split_message(record.payload)[1])["number"]
            self.by_key[key_text(parse_log(record.subject).key)].append(number)
            self.count += 1

    async def sort_out(self, batch: Batch) -> Batch | None:
        """Put what is poison into quarantine; returns the rest, if there is any."""
        good: list[Record] = []
        for record in batch.records:
            number = msgspec.json.decode(split_message(record.payload)[1])["number"]
            if number not in self.poison:
                good.append(record)
                continue
            log = self._mesh.link.durable.streams.log
            await self._mesh.quarantine.bury(
                record,
                peek_header(record.payload),
                Outcome(BadRequestError("poison")),
                Place(log, Name(batch.group), Name("batch"), record.subject, "group"),
                reason="unreadable",
                attempts=batch.attempt,
            )
        return msgspec.structs.replace(batch, records=tuple(good)) if good else None


async def kept_one(mesh: Mesh) -> Quarantined:
    """Return what is in quarantine, once something is."""
    (one,) = await eventually(lambda: buried(mesh))
    return one


@pytest.mark.parametrize("active", ["all", "one"])
async def test_what_is_redriven_to_a_group_of_batches(mesh: Mesh, active: Active) -> None:
    """What is redriven comes once, to its own group alone, behind what its key has by then."""
    desk, others = Desk(mesh, 1), Desk(mesh)
    options = msgspec.structs.replace(QUICK, active=active)
    await fill(mesh, 1, range(3))
    async with (
        Group(mesh, "billing", ["order.*"], desk.handle, options=options) as group,
        Group(mesh, "others", ["order.*"], others.handle, options=options),
    ):
        await eventually(lambda: desk.count == 2 and others.count == 3)
        desk.poison.clear()
        await mesh.quarantine.redrive(await kept_one(mesh))
        await desk.reach(3)
        await fill(mesh, 1, range(3, 4))
        await eventually(lambda: desk.count == 4 and others.count == 4)
    assert [] == await buried(mesh)
    assert ([0, 2, 1, 3], [0, 1, 2, 3]) == (desk.by_key["k0"], others.by_key["k0"])
    assert 5 == group.statistics().events
    assert 0 == (await inspect_group(mesh, "billing")).lag


async def test_what_is_redriven_while_nobody_is_there(mesh: Mesh) -> None:
    """What is redriven while no member runs waits, and comes to who joins then."""
    desk = Desk(mesh, 1)
    await fill(mesh, 1, range(3))
    async with Group(mesh, "billing", [">"], desk.handle, options=QUICK):
        await desk.reach(2)
    desk.poison.clear()
    await mesh.quarantine.redrive(await kept_one(mesh))
    assert 1 == (await inspect_group(mesh, "billing")).lag
    async with Group(mesh, "billing", [">"], desk.handle, options=QUICK):
        await desk.reach(3)
        await fill(mesh, 1, range(3, 4))
        await desk.reach(4)
    assert [0, 2, 1, 3] == desk.by_key["k0"]


async def test_what_is_redriven_to_another_owner(open_mesh: OpenMesh) -> None:
    """What one member has refused comes to the one that owns its partition by then."""
    meshes = [await open_mesh() for _ in range(2)]
    first, second = Desk(meshes[0], 1), Desk(meshes[1])
    one = Group(meshes[0], "billing", [">"], first.handle, options=QUICK)
    await fill(meshes[0], 1, range(3))
    await one.__aenter__()
    await first.reach(2)
    kept = await kept_one(meshes[0])
    async with Group(meshes[1], "billing", [">"], second.handle, options=QUICK) as other:
        await eventually(lambda: held(one, other) == [32, 32])
        await one.__aexit__(None, None, None)
        await meshes[0].quarantine.redrive(kept)
        await second.reach(1)
        await fill(meshes[1], 1, range(3, 4))
        await second.reach(2)
    assert ([0, 2], [1, 3]) == (first.by_key["k0"], second.by_key["k0"])


@pytest.mark.parametrize("has_effect", [False, True], ids=["before", "behind"])
async def test_an_owner_that_dies_at_it(
    open_mesh: OpenMesh, tmp_path: Path, *, has_effect: bool
) -> None:
    """An owner that dies before or behind the effect of what is redriven: it takes place once."""
    one, two = await open_mesh(), await open_mesh()
    desk, reached = Desk(one, 1), asyncio.Event()

    async with open_store(f"sqlite:///{tmp_path}/effects.db", migrations=TABLES) as store:

        async def do(batch: Batch) -> None:
            good = await desk.sort_out(batch)
            if good is not None:
                await store.transaction(lambda transaction: add(good, transaction))
            desk.count += 1

        async def hang(batch: Batch) -> None:
            if has_effect or desk.poison:
                await do(batch)
            if not desk.poison:
                reached.set()
                await asyncio.Event().wait()

        async def has_effect_of(number: int) -> bool:
            return (await effects(store))["k0"][-1] == number

        dead = Group(one, "billing", [">"], hang, store=store, options=QUICK)
        await fill(one, 1, range(3))
        await dead.__aenter__()
        kept = await kept_one(one)
        await eventually(lambda: dead.statistics().events == 3)
        desk.poison.clear()
        await one.quarantine.redrive(kept)
        await eventually(reached.is_set)
        await one.aclose()
        async with Group(two, "billing", [">"], do, store=store, options=QUICK) as alive:
            await eventually(lambda: held(alive) == [64])
            await fill(two, 1, range(3, 4))
            await eventually(lambda: has_effect_of(3))
        await dead.__aexit__(None, None, None)
        assert {"k0": [0, 2, 1, 3]} == await effects(store)


async def test_a_topic_that_the_group_does_not_read_any_more(mesh: Mesh) -> None:
    """What a group of other topics by the name would not be given stays in quarantine."""
    desk = Desk(mesh, 1)
    await fill(mesh, 1, range(2))
    async with Group(mesh, "billing", [">"], desk.handle, options=QUICK):
        kept = await kept_one(mesh)
    await delete_group(mesh, "billing")
    async with Group(mesh, "billing", ["bill.*", "order.*.*"], desk.handle, options=QUICK):
        with pytest.raises(UsageError, match=r"does not read 'order.placed' any more"):
            await mesh.quarantine.redrive(kept)
    assert [kept] == await buried(mesh)


async def test_what_is_redriven_to_others(mesh: Mesh) -> None:
    """A group of either kind goes on behind what others are given once more, and is given none."""
    desk, batches, heard = Desk(mesh, 1), Seen(), Heard()
    await fill(mesh, 1, range(3))
    async with Group(mesh, "billing", [">"], desk.handle, options=QUICK):
        await desk.reach(2)
    await mesh.quarantine.redrive(await kept_one(mesh))
    place = partition_of(parse_key("k0"))
    async with (
        Group(mesh, "batches", [">"], batches.handle, options=QUICK) as one,
        EventGroup(mesh, "events", [">"], heard.handle, options=BY_EVENT) as other,
    ):
        views = (one._view, other._view)
        await eventually(
            lambda: [view.place(place).place.progress.position for view in views] == [4, 4]
        )
        assert (3, 3) == (one.statistics().events, other.statistics().events)
        await fill(mesh, 1, range(3, 4))
        await eventually(lambda: batches.count == heard.count == 4)
    assert list(range(4)) == batches.by_key["k0"] == heard.done["k0"]


async def test_a_group_that_became_one_of_batches(mesh: Mesh) -> None:
    """What a group of single events has refused comes to the group of batches of its name."""
    heard, seen = Heard(("k0", 1)), Seen()
    await fill(mesh, 1, range(3))
    async with EventGroup(mesh, "billing", [">"], heard.handle, options=BY_EVENT):
        await eventually(lambda: heard.count == 2)
        kept = await kept_one(mesh)
    await delete_group(mesh, "billing")
    options = msgspec.structs.replace(QUICK, start="new")
    async with Group(mesh, "billing", [">"], seen.handle, options=options):
        await mesh.quarantine.redrive(kept)
        await seen.reach(1)
    assert {"k0": [1]} == seen.by_key
