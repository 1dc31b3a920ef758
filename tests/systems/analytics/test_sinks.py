"""Sinks take each row once, wait for nobody, and refuse rows one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from agent99 import Mesh
from agent99.errors import Agent99Error, InvalidNameError, StoreError, UsageError
from agent99.groups import Event
from agent99.store import open_store
from agent99.systems.analytics import (
    AnalyticsProcessor,
    Column,
    FunctionSink,
    ParquetSink,
    SqlSink,
    Sum,
    TopK,
    WindowRow,
)
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._pages import cut
from agent99.systems.analytics._results import ClosedWindows, row_alone, rows_of
from tests._wait import eventually
from tests.groups.conftest import OpenMesh

from ._sales import by_minute, closed, finish, job, revenue, sale, shown, store
from ._sinking import (
    QUICK,
    TARGET,
    VALUES,
    ListSink,
    event,
    latest,
    make_table,
    row,
    sink_when,
    table_of,
)

# --- what is written down -------------------------------------------------------------------------


async def _nowhere(_rows: Sequence[WindowRow], _event: Event) -> None:
    """Take rows, and do nothing."""


@pytest.mark.parametrize(
    ("sinks", "why"),
    [
        ([ListSink()], "tuple"),
        ((ListSink,), "no sink"),
        (("sql",), "no sink"),
        ((ListSink(), ListSink()), "two of its sinks"),
    ],
)
def test_pipelines_refuse_what_are_no_sinks(sinks: Any, why: str) -> None:
    """The sinks of a pipeline are a tuple of sinks whose names differ."""
    with pytest.raises(UsageError, match=why):
        revenue(sinks=sinks)


@pytest.mark.parametrize("kind", ["table", "files"])
@pytest.mark.parametrize(
    ("changed", "kinds", "why"),
    [
        ({"aggregates": {"revision": Sum("pence")}}, {}, "two columns"),
        ({"aggregates": {"Shop": Sum("pence")}}, {}, "two columns"),
        ({"aggregates": {"pence; drop": Sum("pence")}}, {}, "no name of a column"),
        ({}, {"nothing": int}, "no column"),
        ({}, {"pence": list}, "int, float, str or bool"),
    ],
)
def test_tables_refuse_columns(kind: str, changed: Any, kinds: Any, why: str) -> None:
    """A column that a table, or a file, cannot have is refused when the pipeline is defined."""
    of_table = SqlSink("sqlite:///x", "t", kinds=kinds)
    sink = of_table if kind == "table" else ParquetSink("x", kinds=kinds)
    with pytest.raises(UsageError, match=why):
        revenue(sinks=(sink,), **changed)


def test_sinks_refuse_what_they_are_given() -> None:
    """Names, tables and functions that are none are refused at once; a URL is not shown."""
    for table in ("", "1", "a b", "a" * 51, 'a"', "Shops", None):
        with pytest.raises(UsageError, match="table"):
            SqlSink("sqlite:///x", table)  # type: ignore[arg-type]  # None is one of the wrong ones
    for make in (
        lambda: SqlSink("sqlite:///x", "t", name="a b"),
        lambda: ParquetSink("x", name="."),
        lambda: FunctionSink("", _nowhere),
    ):
        with pytest.raises(InvalidNameError):
            make()
    with pytest.raises(UsageError, match="no function"):
        FunctionSink("http", "http://")  # type: ignore[arg-type]  # that is what is tested
    assert "secret" not in repr(SqlSink("postgresql://me:secret@host/db", "t"))
    with pytest.raises(InvalidNameError, match="group"):
        job(revenue(sinks=(FunctionSink("a" * 60, _nowhere),)))


# --- a table --------------------------------------------------------------------------------------


async def test_a_table_has_the_latest_revisions(url: str, seed: int) -> None:
    """However rows come, again, late or in any order: the highest revision of a window counts."""
    luck = random.Random(seed)
    told = [
        row(minute, shop, revision=revision, pence=luck.randint(-5, 2**40), is_retracted=gone)
        for minute in range(4)
        for shop in ("north", "it's", "", None)
        for revision in range(1, 5)
        for gone in [revision > 1 and luck.random() < 0.4]
    ]
    async with SqlSink(url, "revenue").open(TARGET) as writer:
        for _ in range(3):
            luck.shuffle(told)
            for first in range(0, len(told), 7):
                assert [] == await writer.write(told[first : first + 7], event())
    assert latest(told) == await table_of(url)


async def test_versions_stand_side_by_side(url: str) -> None:
    """The rows of another version of a job are other rows of the table."""
    sink = SqlSink(url, "revenue")
    for version in (1, 2):
        target = msgspec.structs.replace(TARGET, version=version)
        async with sink.open(target) as writer:
            await writer.write([row(pence=version)], event())
    async with open_store(url, schema="reader") as read:
        found = await read.read(
            lambda one: one.execute("SELECT version, pence FROM revenue ORDER BY version")
        )
    assert [(1, 1), (2, 2)] == [tuple(one) for one in found]


async def test_bad_rows_are_refused_alone(url: str) -> None:
    """Of rows of which 1 % break a rule of the table, or fit no column, all others are written."""
    await make_table(url, "CHECK (pence < 1000)")
    rows = [row(minute) for minute in range(1_000)]
    for at in (0, 1, 137, 500, 777, 998):
        rows[at] = row(at, pence=1_000)
    rows[300] = row(300, pence=2**63)
    rows[301] = row(301, pence="much")
    rows[302] = row(302, shop=5)
    rows[999] = row(999, pence=True)
    bad = (0, 1, 137, 300, 301, 302, 500, 777, 998, 999)
    async with SqlSink(url, "revenue").open(TARGET) as writer:
        refused = {one.row: one.reason for one in await writer.write(rows, event())}
    assert set(bad) == set(refused)
    assert "64 bits" in refused[300]
    assert "not of int" in refused[301]
    assert "check" in refused[137].lower()
    good = [one for at, one in enumerate(rows) if at not in bad]
    assert latest(good) == await table_of(url)


async def test_a_table_that_does_not_fit_is_no_rows_fault(url: str) -> None:
    """A table with other columns, or none at all any more, is told as such: no row is refused."""
    other = msgspec.structs.replace(TARGET, values=(*VALUES, Column("tax", int)))
    sink = SqlSink(url, "revenue")
    async with sink.open(TARGET) as writer:
        async with open_store(url, schema="reader") as reader:
            await reader.transaction(lambda one: one.execute("DROP TABLE revenue"))
        with pytest.raises(StoreError):
            await writer.write([row()], event())
    with pytest.raises(Agent99Error):
        async with sink.open(other):
            pass


# --- files ----------------------------------------------------------------------------------------


def _read(folder: Path) -> pl.DataFrame:
    """Return the latest revision of each window, as the manual says it."""
    window = ["version", "start_us", "end_us", "key_json", "number"]
    return (
        pl.read_parquet(folder / "*.parquet")
        .sort("revision")
        .unique(window, keep="last")
        .filter(~pl.col("is_retracted"))
    )


async def test_files_are_the_same_when_repeated(tmp_path: Path, seed: int) -> None:
    """One event is one file, the same again; of all files the highest revisions are the windows."""
    luck = random.Random(seed)
    told = [
        [
            row(
                luck.randrange(9), revision=sequence, pence=sequence, is_retracted=sequence % 5 == 4
            )
            for _ in range(3)
        ]
        for sequence in range(1, 20)
    ]
    folder = tmp_path / "shops" / "v1" / "revenue"
    contents: list[dict[str, bytes]] = []
    for _ in range(2):
        async with ParquetSink(tmp_path).open(TARGET) as writer:
            for sequence, rows in enumerate(told, start=1):
                assert [] == await writer.write(rows, event(sequence))
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1]
    assert 19 == len(contents[0])
    frame = _read(folder)
    found = {
        (one["start_us"], one["end_us"], one["shop"], one["number"]): (
            one["revision"],
            one["pence"],
        )
        for one in frame.iter_rows(named=True)
    }
    assert latest([one for rows in told for one in rows]) == found


async def test_files_leave_out_what_fits_no_column(tmp_path: Path) -> None:
    """A value that its column cannot hold refuses its row alone."""
    async with ParquetSink(tmp_path).open(TARGET) as writer:
        refused = await writer.write([row(0), row(1, pence=2**70), row(2)], event())
        assert [1] == [one.row for one in refused]
        assert [0] == [one.row for one in await writer.write([row(1, pence="x")], event(2))]
    assert 2 == len(_read(tmp_path / "shops" / "v1" / "revenue"))


@pytest.mark.parametrize("kind", ["table", "files"])
async def test_rows_without_their_values_are_refused(kind: str, url: str, tmp_path: Path) -> None:
    """A row whose values no event could hold is refused: no figure is written in their place."""
    sink = SqlSink(url, "revenue") if kind == "table" else ParquetSink(tmp_path)
    rows = [row(0), cut(row(1)), cut(row(2, is_retracted=True)), row(3)]
    async with sink.open(TARGET) as writer:
        refused = await writer.write(rows, event())
    assert [1] == [one.row for one in refused]
    assert "too large for an event" in refused[0].reason


# --- live -----------------------------------------------------------------------------------------


async def test_rows_go_to_all_sinks(mesh: Mesh, url: str, tmp_path: Path) -> None:
    """Each sink of a pipeline has the windows that the database has, corrections too."""
    called: list[WindowRow] = []

    async def take(rows: Sequence[WindowRow], _event: Event) -> None:
        called.extend(rows)

    sinks = (SqlSink(url, "revenue"), ParquetSink(tmp_path), FunctionSink("called", take))
    tops = {"sales": Sum("number"), "pence": Sum("pence"), "top": TopK("shop", 2)}
    pipeline = revenue(sinks=sinks, aggregates=tops)
    await mesh.host(AnalyticsProcessor(job(pipeline), url))
    figures = Analytics(mesh, "shops")
    for shard in (0, 1):
        await store(mesh, [sale(10), sale(75, "south")], shard=shard)
    await eventually(lambda: called)
    await store(mesh, [sale(20)])
    await finish(mesh)
    await eventually(lambda: len(latest(called)) == 2 and len(called) == 3)
    for sink in sinks:
        stats = await sink_when(figures, lambda one: one.delivered == 3, sink.name)
        assert (0, 0, "") == (stats.refused, stats.refused_events, stats.error)
        await sink_when(figures, lambda one: one.lag == 0, sink.name)
    rows = await figures.query("revenue")
    assert latest(rows) == latest(called) == await table_of(url)
    frame = _read(tmp_path / "shops" / "v1" / "revenue")
    assert {'[["north",3]]', '[["south",2]]'} == set(frame["top"])


async def test_a_sink_that_is_away_holds_up_nobody(mesh: Mesh, url: str) -> None:
    """While a sink is away, or cannot be opened, all else goes on; afterwards it lacks nothing."""
    away = ListSink("away", is_away=True)
    there = ListSink("there")
    wrong = SqlSink("sqlite:////nowhere/at/all.db", "revenue", name="wrong")
    broken = FunctionSink("broken", _raise, curve=QUICK)
    pipeline = revenue(sinks=(away, wrong, broken, there))
    await mesh.host(AnalyticsProcessor(job(pipeline), url))
    figures = Analytics(mesh, "shops")
    sales = [sale(60 * minute) for minute in range(5)]
    await store(mesh, sales)
    await finish(mesh)
    await eventually(lambda: len(there.rows) == 5 and away.calls > 3)
    await closed(figures, by_minute(sales))
    assert "away" in (await sink_when(figures, lambda one: one.error, "away")).error
    unopened = await sink_when(figures, lambda one: one.error, "wrong")
    assert "nowhere" in unopened.error
    assert unopened.lag is None
    assert "ZeroDivision" in (await sink_when(figures, lambda one: one.error, "broken")).error
    away.is_away = False
    stats = await sink_when(figures, lambda one: one.lag == 0 and not one.error, "away")
    assert (5, 0, 0) == (stats.delivered, stats.refused, stats.refused_events)
    assert there.rows == away.rows


async def test_refused_rows_are_in_quarantine(mesh: Mesh, url: str) -> None:
    """Each row that is refused stands in quarantine alone, with its reason, and can be redriven."""
    sink = ListSink(refuses=lambda one: one.values["pence"] > 500)
    await mesh.host(AnalyticsProcessor(job(revenue(sinks=(sink,))), url))
    figures = Analytics(mesh, "shops")
    shops = [f"shop-{number}" for number in range(100)]
    sales = [sale(5, shop, 1_000 if shop in ("shop-7", "shop-70") else 10) for shop in shops]
    await store(mesh, sales)
    await finish(mesh)
    stats = await sink_when(figures, lambda one: one.lag == 0 and one.delivered, "list")
    assert (98, 2, 0) == (stats.delivered, stats.refused, stats.refused_events)
    assert by_minute(one for one in sales if one.pence == 10) == shown(sink.rows)
    quarantine = mesh.link.durable.quarantine
    buried = [one async for one in quarantine.records()]
    assert [("shops-v1-revenue-list", "too dear")] * 2 == [
        (one.capability, one.message) for one in buried
    ]
    sink.refuses = lambda _: False
    for one in buried:
        await quarantine.redrive(one)
    await sink_when(figures, lambda one: one.delivered == 100, "list")
    assert by_minute(sales) == shown(sink.rows)


async def test_events_that_are_no_rows_are_in_quarantine(mesh: Mesh, url: str) -> None:
    """What others append to the topic, and is no event of ours, stops no sink."""
    sink = ListSink()
    await mesh.host(AnalyticsProcessor(job(revenue(sinks=(sink,))), url))
    right: dict[str, Any] = {
        "job": "shops",
        "version": 1,
        "pipeline": "revenue",
        "turn": 1,
        "watermark_us": None,
        "key": {"shop": ["north"]},
        "values": {"sales": [1], "pence": [1]},
        "is_retracted": [False],
        "is_cut": [False],
    }
    right |= {name: [1] for name in ("start_us", "end_us", "number", "rows", "revision")}
    wrongs: list[dict[str, Any]] = [
        {"no": "rows"},
        right | {"key": {}},
        right | {"values": {}},
        right | {"rows": [1, 2]},
        right | {"is_cut": []},
        right | {"version": 2, "rows": []},
        right,
    ]
    for wrong in wrongs:
        await mesh.append("windows.shops.revenue", wrong, key="shops.revenue")
    await eventually(lambda: sink.rows)
    stats = await sink_when(Analytics(mesh, "shops"), lambda one: one.lag == 0, "list")
    assert (1, 5) == (stats.delivered, stats.refused_events)


async def test_one_processor_writes_and_another_takes_over(open_mesh: OpenMesh, url: str) -> None:
    """One processor at a time writes to a sink; the next one goes on behind what it wrote."""
    sink = ListSink()
    meshes = [await open_mesh(), await open_mesh()]
    agents = [AnalyticsProcessor(job(revenue(sinks=(sink,))), url) for _ in meshes]
    for mesh, agent in zip(meshes, agents, strict=True):
        await mesh.host(agent)
    await store(meshes[0], [sale(10)], shard=0)
    await store(meshes[0], [sale(10)], shard=1)
    for shard in (0, 1):
        await store(meshes[0], [sale(75)], shard=shard)
    await eventually(lambda: sink.rows)
    await meshes[0].stop(agents[0])
    await finish(meshes[1])
    stats = await sink_when(Analytics(meshes[1], "shops"), lambda one: one.delivered == 2, "list")
    assert 2 == len(sink.rows)
    assert "" == stats.error


async def _raise(_rows: Sequence[WindowRow], _event: Event) -> None:
    raise ZeroDivisionError


def test_events_are_cut_into_rows() -> None:
    """A row alone is what its event says of it."""
    whole = ClosedWindows(
        job="j",
        version=1,
        pipeline="p",
        turn=1,
        watermark_us=None,
        start_us=[1, 2],
        end_us=[3, 4],
        number=[0, 0],
        key={"a": [1, 2]},
        values={"b": [1, 2]},
        rows=[1, 1],
        revision=[1, 2],
        is_retracted=[False, True],
        is_cut=[True, False],
    )
    assert rows_of(whole) == [one for at in (0, 1) for one in rows_of(row_alone(whole, at))]
