"""The keeper's ways to lose its place, and to give it back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent99.errors import ClosedError
from agent99.journal import Bucket, BucketConfig
from agent99.registry import RegistryOptions
from agent99.registry._buckets import Buckets
from tests.registry._describe import describe
from tests.registry._memory_mesh import MemoryMesh


@pytest.fixture
async def mesh() -> AsyncIterator[MemoryMesh]:
    """Give a mesh with the default periods."""
    made = MemoryMesh()
    yield made
    await made.aclose()


async def _place(mesh: MemoryMesh) -> Bucket:
    return await mesh.journal.bucket(BucketConfig(name="a99_m1_keeper", ttl_s=3))


async def test_a_keeper_whose_place_was_taken_steps_down(mesh: MemoryMesh) -> None:
    """Losing the compare-and-set ends the keeping; when the other goes, one is elected again."""
    here = await mesh.join()
    await mesh.clock.advance(5)
    assert [here] == mesh.keepers()
    await (await _place(mesh)).put("keeper", b"somebody else")
    await mesh.clock.advance(1)
    assert [] == mesh.keepers()
    await mesh.clock.advance(8)
    assert [here] == mesh.keepers()


async def test_a_place_that_is_still_ours_is_taken_up_again(mesh: MemoryMesh) -> None:
    """A keeper that was broken off takes its own place up without waiting until it runs out."""
    long = RegistryOptions(keeper_s=3_600)
    here = mesh.make(long)
    await here.start()
    await mesh.clock.advance(5)
    mesh.cut(here)
    await mesh.clock.advance(5)
    assert [] == mesh.keepers()
    mesh.restore(here)
    await mesh.clock.advance(10)
    assert [here] == mesh.keepers()


async def test_leaving_gives_back_only_our_own_place(mesh: MemoryMesh) -> None:
    """A keeper that leaves removes its place, but not one that another has taken meanwhile."""
    here, there = await mesh.join(), await mesh.join()
    await mesh.clock.advance(5)
    (first,) = mesh.keepers()
    second = there if first is here else here
    await first.aclose()
    place = await _place(mesh)
    assert await place.get("keeper") is None
    await mesh.clock.advance(3)
    assert [second] == mesh.keepers()
    await place.put("keeper", b"somebody else")
    await second.aclose()
    entry = await place.get("keeper")
    assert entry is not None
    assert b"somebody else" == entry.value


async def test_a_record_written_again_is_not_removed(mesh: MemoryMesh) -> None:
    """The keeper removes a record only at the revision that it saw."""
    here, there = await mesh.join(), await mesh.join()
    await there.announce(describe("i1"))
    await mesh.clock.advance(10)
    (process_records,) = [here._directory.records(there.process)]
    ((key, revision),) = process_records
    await there.announce(describe("i1", state="paused"))
    await here._keeper._remove_record((key, revision))
    assert 0 == here.statistics().removed
    assert {"i1"} == await mesh.stored()


async def test_reprs_tell_what_they_are(mesh: MemoryMesh) -> None:
    """Everything has a `repr` that helps."""
    here = mesh.make()
    assert f"Keeper({here.process!r}, is_keeper=False)" == repr(here._keeper)
    assert "Buckets(a99_m1_registry, a99_m1_leases, a99_m1_keeper)" == repr(here._buckets)
    assert "Directory(wanted=0, processes=0)" == repr(here._directory)
    with pytest.raises(ClosedError):
        _ = Buckets(mesh.journal, "m1", RegistryOptions()).registry


@pytest.mark.parametrize("turns", range(4))
async def test_leaving_ends_a_keeper_that_was_losing_its_place(
    mesh: MemoryMesh, turns: int
) -> None:
    """A cancellation that meets the loss of the place, at whatever moment, is not swallowed."""
    here = await mesh.join()
    await mesh.clock.advance(5)
    assert [here] == mesh.keepers()
    (hold,) = [task for task in asyncio.all_tasks() if task.get_name() == "registry keeper: hold"]
    here._keeper._revision = None
    passing = asyncio.create_task(mesh.clock.advance(1))
    while not hold.done():
        await mesh.clock.sleep(0)
    for _ in range(turns):
        await mesh.clock.sleep(0)
    closing = asyncio.create_task(here.aclose())
    await passing
    await mesh.clock.advance(5)
    assert closing.done()
