"""Narrow moments: what happens between two steps, when something is away just then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99 import Mesh, UsageError
from agent99.envelope import parse_key, partition_of
from agent99.errors import JournalError, LeaseLostError, StoreUnavailableError, StreamFullError
from agent99.groups import (
    Batch,
    Event,
    EventGroup,
    Group,
    GroupOptions,
    delete_group,
    list_groups,
)
from agent99.groups import _event_lane as event_lane
from agent99.groups._parts import open_bucket
from agent99.groups._place import Place, decode, encode
from agent99.groups._view import Keys
from agent99.store import open_store
from agent99.work import Curve
from tests._wait import eventually
from tests.groups.conftest import OpenMesh
from tests.groups.test_event_group import QUICK, Heard, buried, same_partition
from tests.groups.test_group import fill


async def nothing(event: Event) -> None:
    """Take an event."""
    del event


async def test_what_has_been_in_hand_for_long_does_not_kill(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner that lives on with a suspect in hand says so, and hands out the others, too."""
    monkeypatch.setattr(event_lane, "KILLS_S_MAX", 0.05)
    may_end, heard = asyncio.Event(), Heard()
    first, second = same_partition(2)

    async def wait(event: Event) -> None:
        if event.subject == first:
            await may_end.wait()
        await heard.handle(event)

    await mesh.append("order.placed", {"number": 0}, key=first)
    await mesh.append("order.placed", {"number": 0}, key=second)
    partition = partition_of(parse_key(first))
    group = EventGroup(mesh, "mails", [">"], wait, options=QUICK)
    await group.create()
    bucket = await open_bucket(group.parts)
    key = Keys("mails").place(partition)
    await bucket.create(key, encode(Place(5, "x4", victims=("x1", "x2"), suspect=1)))
    async with group:
        await eventually(lambda: heard.count == 1)
        entry = await bucket.get(key)
        assert entry is not None
        place = decode(entry.value, Place)
        assert place is not None
        assert place.suspect <= 0
        may_end.set()
        await eventually(lambda: heard.count == 2)
    assert {first: [0], second: [0]} == heard.done


async def test_a_claim_that_comes_to_nothing_is_no_death(mesh: Mesh, tmp_path: Path) -> None:
    """Where the store is away, a member claims again and again: nobody has died of anything."""
    async with open_store(f"sqlite:///{tmp_path}/s.db") as store:
        group = EventGroup(mesh, "mails", [">"], nothing, options=QUICK, store=store)
        begin, calls = group.begin, 0

        async def fail_at_first(*how: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls <= 3 * 64:
                raise StoreUnavailableError("db", "is away")
            return await begin(*how)

        group.begin = fail_at_first  # type: ignore[method-assign]  # a store that is away
        async with group:
            arranger = group._arranger
            assert arranger is not None
            await eventually(lambda: len(arranger.lanes) == 64)
            assert {()} == {lane.tenure.place.victims for lane in arranger.lanes.values()}


async def test_a_lease_of_the_handlers_own(mesh: Mesh) -> None:
    """A handler that loses a lease of its own has failed: the partition is still the member's."""

    async def lose(event: Event) -> None:
        raise LeaseLostError("the outbox is another process's")

    await fill(mesh, 1, range(1))
    async with EventGroup(mesh, "mails", [">"], lose, options=QUICK) as group:
        await eventually(lambda: group.statistics().buried == 1)
        assert 0 == group.statistics().fenced
    (kept,) = await buried(mesh)
    assert "outbox" in kept.message


async def test_a_hand_over_while_an_event_is_buried(mesh: Mesh) -> None:
    """Who leaves waits for the receipt: what is in quarantine is not handed out any more."""

    async def fail(event: Event) -> None:
        raise ValueError("no")

    options = msgspec.structs.replace(QUICK, curve=Curve(attempts_max=1))
    await fill(mesh, 1, range(1))
    group = EventGroup(mesh, "mails", [">"], fail, options=options)
    bury, stored, may_return = group.bury, asyncio.Event(), asyncio.Event()

    async def bury_slowly(*how: Any) -> None:
        await bury(*how)
        stored.set()
        await may_return.wait()

    group.bury = bury_slowly  # type: ignore[method-assign]  # a receipt that is late
    async with group:
        await stored.wait()
        asyncio.get_running_loop().call_later(0.1, may_return.set)
    heard = Heard()
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=options):
        await fill(mesh, 1, range(1, 2))
        await eventually(lambda: heard.done["k0"] == [1])
    assert 1 == len(await buried(mesh))


