"""Members that die, or are taken for dead: others go on, and what is stale has no effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from agent99 import Mesh
from agent99.envelope import key_text, parse_log, split_message
from agent99.errors import LeaseLostError
from agent99.groups import Batch, Group, GroupOptions
from agent99.groups._parts import open_bucket
from agent99.groups._place import Place, encode
from agent99.groups._view import Keys
from agent99.store import Migration, Store, Transaction, open_store
from tests._wait import PATIENCE_S, eventually
from tests.groups.conftest import OpenMesh
from tests.groups.test_group import QUICK, Seen, fill, held

_TABLE = (
    "CREATE TABLE effect (place INTEGER PRIMARY KEY, key TEXT NOT NULL,"
    " number BIGINT NOT NULL, part INTEGER NOT NULL, epoch BIGINT NOT NULL)"
)
TABLES = (Migration(1, "effects", (_TABLE,)),)
_ADD = (
    "INSERT INTO effect (place, key, number, part, epoch) VALUES"
    " ((SELECT coalesce(max(place), 0) + 1 FROM effect), :key, :number, :part, :epoch)"
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Give a store with a table of effects, in the order in which they took effect."""
    async with open_store(f"sqlite:///{tmp_path}/effects.db", migrations=TABLES) as opened:
        yield opened


def add(batch: Batch, transaction: Transaction) -> None:
    """Write the effects of a batch."""
    for record in batch.fresh(transaction):
        _, body = split_message(record.payload)
        values = {
            "key": key_text(parse_log(record.subject).key),
            "number": msgspec.json.decode(body)["number"],
            "part": batch.partition,
            "epoch": batch.epoch,
        }
        transaction.execute(_ADD, values)


async def effects(store: Store) -> dict[str, list[int]]:
    """Return the numbers of each key, in the order of their effects; epochs never go back."""
    rows = await store.read(lambda t: t.execute("SELECT * FROM effect ORDER BY place").all())
    found: dict[str, list[int]] = {}
    epochs: dict[int, int] = {}
    for row in rows:
        found.setdefault(row.key, []).append(row.number)
        assert epochs.get(row.part, 0) <= row.epoch
        epochs[row.part] = row.epoch
    return found


async def test_a_member_that_dies(open_mesh: OpenMesh) -> None:
    """Where nobody listens any more, the others take over at once, and nothing is lost."""
    seen = Seen()
    one, two = await open_mesh(), await open_mesh()
    dead, alive = (Group(mesh, "billing", [">"], seen.handle) for mesh in (one, two))
    async with alive:
        await dead.__aenter__()
        await eventually(lambda: held(dead, alive) == [32, 32])
        await fill(two, 20, range(3))
        await eventually(lambda: seen.count == 60)
        await one.aclose()
        await eventually(lambda: held(alive) == [64], timeout_s=2)
        await fill(two, 20, range(3, 6))
        await eventually(lambda: all(numbers[-1] == 5 for numbers in seen.by_key.values()))
        await dead.__aexit__(None, None, None)
    assert {key: {0, 1, 2, 3, 4, 5} for key in seen.by_key} == {
        key: set(numbers) for key, numbers in seen.by_key.items()
    }


async def test_a_member_that_is_taken_for_dead(open_mesh: OpenMesh, store: Store) -> None:
    """It is fenced, comes back, and gets its share; each effect takes place once, in order."""
    one, two = await open_mesh(), await open_mesh()

    async def handle(batch: Batch) -> None:
        await store.transaction(lambda transaction: add(batch, transaction))

    ghost, alive = (Group(mesh, "billing", [">"], handle, store=store) for mesh in (one, two))
    async with alive, ghost:
        await eventually(lambda: held(ghost, alive) == [32, 32])
        await fill(two, 20, range(3))
        watch = ghost._watch
        assert watch is not None
        assert watch._subscription is not None
        watch._subscription.unsubscribe()
        loading = asyncio.ensure_future(fill(two, 20, range(3, 40)))
        await eventually(lambda: len(alive.statistics().partitions) > 32)
        watch._subscription = one.link.wire.subscribe(watch._subscription.subject, watch._answer)
        await loading
        await eventually(lambda: held(ghost, alive) == [32, 32])
        await fill(two, 20, range(40, 50))
        expected = {f"k{key}": list(range(50)) for key in range(20)}
        async with asyncio.timeout(PATIENCE_S):
            while sum(map(len, (await effects(store)).values())) < 1_000:
                await asyncio.sleep(0)
    assert expected == await effects(store)


