"""A projection is what all stored events make of it, at one instance or at many."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.errors import ClosedError, InvalidNameError, LogIncompleteError, StoreError, UsageError
from agent99.groups import Event, list_groups
from agent99.projections import Projection, ProjectionOptions, Projector, Tables
from agent99.store import Store, Transaction, open_store
from tests._wait import PATIENCE_S
from tests.groups.conftest import OpenMesh
from tests.projections._revenue import (
    QUICK,
    Fold,
    Revenue,
    RevenueInPounds,
    Sale,
    caught_up,
    fill,
    rows,
    sales,
)


async def test_counts_each_event_once(mesh: Mesh, store: Store) -> None:
    """What was there before and what comes is counted, once each, in the order of its key."""
    fold = Fold()
    await fill(mesh, fold, 8, range(5))
    await mesh.append("invoice.sent", Sale(1), key="shop-1")
    async with Projector(mesh, Revenue(), store, options=QUICK) as revenue:
        await fill(mesh, fold, 8, range(5, 10))
        await caught_up(revenue)
        assert fold.rows == await revenue.read(rows)
        status = await revenue.status()
    assert ("revenue", 1, 1, "live", 0, 1.0, False) == (
        status.name,
        status.live.generation,
        status.live.version,
        status.live.state,
        status.live.backlog,
        status.live.progress,
        status.is_rebuilding,
    )
    assert (1, 0, ()) == (status.live.first_sequence, status.live.set_aside, status.live.failures)


async def test_goes_on_where_it_was(mesh: Mesh, store: Store) -> None:
    """Who comes after all have left goes on behind the last event that was counted."""
    fold = Fold()
    await fill(mesh, fold, 4, range(5))
    async with Projector(mesh, Revenue(), store, options=QUICK) as revenue:
        await caught_up(revenue)
    await fill(mesh, fold, 4, range(5, 8))
    async with Projector(mesh, Revenue(), store, options=QUICK) as revenue:
        await caught_up(revenue)
        assert fold.rows == await revenue.read(rows)
        assert 1 == (await revenue.status()).live.generation


async def test_instances_share(open_mesh: OpenMesh, store: Store) -> None:
    """Several instances share the work, and each reads the whole."""
    fold, one, other = Fold(), await open_mesh(), await open_mesh()
    async with (
        Projector(one, Revenue(), store, options=QUICK) as first,
        Projector(other, Revenue(), store, options=QUICK) as second,
    ):
        await fill(one, fold, 20, range(10))
        await caught_up(second)
        assert fold.rows == await first.read(rows) == await second.read(rows)


async def test_an_event_that_was_appended_twice(mesh: Mesh, store: Store) -> None:
    """What stands in the log twice under one id counts once, unless the projection says not."""

    class Naive(Revenue):
        name = "naive"
        ignores_repeats = False

    fold = Fold()
    await fill(mesh, fold, 1, [7])
    log = mesh.link.durable.streams.log
    async with (
        Projector(mesh, Revenue(), store, options=QUICK) as revenue,
        Projector(mesh, Naive(), store, options=QUICK) as naive,
    ):
        record = await anext(mesh.link.journal.read(log))
        await mesh.link.journal.append(record.subject, record.payload)  # past the server's window
        await caught_up(revenue)
        await caught_up(naive)
        assert [("shop-0", 1, 7, 7)] == await revenue.read(rows)
        assert [("shop-0", 2, 14, 7)] == await naive.read(rows)


async def test_rebuild(mesh: Mesh, store: Store) -> None:
    """A rebuild makes the same tables of the same events, and those of before go (E11)."""
    fold = Fold()
    await fill(mesh, fold, 8, range(20))
    options = ProjectionOptions(poll_s=0.02, grace_s=0.01)
    async with Projector(mesh, Revenue(), store, options=options) as revenue:
        await caught_up(revenue)
        before = await revenue.read(lambda tables: (tables.generation, tables.digest()))
        assert 2 == await revenue.rebuild()
        after = await revenue.read(lambda tables: (tables.generation, tables.digest()))
        assert ((1, before[1]), (2, before[1])) == (before, after)
        assert fold.rows == await revenue.read(rows)
        async with asyncio.timeout(PATIENCE_S):
            while (await revenue.status()).others:
                await asyncio.sleep(0)
        tables = await store.read(names_of_tables)
    async with asyncio.timeout(PATIENCE_S):
        while len(await list_groups(mesh)) > 1:
            await asyncio.sleep(0)
    assert ["revenue_2_shop"] == [name for name in tables if name.startswith("revenue")]


async def test_a_newer_version(open_mesh: OpenMesh, store: Store) -> None:
    """Code of a newer version builds its own tables; readers see those of before until then."""
    fold, one, other = Fold(), await open_mesh(), await open_mesh()
    await fill(one, fold, 4, [100, 250])
    await one.append("order.returned", Sale(90), key="shop-0")
    async with Projector(one, Revenue(), store, options=QUICK) as old:
        await caught_up(old)
        async with Projector(other, RevenueInPounds(), store, options=QUICK) as new:
            async with asyncio.timeout(PATIENCE_S):
                while await new.read(lambda tables: tables.version) < 2:
                    await asyncio.sleep(0)
            found = await new.read(lambda t: t.execute("SELECT sum(pounds) FROM {pounds}").scalar())
            assert 4 * 3 == found
            assert (2, 2) == await old.read(lambda tables: (tables.generation, tables.version))
            with pytest.raises(UsageError, match="this code is older"):
                await old.rebuild()
    with pytest.raises(UsageError, match="is at version 2, the code at 1"):
        await Projector(one, Revenue(), store, options=QUICK).__aenter__()


async def test_a_log_that_has_dropped_events(mesh: Mesh, store: Store) -> None:
    """A rebuild that would lack events which were counted is refused, unless it is allowed."""
    fold = Fold()
    await fill(mesh, fold, 1, [1, 2, 4])
    link = mesh.link
    async with Projector(mesh, Revenue(), store, options=QUICK) as revenue:
        await caught_up(revenue)
        await link.journal.delete(link.durable.streams.log, 1)
        with pytest.raises(LogIncompleteError, match="begins at 2, but it is needed from 1") as no:
            await revenue.rebuild()
        assert (1, 2) == (no.value.needed_sequence, no.value.first_sequence)
        assert fold.rows == await revenue.read(rows)
        assert 2 == await revenue.rebuild(allow_partial=True)
        assert [("shop-0", 2, 6, 4)] == await revenue.read(rows)
        assert 2 == (await revenue.status()).live.first_sequence
    await link.journal.delete(link.durable.streams.log, 2)
    with pytest.raises(LogIncompleteError):
        await Projector(mesh, RevenueInPounds(), store).__aenter__()
    async with Projector(mesh, Revenue(), store, options=QUICK) as revenue:
        assert [("shop-0", 2, 6, 4)] == await revenue.read(rows)


async def test_events_that_nobody_counted_in_time(mesh: Mesh, store: Store) -> None:
    """What the log drops while nobody is at work is not counted; the status says between where."""
    fold, link = Fold(), mesh.link
    await fill(mesh, fold, 1, [1, 2])
    async with Projector(mesh, Revenue(), store, options=QUICK) as revenue:
        await caught_up(revenue)
    async with Projector(mesh, Revenue(), store, options=QUICK) as revenue:
        assert (await revenue.status()).live.gap is None
    await fill(mesh, fold, 1, [4, 8])
    for sequence in (1, 2, 3):
        await link.journal.delete(link.durable.streams.log, sequence)
    async with Projector(mesh, Revenue(), store, options=QUICK) as revenue:
        await caught_up(revenue)
        assert [("shop-0", 3, 11, 8)] == await revenue.read(rows)
        assert (3, 3) == (await revenue.status()).live.gap


async def test_a_log_that_drops_events_meanwhile(mesh: Mesh, store: Store) -> None:
    """A rebuild under way fails where the log drops what was counted: the live one stays."""
    fold, link = Fold(), mesh.link
    await fill(mesh, fold, 1, [1, 2, 4])

    class Stuck(Revenue):
        def apply(self, tables: Tables, event: Event) -> None:
            if tables.generation > 1:
                raise ValueError("not this one")
            super().apply(tables, event)

    async with Projector(mesh, Stuck(), store, options=QUICK) as revenue:
        await caught_up(revenue)
        rebuilding = asyncio.ensure_future(revenue.rebuild())
        async with asyncio.timeout(PATIENCE_S):
            while (building := (await revenue.status()).building) is None or not building.failures:
                await asyncio.sleep(0)
        assert (3, 0.0) == (building.backlog, building.progress)
        await link.journal.delete(link.durable.streams.log, 1)
        with pytest.raises(LogIncompleteError):
            await rebuilding
        status = await revenue.status()
        assert (1, ["failed"]) == (status.live.generation, [each.state for each in status.others])
        assert fold.rows == await revenue.read(rows)


async def test_a_rebuild_that_does_not_get_on(mesh: Mesh, store: Store) -> None:
    """The live generation waits for one that is nearly there for a moment, and then goes on."""

    class Stuck(Revenue):
        def apply(self, tables: Tables, event: Event) -> None:
            if tables.generation > 1:
                raise ValueError("not this one")
            super().apply(tables, event)

    options = ProjectionOptions(poll_s=0.02, hold_s_max=0.1)
    async with Projector(mesh, Stuck(), store, options=options) as revenue:
        fold = Fold()
        await fill(mesh, fold, 2, [1])
        await caught_up(revenue)
        rebuilding = asyncio.ensure_future(revenue.rebuild())
        async with asyncio.timeout(PATIENCE_S):
            while not await store.read(held):
                await asyncio.sleep(0)
        await fill(mesh, fold, 2, [2, 4])
        await caught_up(revenue)
        assert fold.rows == await revenue.read(rows)
        assert (await revenue.status()).is_rebuilding
    with pytest.raises(ClosedError):
        await rebuilding


async def test_an_event_that_waits(mesh: Mesh, store: Store) -> None:
    """An event at which `apply` raises holds up its partition alone, and the status says why."""
    is_broken = True

    class Broken(Revenue):
        def apply(self, tables: Tables, event: Event) -> None:
            if is_broken and event.subject == "bad":
                raise ValueError("no such shop")
            super().apply(tables, event)

    async with Projector(mesh, Broken(), store, options=QUICK) as revenue:
        bad = await mesh.append("order.placed", Sale(5), key="bad")
        await mesh.append("order.placed", Sale(6), key="good")
        async with asyncio.timeout(PATIENCE_S):
            while not (status := await revenue.status()).live.failures or not await revenue.read(
                sales
            ):
                await asyncio.sleep(0)
        assert [("good", 1, 6, 6)] == await revenue.read(rows)
        failure = status.live.failures[0]
        assert (1, bad, "order.placed", "ValueError: no such shop", False) == (
            failure.sequence,
            failure.event_id,
            failure.type,
            failure.error,
            failure.is_set_aside,
        )
        is_broken = False
        await caught_up(revenue)
        assert [("bad", 1, 5, 5), ("good", 1, 6, 6)] == await revenue.read(rows)
        assert () == (await revenue.status()).live.failures


async def test_an_event_that_is_set_aside(mesh: Mesh, store: Store) -> None:
    """Where the projection says so, what `apply` cannot do is noted and left out, up to a bound."""

    class Picky(Revenue):
        on_error = "set aside"

    options = ProjectionOptions(poll_s=0.02, set_aside_max=2)
    async with Projector(mesh, Picky(), store, options=options) as revenue:
        await mesh.append("order.placed", {"pence": "much"}, key="shop-0")
        await mesh.append("order.placed", Sale(1), key="shop-0")
        tables = {"shop": "shop-0", "n": 2**70}  # no column takes it
        await mesh.append("order.placed", {"pence": tables["n"]}, key="shop-0")
        await mesh.append("order.placed", Sale(2), key="shop-0")
        await caught_up(revenue)
        assert [("shop-0", 2, 3, 2)] == await revenue.read(rows)
        live = (await revenue.status()).live
        assert (2, [3, 1]) == (live.set_aside, [each.sequence for each in live.failures])
        await mesh.append("order.placed", {}, key="shop-0")
        async with asyncio.timeout(PATIENCE_S):
            while (live := (await revenue.status()).live).failures[0].is_set_aside:
                await asyncio.sleep(0)
        assert (2, 1, 5) == (live.set_aside, live.backlog, live.failures[0].sequence)


async def test_a_database_that_was_lost(open_mesh: OpenMesh, store: Store, tmp_path: Path) -> None:
    """Tables in a new database are made of the whole log, whatever others had counted before."""
    fold, mesh = Fold(), await open_mesh()
    await fill(mesh, fold, 4, range(3))
    async with Projector(mesh, Revenue(), store, options=QUICK) as revenue:
        await caught_up(revenue)
    async with (
        open_store(f"sqlite:///{tmp_path}/another.db") as another,
        Projector(mesh, Revenue(), another, options=QUICK) as revenue,
    ):
        await caught_up(revenue)
        assert fold.rows == await revenue.read(rows)


async def test_what_is_refused(mesh: Mesh, store: Store) -> None:
    """A projection that says too little, or what cannot be, is refused before anything is sent."""

    def of(**fields: object) -> Projection:
        kind: type[Projection] = type("Wrong", (Revenue,), fields)
        return kind()

    for wrong in (
        {"name": ""},
        {"topics": ()},
        {"topics": "order.*"},
        {"tables": ()},
        {"tables": ("CREATE VIEW {v} AS SELECT 1",)},
        {"tables": ("CREATE INDEX {shop}_i ON {shop} (a)",)},
        {"tables": ("CREATE TABLE {a} (b TEXT REFERENCES {c})",)},
        {"version": 0},
        {"on_error": "ignore"},
    ):
        with pytest.raises(UsageError):
            Projector(mesh, of(**wrong), store)
    for name in ("Re", "re venue", "x" * 25, "1st", "a-b"):
        with pytest.raises(InvalidNameError):
            Projector(mesh, of(name=name), store)
    for field in ("batch_max", "poll_s"):
        with pytest.raises(UsageError, match=field):
            ProjectionOptions(**{field: 0})
    revenue = Projector(mesh, Revenue(), store, options=QUICK)
    with pytest.raises(UsageError, match="not at work"):
        await revenue.rebuild()
    async with revenue:
        with pytest.raises(UsageError, match="there are shop"):
            await revenue.read(lambda tables: tables.execute("SELECT * FROM {nothing}"))
        with pytest.raises(StoreError, match="nothing"):
            await revenue.read(lambda tables: tables.execute("SELECT * FROM nothing"))
    with pytest.raises(UsageError, match="used before"):
        await revenue.__aenter__()
    with pytest.raises(ClosedError):
        await revenue.rebuild()
    assert "Projector(Definition('revenue', version=1))" == repr(revenue)


def held(transaction: Transaction) -> bool:
    """Tell whether the live generation was ever told to wait."""
    found = transaction.execute("SELECT max(held_until_us) FROM agent99_projection_generation")
    return bool(found.scalar())


def names_of_tables(transaction: Transaction) -> list[str]:
    """Return what tables a database has."""
    where = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
        "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
    }
    return list(transaction.execute(where[transaction.dialect]).scalars())