@pytest.mark.parametrize("active", ["all", "one"])
async def test_a_quarantine_that_is_full(mesh: Mesh, active: Any) -> None:
    """What cannot be buried holds up its own key, and no other one."""
    keys, tried = same_partition(3), set[int]()
    heard = Heard(*((key, 0) for key in keys[:2]))
    for key in keys[:2]:
        await mesh.append("order.placed", {"number": 0}, key=key)
    options = msgspec.structs.replace(QUICK, active=active, keys_max=2)
    group = EventGroup(mesh, "mails", [">"], heard.handle, options=options)

    async def refuse(record: Any, *how: Any) -> None:
        tried.add(record.sequence)
        raise StreamFullError("full")

    group.bury = refuse  # type: ignore[method-assign]  # a quarantine that is full
    async with group:
        await eventually(lambda: len(tried) == 2)
        await mesh.append("order.placed", {"number": 0}, key=keys[2])
        await eventually(lambda: heard.count == 1)


async def test_what_a_group_of_the_name_has_left(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was killed while creating a group leaves places; the next one begins anew."""
    await fill(mesh, 1, range(3))
    last = msgspec.structs.replace(QUICK, start="last-per-key")
    group = EventGroup(mesh, "mails", [">"], nothing, options=last)
    bucket = await open_bucket(group.parts)
    create = type(bucket).create

    async def die(self: Any, key: str, value: bytes, **how: Any) -> int:
        if key.endswith(".charter"):
            raise JournalError("killed here")
        return await create(self, key, value, **how)

    with monkeypatch.context() as patch:
        patch.setattr(type(bucket), "create", die)
        with pytest.raises(JournalError, match="killed here"):
            await group.create()
    heard = Heard()
    async with EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK):
        await eventually(lambda: heard.done["k0"] == [0, 1, 2])


async def test_a_group_that_is_deleted_as_somebody_joins(open_mesh: OpenMesh) -> None:
    """Who joins a group that is deleted just then creates it anew: nothing of before is left."""
    mesh, heard = await open_mesh(), Heard()
    await fill(mesh, 1, range(3))
    group = EventGroup(mesh, "mails", [">"], heard.handle, options=QUICK)
    ensure, deleted = group._ensure, 0

    async def ensure_too_soon() -> Any:
        nonlocal deleted
        found = await ensure()
        if not deleted:
            deleted += 1
            await delete_group(mesh, "mails")  # of another process
        return found

    group._ensure = ensure_too_soon  # type: ignore[method-assign]  # and then it is deleted
    async with group:
        await eventually(lambda: heard.count == 3)
        assert ("mails",) == await list_groups(mesh)


async def test_batches_from_the_last_of_each_key(mesh: Mesh) -> None:
    """A group of batches is handed the newest event of each key, too, and nothing before it."""
    first, second = same_partition(2)
    await mesh.append("order.placed", {"number": 0}, key=first)
    for number in range(3):
        await mesh.append("order.placed", {"number": number}, key=second)
    got: list[int] = []

    async def handle(batch: Batch) -> None:
        got.extend(record.sequence for record in batch.records)

    async with Group(mesh, "mails", [">"], handle, options=GroupOptions(start="last-per-key")):
        await mesh.append("order.placed", {"number": 3}, key=first)
        await eventually(lambda: 5 in got)
    assert [1, 4, 5] == got


async def test_two_kinds_under_one_name(mesh: Mesh) -> None:
    """A group for single events takes no member for batches, nor the other way round."""

    async def handle(batch: Batch) -> None:
        del batch

    async with EventGroup(mesh, "mails", [">"], nothing, options=QUICK):
        with pytest.raises(UsageError, match="for single events"):
            await Group(mesh, "mails", [">"], handle).__aenter__()
    async with Group(mesh, "books", [">"], handle):
        with pytest.raises(UsageError, match="for batches"):
            await EventGroup(mesh, "books", [">"], nothing).__aenter__()