async def test_an_effect_that_is_stale(mesh: Mesh, store: Store) -> None:
    """An effect under an epoch of before is refused, and the group lets go of the partition."""
    batches: list[Batch] = []
    is_stale = True

    async def handle(batch: Batch) -> None:
        batches.append(batch)
        if is_stale:
            stolen = msgspec.structs.replace(batch, epoch=batch.epoch + 1)
            await store.transaction(lambda transaction: stolen.fresh(transaction) and None)
        await store.transaction(lambda transaction: add(batch, transaction))

    await fill(mesh, 1, range(3))
    async with Group(mesh, "billing", [">"], handle, store=store) as group:
        await eventually(lambda: group.statistics().fenced > 0)
        assert {} == await effects(store)
        is_stale = False
        await fill(mesh, 1, range(3, 5))
        await eventually(lambda: batches[-1].epoch > 1 and group.tally.events >= 2)
    assert {"k0": [3, 4]} == await effects(store)
    with pytest.raises(LeaseLostError):
        await store.transaction(lambda transaction: add(batches[0], transaction))


async def test_a_partition_that_is_taken(mesh: Mesh) -> None:
    """Who hears of a higher epoch drops the partition at once; here there is no other owner."""
    seen = Seen()
    epochs: list[int] = []

    async def handle(batch: Batch) -> None:
        epochs.append(batch.epoch)
        await seen.handle(batch)

    await fill(mesh, 1, range(3))
    async with Group(mesh, "billing", [">"], handle, options=QUICK) as group:
        await eventually(lambda: seen.count == 3)
        partition = parse_partition("k0")
        key = Keys("billing").place(partition)
        await eventually(lambda: group._view.place(partition).place.progress.position > 0)
        bucket = await open_bucket(group.parts)
        known = group._view.place(partition)
        taken = Place(known.place.epoch + 1, "stranger", known.place.progress)
        await bucket.update(key, encode(taken), revision=known.revision)
        await eventually(lambda: group.statistics().fenced == 1)
        await fill(mesh, 1, range(3, 5))
        await eventually(lambda: seen.count == 5)
    seen.check(1, 5)
    assert (1, 3) == (epochs[0], epochs[-1])


async def test_a_member_that_breaks(
    open_mesh: OpenMesh, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A member that is broken by a bug leaves, so that it does not hold what it cannot do."""
    seen = Seen()
    groups = [Group(await open_mesh(), "billing", [">"], seen.handle) for _ in range(2)]
    async with groups[0], groups[1]:
        await eventually(lambda: held(*groups) == [32, 32])

        def broken(news: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(groups[0]._view, "apply", broken)
        async with Group(await open_mesh(), "billing", [">"], seen.handle) as third:
            await eventually(lambda: held(groups[1], third) == [32, 32])
        assert [0] == held(groups[0])
    assert "a bug" in caplog.text


async def test_a_partition_that_breaks(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A partition at which work ends by a bug is claimed anew."""
    seen = Seen()
    async with Group(mesh, "billing", [">"], seen.handle) as group:
        await eventually(lambda: held(group) == [64])
        assert group._arranger is not None
        lane = group._arranger.lanes[parse_partition("k0")]
        monkeypatch.setattr(lane, "_is_done_with", None)
        await fill(mesh, 1, range(3))
        await eventually(lambda: seen.count == 3)
        assert 1 == group.statistics().fenced
    seen.check(1, 3)
    assert "broke" in caplog.text


async def test_a_handler_that_does_not_end(open_mesh: OpenMesh) -> None:
    """On hand-over a handler has its time to end, and is cancelled then; its batch comes again."""
    seen = Seen()
    one, two = await open_mesh(), await open_mesh()
    cancelled: list[int] = []

    async def hang(batch: Batch) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(batch.partition)

    options = GroupOptions(drain_s_max=0.2)
    await fill(one, 20, range(3))
    async with Group(one, "billing", [">"], hang, options=options) as stuck:
        await eventually(lambda: held(stuck) == [64])
        async with Group(two, "billing", [">"], seen.handle) as other:
            await eventually(lambda: held(stuck, other) == [32, 32])
            await eventually(lambda: cancelled and seen.count == 3 * len(seen.by_key) > 0)
            assert {parse_partition(key) for key in seen.by_key} <= other.statistics().partitions


def parse_partition(key: str) -> int:
    """Return the partition of a key."""
    from agent99.envelope import parse_key, partition_of

    return partition_of(parse_key(key))
