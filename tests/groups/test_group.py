"""Members of a group: each event to one of them, in order per key, while they come and go."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from agent99 import Mesh, UsageError
from agent99.envelope import key_text, parse_key, parse_log, partition_of, split_message
from agent99.groups import Batch, EventGroup, Group, GroupOptions, Start
from tests._wait import eventually
from tests.groups.conftest import OpenMesh

QUICK = GroupOptions(commit_s=0.1)


class Seen:
    """What handlers were given, by key, in the order in which they were done with it."""

    def __init__(self) -> None:
        self.by_key: dict[str, list[int]] = defaultdict(list)
        self.count = 0

    async def handle(self, batch: Batch) -> None:
        """Take a batch."""
        for record in batch.records:
            assert batch.partition == parse_log(record.subject).partition
            _, body = split_message(record.payload)
            number = msgspec.json.decode(body)["number"]
            self.by_key[key_text(parse_log(record.subject).key)].append(number)
            self.count += 1

    async def reach(self, count: int) -> None:
        """Wait until so many events were done."""
        await eventually(lambda: self.count >= count)

    def check(self, keys: int, each: int) -> None:
        """Check that nothing is missing, twice or out of order."""
        assert {f"k{key}": list(range(each)) for key in range(keys)} == self.by_key


async def fill(mesh: Mesh, keys: int, numbers: range, topic: str = "order.placed") -> None:
    """Append events, numbered per key."""

    async def one(key: str) -> None:
        for number in numbers:
            await mesh.append(topic, {"number": number}, key=key)

    await asyncio.gather(*(one(f"k{key}") for key in range(keys)))


def held(*groups: Group | EventGroup) -> list[int]:
    """Return how many partitions each member owns, sorted."""
    return sorted(len(group.statistics().partitions) for group in groups)


async def test_one_member(mesh: Mesh) -> None:
    """One member is given everything, in the order of each key, what is there and what comes."""
    seen = Seen()
    await fill(mesh, 8, range(5))
    await mesh.append("invoice.sent", {"number": 0}, key="k1")
    async with Group(mesh, "billing", ["order.*"], seen.handle, options=QUICK) as group:
        await eventually(lambda: seen.count == 40)
        await fill(mesh, 8, range(5, 10))
        await eventually(lambda: seen.count == 80)
        assert [64] == held(group)
    seen.check(8, 10)
    statistics = group.statistics()
    assert (80, 64, 64, 0) == (
        statistics.events,
        statistics.claimed,
        statistics.released,
        statistics.fenced,
    )


async def test_goes_on_where_it_was(mesh: Mesh) -> None:
    """Who joins after all have left goes on behind the last event that was done."""
    seen = Seen()
    await fill(mesh, 8, range(5))
    async with Group(mesh, "billing", ["order.*"], seen.handle):
        await eventually(lambda: seen.count == 40)
    await fill(mesh, 8, range(5, 10))
    async with Group(mesh, "billing", ["order.*"], seen.handle):
        await eventually(lambda: seen.count == 80)
    seen.check(8, 10)


async def test_members_come_and_go(open_mesh: OpenMesh) -> None:
    """Members share evenly; while they come and go nothing is lost, done twice or reordered."""
    seen = Seen()
    meshes = [await open_mesh() for _ in range(3)]
    groups = [Group(mesh, "billing", ["order.*"], seen.handle) for mesh in meshes]
    appended = 0
    is_over = False

    async def load() -> None:
        nonlocal appended
        while not is_over:
            await fill(meshes[0], 20, range(appended, appended + 1))
            appended += 1
            await seen.reach(20 * (appended - 5))

    loading = asyncio.ensure_future(load())
    async with groups[0]:
        await eventually(lambda: held(groups[0]) == [64])
        async with groups[1]:
            await eventually(lambda: held(*groups[:2]) == [32, 32])
            async with groups[2]:
                await eventually(lambda: held(*groups) == [21, 21, 22])
            await eventually(lambda: held(*groups[:2]) == [32, 32])
        await eventually(lambda: held(groups[0]) == [64])
        is_over = True
        await loading
        await eventually(lambda: seen.count >= 20 * appended)
    seen.check(20, appended)
    assert 0 == sum(group.statistics().fenced for group in groups)


async def test_a_handler_that_fails(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    """What a handler fails at comes again, before anything behind it of its partition."""
    seen = Seen()
    attempts: list[int] = []

    async def handle(batch: Batch) -> None:
        attempts.append(batch.attempt)
        if batch.attempt < 3:
            raise ValueError("not yet")
        await seen.handle(batch)

    await fill(mesh, 1, range(4))
    async with Group(mesh, "billing", [">"], handle) as group:
        await eventually(lambda: seen.count == 4)
    seen.check(1, 4)
    statistics = group.statistics()
    assert [1, 2, 3] * statistics.batches == attempts
    assert 2 * statistics.batches == statistics.failures
    assert "not yet" in caplog.text


async def test_a_handler_that_is_cancelled(mesh: Mesh) -> None:
    """A handler that is cancelled by what it waits for has failed, and is given the batch again."""
    seen = Seen()

    async def handle(batch: Batch) -> None:
        if batch.attempt == 1:
            raise asyncio.CancelledError
        await seen.handle(batch)

    await fill(mesh, 1, range(4))
    async with Group(mesh, "billing", [">"], handle) as group:
        await eventually(lambda: seen.count == 4)
    seen.check(1, 4)
    assert group.statistics().batches == group.statistics().failures


async def test_members_that_create_a_group_together(open_mesh: OpenMesh) -> None:
    """However many create a group at once, it is one."""
    meshes = [await open_mesh() for _ in range(4)]
    groups = [Group(mesh, "billing", [">"], Seen().handle) for mesh in meshes]
    await asyncio.gather(*(group.__aenter__() for group in groups))
    await eventually(lambda: held(*groups) == [16] * 4)
    await asyncio.gather(*(group.__aexit__(None, None, None) for group in groups))
    assert [0] * 4 == held(*groups)


async def test_commits(mesh: Mesh) -> None:
    """A position is written after so many events, or after a while, whichever is sooner."""
    seen = Seen()
    often = GroupOptions(commit_s=3_600, commit_events_max=2, batch_max=1)
    await fill(mesh, 1, range(5))
    partition = partition_of(parse_key("k0"))
    async with Group(mesh, "often", [">"], seen.handle, options=often) as group:
        await eventually(lambda: seen.count == 5)
        await eventually(lambda: group._view.place(partition).place.progress.position == 4)
    async with Group(mesh, "soon", [">"], seen.handle, options=QUICK) as group:
        await eventually(lambda: group._view.place(partition).place.progress.position == 5)
        revision = group._view.place(partition).revision
        await fill(mesh, 1, range(5, 6))
        await eventually(lambda: group._view.place(partition).place.progress.position == 6)
        assert group._view.place(partition).revision > revision


STARTS: dict[Start, list[int]] = {
    "first": [0, 1, 2, 3, 4, 5],
    "new": [4, 5],
    "last": [3, 4, 5],
    "last-per-key": [3, 4, 5],
    3: [2, 3, 4, 5],
    5: [4, 5],
    datetime(1970, 1, 1, tzinfo=UTC): [0, 1, 2, 3, 4, 5],
}


@pytest.mark.parametrize("start", STARTS, ids=str)
async def test_where_a_group_begins(mesh: Mesh, start: Start) -> None:
    """A group that is created begins where it is told to; later members do not change that."""
    seen = Seen()
    await fill(mesh, 1, range(4))
    options = GroupOptions(start=start)
    async with Group(mesh, "billing", [">"], seen.handle, options=options):
        await fill(mesh, 1, range(4, 6))
        await eventually(lambda: seen.by_key["k0"] == STARTS[start])
    async with Group(mesh, "billing", [">"], seen.handle):
        await fill(mesh, 1, range(6, 7))
        await eventually(lambda: seen.by_key["k0"] == [*STARTS[start], 6])


@pytest.mark.parametrize("start", [7, datetime(2999, 1, 1, tzinfo=UTC)], ids=str)
async def test_a_start_in_the_future(mesh: Mesh, start: Start) -> None:
    """A group cannot begin where nothing can be yet; nothing is left of the try."""
    seen = Seen()
    await fill(mesh, 1, range(4))
    options = GroupOptions(start=start)
    with pytest.raises(UsageError, match="in the future"):
        await Group(mesh, "billing", [">"], seen.handle, options=options).__aenter__()
    async with Group(mesh, "billing", [">"], seen.handle):
        await eventually(lambda: seen.by_key["k0"] == [0, 1, 2, 3])


async def test_what_cannot_be_a_group(mesh: Mesh) -> None:
    """A wrong group is refused where it starts."""
    seen = Seen()
    for topics in ([], ["a.*", "a.b"], ["a..b"]):
        with pytest.raises(UsageError):
            Group(mesh, "billing", topics, seen.handle)
    with pytest.raises(UsageError):
        GroupOptions(start=0)
    nobody: Any = "some"
    with pytest.raises(UsageError):
        GroupOptions(active=nobody)
    with pytest.raises(UsageError):
        GroupOptions(batch_max=0)
    with pytest.raises(UsageError):
        GroupOptions(commit_s=0)
    async with Group(mesh, "billing", ["a.*"], seen.handle) as group:
        with pytest.raises(UsageError, match="used before"):
            await group.__aenter__()
        with pytest.raises(UsageError, match=r"created with topics \('a\.\*',\)"):
            await Group(mesh, "billing", ["b.*"], seen.handle).__aenter__()
        one = GroupOptions(active="one")
        with pytest.raises(UsageError, match="created with all members active"):
            await Group(mesh, "billing", ["a.*"], seen.handle, options=one).__aenter__()
