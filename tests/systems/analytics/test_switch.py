"""A new version of a job runs beside the old one, is compared, and takes its place."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent99 import Mesh
from agent99.errors import RemoteError
from agent99.groups import Event, list_groups, read_events
from agent99.systems.analytics import (
    Analytics,
    AnalyticsProcessor,
    ClosedWindows,
    Count,
    CountOf,
    FunctionSink,
    Pipeline,
    Session,
    Sum,
    TopK,
    Tumbling,
    WindowRow,
)
from agent99.systems.analytics._results import rows_of
from tests._wait import PATIENCE_S, eventually

from ._sales import (
    MINUTE_US,
    START_US,
    by_minute,
    closed,
    counts_when,
    finish,
    job,
    revenue,
    rows_when,
    sale,
    shown,
    source,
    store,
)

SALES = [sale(at, shop) for at in (10, 75, 140) for shop in ("north", "south")]
CLOSED = by_minute(one for one in SALES if one.at_us < START_US + 2 * MINUTE_US)


async def start(mesh: Mesh, url: str, version: int, *pipelines: Pipeline) -> AnalyticsProcessor:
    """Host a processor of a version; of `revenue`, if no pipelines are said."""
    agent = AnalyticsProcessor(job(*(pipelines or (revenue(),)), version=version), url)
    await mesh.host(agent)
    return agent


async def sell(mesh: Mesh) -> None:
    """Store the sales, in both shards."""
    await store(mesh, SALES)
    await store(mesh, [sale(140)], shard=1)


async def told(mesh: Mesh, count: int, pipeline: str = "revenue") -> list[tuple[int, WindowRow]]:
    """Return the rows that events have told, each with its version, once there are so many."""
    rows: list[tuple[int, WindowRow]] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(rows) < count:
            await asyncio.sleep(0)
            events = [each async for each in read_events(mesh, f"windows.shops.{pipeline}")]
            windows = [each.decode(ClosedWindows) for each in events]
            rows = [(each.version, row) for each in windows for row in rows_of(each)]
    return rows


def windows(rows: list[tuple[int, WindowRow]]) -> Counter[tuple[int, str, int]]:
    """Return how often each revision of each window is told."""
    return Counter((row.start_us, str(row.key[0]), row.revision) for _, row in rows)


async def test_only_the_current_version_is_told(mesh: Mesh, url: str) -> None:
    """A version beside the current one has its rows, and is silent until it is switched to."""
    await start(mesh, url, 1)
    await sell(mesh)
    await closed(Analytics(mesh, "shops"), CLOSED)
    await start(mesh, url, 2)
    await closed(Analytics(mesh, "shops", version=2), CLOSED)
    figures = Analytics(mesh, "shops")
    assert (1, 0) == ((done := await figures.switch(2)).before, done.told)
    assert (2, 0) == ((done := await figures.switch(2)).before, done.told)
    assert 2 == (await figures.stats()).current_version
    await store(mesh, [sale(80)])  # corrects, in both
    await finish(mesh)
    for version in (0, 1, 2):
        figures = Analytics(mesh, "shops", version=version)
        await closed(figures, by_minute([*SALES, sale(140), sale(80)]))
    rows = await told(mesh, 7)
    assert {1} == set(windows(rows).values())
    assert [1] * 4 + [2] * 3 == [version for version, _ in rows]


async def test_what_the_old_version_has_not_told_is_told_by_the_switch(
    mesh: Mesh, url: str
) -> None:
    """What the new version has closed, corrected or found since the old one stopped is told."""
    old = await start(mesh, url, 1)
    await sell(mesh)
    await closed(Analytics(mesh, "shops"), CLOSED)
    await mesh.stop(old)
    await start(mesh, url, 2)
    figures = Analytics(mesh, "shops", version=2)
    await closed(figures, CLOSED)
    late = [sale(80), sale(81, "west")]
    await store(mesh, late)
    after = CLOSED | by_minute([sale(75), *late])
    await closed(figures, after)
    await finish(mesh)
    everything = by_minute([*SALES, sale(140), *late])
    await closed(figures, everything)
    assert 4 == (await Analytics(mesh, "shops").switch(2)).told
    rows = await told(mesh, 8)
    assert {1} == set(windows(rows).values())
    assert everything == shown(row for _, row in rows)


async def test_a_version_that_is_behind_is_refused(mesh: Mesh, url: str) -> None:
    """A switch to it says how far it is; forced, it is made, and nothing is told a second time."""
    await start(mesh, url, 1)
    await start(mesh, url, 2, revenue(source(delay_s=100.0)))
    await sell(mesh)
    await closed(Analytics(mesh, "shops"), CLOSED)
    await counts_when(Analytics(mesh, "shops", version=2), 7)
    figures = Analytics(mesh, "shops")
    behind = "version 2 of job 'shops' is behind version 1 with pipeline 'revenue': 4 windows"
    with pytest.raises(RemoteError, match=behind) as no:
        await figures.switch(2, patience_s=0)
    assert "VERSION_BEHIND" == no.value.code
    assert 1 == (await figures.stats()).current_version
    with pytest.raises(RemoteError) as no:
        await figures.switch(3)
    assert "UNKNOWN_JOB" == no.value.code
    assert 0 == (await figures.switch(2, is_forced=True)).told
    await finish(mesh)
    rows = await told(mesh, 6)
    assert {1} == set(windows(rows).values())
    assert [1] * 4 + [2] * 2 == [version for version, _ in rows]
    await closed(figures, by_minute([*SALES, sale(140)]))


async def test_sessions_and_windows_by_count_are_told_once(mesh: Mesh, url: str) -> None:
    """Windows whose ends the records make are told once over a switch, too."""
    by_shop = source(shard_by="shop", shards=1)
    pairs = revenue(by_shop, window=CountOf(2), lateness_s=0.0)
    old = await start(mesh, url, 1, pairs)
    await store(mesh, [sale(at) for at in (500, 10, 400)])
    await rows_when(Analytics(mesh, "shops"), len)
    await mesh.stop(old)
    visits = replace(pairs, name="visits", window=Session(30))
    await start(mesh, url, 2, pairs, visits)
    await store(mesh, [sale(at) for at in (20, 600)])
    await rows_when(Analytics(mesh, "shops", version=2), lambda rows: len(rows) == 2)
    await rows_when(
        Analytics(mesh, "shops", version=2), lambda rows: len(rows) == 1, pipeline="visits"
    )
    assert 2 == (await Analytics(mesh, "shops").switch(2)).told
    assert [0, 1] == [row.number for _, row in await told(mesh, 2)]
    assert [2] == [version for version, _ in await told(mesh, 1, "visits")]


async def test_versions_are_compared(mesh: Mesh, url: str) -> None:
    """Windows that both have closed are equal, different, or of one alone; figures are by name."""
    await start(mesh, url, 1)
    await sell(mesh)
    figures = Analytics(mesh, "shops")
    await closed(figures, CLOSED)
    dear = revenue(
        columns={"more": lambda pence, shop: pence + (shop == "south")},
        aggregates={"pence": Sum("more"), "most": Sum("pence")},
        where=lambda at_us, shop: shop != "north" or at_us < START_US + MINUTE_US,
    )
    await start(mesh, url, 2, dear)
    await rows_when(Analytics(mesh, "shops", version=2), lambda rows: len(rows) == 3)
    found = await figures.compare(1, 2, pipeline="revenue", limit=1)
    assert (1, 2, 1, 0) == (found.equal, found.different, found.only_old, found.only_new)
    (one,) = found.differences
    assert (("south",), 100, 101) == (one.new.key, one.old.values["pence"], one.new.values["pence"])
    assert START_US + 138_000_000 == found.until_us
    turned = await figures.compare(2, 1, pipeline="revenue")
    assert (1, 2, 0, 1) == (turned.equal, turned.different, turned.only_old, turned.only_new)
    first = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    found = await figures.compare(1, 2, pipeline="revenue", until=first)
    assert (1, 1, 0, 0) == (found.equal, found.different, found.only_old, found.only_new)
    with pytest.raises(RemoteError) as no:
        await figures.compare(1, 7, pipeline="revenue")
    assert "UNKNOWN_JOB" == no.value.code


async def test_rows_that_no_message_holds_are_compared(mesh: Mesh, url: str) -> None:
    """Rows too large for an answer are compared by their values, and told without them."""
    names = {"top": TopK("shop")}
    await start(mesh, url, 1, revenue(key=(), aggregates=names))
    for number in range(4):
        await store(mesh, [sale(1, shop=f"{number}" * 200_000)])
    await finish(mesh)
    figures = Analytics(mesh, "shops")
    await rows_when(figures, len)
    few = {"top": TopK("shop", k=2)}
    await start(mesh, url, 2, revenue(key=(), aggregates=few))
    await start(mesh, url, 3, revenue(key=(), aggregates=names | {"count": Count()}))
    for version in (2, 3):
        await rows_when(Analytics(mesh, "shops", version=version), len)
    (one,) = (await figures.compare(1, 2, pipeline="revenue")).differences
    assert [(True, 4), (True, 4)] == [(row.is_cut, row.rows) for row in (one.old, one.new)]
    found = await figures.compare(1, 3, pipeline="revenue")
    assert (1, 0) == (found.equal, found.different)


async def test_a_version_is_dropped(mesh: Mesh, url: str) -> None:
    """A version that is neither asked for nor run goes, with its groups; its number begins anew."""
    taken: list[WindowRow] = []

    async def take(rows: Sequence[WindowRow], _: Event) -> None:
        taken.extend(rows)

    old = await start(mesh, url, 1, revenue(sinks=(FunctionSink("till", take),)))
    await sell(mesh)
    figures = Analytics(mesh, "shops")
    await closed(figures, CLOSED)
    await start(mesh, url, 2)
    await closed(Analytics(mesh, "shops", version=2), CLOSED)
    await eventually(lambda: len(taken) == len(CLOSED))
    with pytest.raises(RemoteError, match="asked for") as no:
        await figures.drop(1)
    assert "VERSION_IN_USE" == no.value.code
    await figures.switch(2)
    with pytest.raises(RemoteError, match="is run") as no:
        await figures.drop(1)
    assert "VERSION_IN_USE" == no.value.code
    await mesh.stop(old)
    assert len(CLOSED) == (await figures.drop(1)).rows
    assert ("shops-v2",) == await list_groups(mesh)
    for ask in (figures.drop(1), Analytics(mesh, "shops", version=1).query("revenue")):
        with pytest.raises(RemoteError) as no:
            await ask
        assert "UNKNOWN_JOB" == no.value.code
    await start(mesh, url, 1, revenue(window=Tumbling(30)))
    await rows_when(Analytics(mesh, "shops", version=1), lambda rows: len(rows) == 4)


async def test_who_follows_follows_the_switch(mesh: Mesh, url: str) -> None:
    """Whoever follows the current version is given the rows of the new one after the switch."""
    await start(mesh, url, 1)
    await sell(mesh)
    figures = Analytics(mesh, "shops")
    await closed(figures, CLOSED)
    double = revenue(columns={"twice": lambda pence: 2 * pence}, aggregates={"twice": Sum("twice")})
    await start(mesh, url, 2, double)
    await rows_when(Analytics(mesh, "shops", version=2), lambda rows: len(rows) == 4)
    async with (
        asyncio.timeout(PATIENCE_S),
        aclosing(figures.follow("revenue", poll_s=0.1)) as changes,
    ):
        assert (await anext(changes)).is_snapshot
        await figures.switch(2)
        change = await anext(changes)
        assert (True, 4) == (change.is_snapshot, len(change.rows))
        assert {"twice": 200} == change.rows[0].values
