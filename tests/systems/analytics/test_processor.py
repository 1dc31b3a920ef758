"""Processors keep the windows of a job: each record counts once, and each row is told once."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from agent99 import Mesh
from agent99.errors import RemoteError, RequestError, StoreUnavailableError, UsageError
from agent99.groups import read_events
from agent99.systems.analytics import CountOf, Sliding, Tumbling, _closer, _folding, _stock
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._closed_rows import write_turn
from agent99.systems.analytics._delta import WindowRow
from agent99.systems.analytics._folding import COMMIT_S
from agent99.systems.analytics._processor import AnalyticsProcessor
from agent99.systems.analytics._results import ClosedWindows, rows_of
from agent99.systems.analytics._work import LateRecords
from tests._wait import PATIENCE_S
from tests.groups.conftest import OpenMesh

from ._sales import (
    MINUTE_US,
    START_US,
    by_minute,
    closed,
    closes,
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


async def test_windows_close_as_the_watermark_passes(mesh: Mesh, url: str) -> None:
    """A window is open while records may come, and closed behind the watermark; both are shown."""
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    sales = [sale(at, shop) for at in range(0, 150, 5) for shop in ("north", "south")]
    for shard in (0, 1):
        await store(mesh, sales, shard=shard)
    expected = by_minute(sales * 2)
    rows = await rows_when(figures, lambda rows: len(rows) == 6, state="all")
    rows = await rows_when(
        figures, lambda rows: sum(row.state == "closed" for row in rows) == 4, state="all"
    )
    assert expected == shown(rows)
    assert [1, 1, 1, 1, 0, 0] == [row.revision for row in rows]
    await finish(mesh)
    rows = await closed(figures, expected)
    assert {START_US + n * MINUTE_US for n in (1, 2, 3)} == {row.end_us for row in rows}
    (whole,) = await rows_when(figures, len, pipeline="total")
    assert {"pence": 2 * 6_000} == whole.values


async def test_a_batch_that_comes_again_counts_once(mesh: Mesh, url: str) -> None:
    """What stands in the log twice under one id counts once: in windows, counts and marks."""
    sales = [sale(at) for at in range(30)]
    for _ in range(2):
        await store(mesh, sales, event_id="once")
        await store(mesh, [sale(40)], shard=1)
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    await finish(mesh)
    await closed(figures, by_minute([*sales, sale(40), sale(40)]))
    assert 32 == (await counts_when(figures, 32)).on_time


def test_a_few_batches_wait_for_others_where_there_has_just_been_a_transaction() -> None:
    """What comes after a silence, or is much, waits for nothing; nor does another partition."""
    pace, few, many = _folding.Pace(), 1, _folding.STORED_MANY
    assert 0.0 == pace.pause_s(0, few, 7.0)
    pace.note(0, 7.0)
    assert COMMIT_S == pytest.approx(pace.pause_s(0, few, 7.0))
    assert COMMIT_S == pytest.approx(pace.pause_s(0, many - 1, 7.0))
    assert COMMIT_S - 0.01 == pytest.approx(pace.pause_s(0, few, 7.01))
    assert (0.0, 0.0) == (pace.pause_s(0, many, 7.0), pace.pause_s(1, few, 7.0))
    assert 0.0 == pace.pause_s(0, few, 7.0 + COMMIT_S)


async def test_a_transaction_follows_another_one_after_a_pause(
    mesh: Mesh, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch of a partition is folded when the pause is over."""
    pause_s = 0.3
    monkeypatch.setattr(_folding, "COMMIT_S", pause_s)
    await mesh.host(AnalyticsProcessor(job(revenue()), url))
    clock = asyncio.get_running_loop()
    since_s = clock.time()
    for count in (1, 2):
        await store(mesh, [sale(count)])
        await counts_when(Analytics(mesh, "shops"), count)
    assert pause_s <= clock.time() - since_s


async def test_late_records_correct_or_are_told(mesh: Mesh, url: str) -> None:
    """A late record corrects its window by another revision; one too late is in the side stream."""
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    sales = [sale(10), sale(75)]
    for shard in (0, 1):
        await store(mesh, sales, shard=shard)
    await closed(figures, by_minute([sale(10)] * 2))
    await store(mesh, [sale(20, pence=7)])  # 53 s behind the watermark of 73
    corrected = {(START_US, "north"): (3, 207)}
    (row,) = await closed(figures, corrected)
    assert 2 == row.revision
    await store(mesh, [sale(200), sale(20, number=5), sale(21, number=6)])
    counts = await counts_when(figures, 8)
    assert (5, 1, 2) == (counts.on_time, counts.late, counts.dropped)
    assert closes(counts)
    await finish(mesh)
    await closed(figures, {**by_minute([sale(75), sale(75), sale(200)]), **corrected})
    async with asyncio.timeout(PATIENCE_S):
        while not (late := [each async for each in read_events(mesh, "late.shops.revenue")]):
            await asyncio.sleep(0)
    assert [[5, 6]] == [each.decode(LateRecords).columns["number"] for each in late]


async def test_windows_by_count_take_whatever_comes(mesh: Mesh, url: str) -> None:
    """Windows by count know no late records: each is counted on, however far the time has come."""
    by_shop = source(shard_by="shop")
    pairs = revenue(by_shop, window=CountOf(2), lateness_s=0.0)
    await mesh.host(AnalyticsProcessor(job(pairs), url))
    figures = Analytics(mesh, "shops")
    for second in (500, 10, 400, 20, 300):
        await store(mesh, [sale(second, pence=second)])
        await counts_when(figures, 1 + (500, 10, 400, 20, 300).index(second))
    rows = await rows_when(figures, lambda rows: len(rows) == 2)
    assert {(0, 510), (1, 420)} == {(row.number, row.values["pence"]) for row in rows}
    (last,) = await rows_when(figures, len, state="open")
    assert (2, 300) == (last.number, last.values["pence"])


async def test_rows_are_events_once(mesh: Mesh, url: str) -> None:
    """Each revision of each row is in exactly one event, in the order of the turns."""
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    for at in (10, 75, 140):
        for shard in (0, 1):
            await store(mesh, [sale(at)], shard=shard)
    await finish(mesh)
    rows = await rows_when(figures, lambda rows: len(rows) == 3)
    await rows_when(figures, len, pipeline="total")
    assert rows == await _told(mesh, 3)


async def test_what_is_begun_anew_is_told_once(
    mesh: Mesh, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Much closes in several turns; where the database refuses some, each row is told once."""
    calls = 0

    def refuse_some(*args: Any, **kwargs: Any) -> None:
        nonlocal calls
        calls += 1
        write_turn(*args, **kwargs)
        if calls % 3 == 2:
            raise StoreUnavailableError(url, "as it happens")

    monkeypatch.setattr(_closer, "WRITTEN_ROWS", 1)
    monkeypatch.setattr(_closer, "AGAIN_S", 0.0)
    monkeypatch.setattr(_closer, "write_turn", refuse_some)
    sales = [sale(at, shop) for at in range(0, 600, 7) for shop in ("north", "south")]
    await store(mesh, sales)
    await finish(mesh)
    await mesh.host(AnalyticsProcessor(job(revenue()), url))
    figures = Analytics(mesh, "shops")
    rows = await closed(figures, by_minute(sales))
    assert rows == await _told(mesh, len(rows))
    (counts,) = (await figures.stats()).pipelines
    assert (20, 10) == (counts.rows, counts.turn)  # ten minutes, of two shops
    assert 12 < calls


async def test_what_cannot_be_folded_holds_up_nobody(mesh: Mesh, url: str) -> None:
    """What is no batch, or breaks a function, goes into quarantine, counted; others go on."""

    def pence(pence: int) -> int:
        return 100 // (pence - 13)

    broken = revenue(columns={"share": pence})
    await mesh.host(AnalyticsProcessor(job(broken), url))
    figures = Analytics(mesh, "shops")
    await mesh.append("records.sales", {"no": "batch"}, key="sales.0")
    await store(mesh, [sale(1, pence=13), sale(2, pence=13)])
    await store(mesh, [sale(3)])
    await finish(mesh)
    await closed(figures, by_minute([sale(3)]))
    counts = await counts_when(figures, 1)
    assert (1, 2) == (counts.on_time, counts.refused_events)
    buried = [one async for one in mesh.link.durable.quarantine.records()]
    assert ["shops-v1"] * 2 == [one.capability for one in buried]
    assert {"records.sales"} == {one.topic for one in buried}
    assert "division" in buried[1].message + buried[0].message


async def test_what_is_redriven_counts(mesh: Mesh, url: str) -> None:
    """What was refused is folded when it is given back from quarantine, once what broke is well."""
    broken = {"is": True}

    def share(pence: int) -> int:
        return pence // (not broken["is"])

    await mesh.host(AnalyticsProcessor(job(revenue(columns={"share": share})), url))
    figures = Analytics(mesh, "shops")
    await store(mesh, [sale(1), sale(2)])
    quarantine = mesh.link.durable.quarantine
    async with asyncio.timeout(PATIENCE_S):
        while not (buried := [one async for one in quarantine.records()]):
            await asyncio.sleep(0)
    broken["is"] = False
    await quarantine.redrive(buried[0])
    await counts_when(figures, 2)
    await finish(mesh)
    await closed(figures, by_minute([sale(1), sale(2)]))


async def test_many_deltas_become_one(
    open_mesh: OpenMesh, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What many batches have added to a window is kept as one, and makes the same window."""
    monkeypatch.setattr(_stock, "COMPACT_AT", 4)
    first, second = await open_mesh(), await open_mesh()
    agent = AnalyticsProcessor(job(revenue()), url)
    await first.host(agent)
    figures = Analytics(first, "shops")
    sales = [sale(number, number=number) for number in range(40)]
    for count, one in enumerate(sales, start=1):
        await store(first, [one])
        await counts_when(figures, count)
    async with asyncio.timeout(PATIENCE_S):
        while (await figures.stats()).pipelines[0].deltas > 8:
            await asyncio.sleep(0)
    await first.stop(agent)
    await second.host(AnalyticsProcessor(job(revenue()), url))
    await finish(second)
    await closed(Analytics(second, "shops"), by_minute(sales))


async def test_deltas_become_one_while_windows_close_all_the_time(
    mesh: Mesh, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closer that has rows in each turn keeps no more deltas than another one."""
    monkeypatch.setattr(_stock, "COMPACT_AT", 4)
    one_shard = source(shards=1, delay_s=0.0)
    slides = revenue(one_shard, window=Sliding(600))
    await mesh.host(AnalyticsProcessor(job(slides), url))
    figures = Analytics(mesh, "shops")
    for count in range(16):
        await store(mesh, [sale(count), sale(count, "south")])
        await rows_when(figures, lambda rows, count=count: len(rows) == 2 * count, state="closed")
    assert (await figures.stats()).pipelines[0].deltas < 12


async def test_idle_sources_close_by_the_wall_clock(mesh: Mesh, url: str) -> None:
    """When nothing comes any more, windows close all the same, soon after the grace (N5)."""
    quiet = source(idle_s=0.5, delay_s=0.0)
    await mesh.host(AnalyticsProcessor(job(revenue(quiet, window=Tumbling(1))), url))
    figures = Analytics(mesh, "shops")
    await store(mesh, [sale(0.5)])
    clock = asyncio.get_running_loop()
    since_s = clock.time()
    await closed(figures, {(START_US // MINUTE_US * MINUTE_US, "north"): (1, 100)})
    # Idle after 0.5 s; it is 0.5 s from the record to the end of its window.
    assert 0.4 <= clock.time() - since_s <= 2.5


async def test_processors_share_the_work(open_mesh: OpenMesh, url: str) -> None:
    """Two processors share the pipelines; either answers for open windows of the other's."""
    meshes = [await open_mesh(), await open_mesh()]
    for each in meshes:
        await each.host(AnalyticsProcessor(job(), url))
    figures = Analytics(meshes[0], "shops")
    sales = [sale(at) for at in range(150)]
    for shard in (0, 1):
        await store(meshes[0], sales, shard=shard)
    await rows_when(
        figures,
        lambda rows: [{"pence": 30_000}] == [row.values for row in rows],
        pipeline="total",
        state="open",
    )
    async with asyncio.timeout(PATIENCE_S):
        owners: set[str] = set()
        while len(owners - {""}) < 2:
            owners = {one.closer for one in (await figures.stats()).pipelines}
            await asyncio.sleep(0)
    for each in meshes:
        for peer in await each.discover("analytics_processor"):
            question = {"pipeline": "total", "state": "open"}
            page: Any = await each.request(peer, "query", question)
            assert [{"pence": 30_000}] == [row["values"] for row in page["rows"]]


async def test_who_takes_over_goes_on_alike(open_mesh: OpenMesh, url: str) -> None:
    """What one processor has shown is not shown again by the next; corrections go on from it."""
    first, second = await open_mesh(), await open_mesh()
    agent = AnalyticsProcessor(job(), url)
    await first.host(agent)
    figures = Analytics(first, "shops")
    for shard in (0, 1):
        await store(first, [sale(10), sale(75)], shard=shard)
    await closed(figures, by_minute([sale(10)] * 2))
    await store(first, [sale(21)])
    await closed(figures, by_minute([sale(10), sale(10), sale(21)]))
    await first.stop(agent)
    await store(second, [sale(22), sale(76)])
    await second.host(AnalyticsProcessor(job(), url))
    sales = [sale(10), sale(10), sale(21), sale(22)]
    figures = Analytics(second, "shops")
    (row,) = await closed(figures, by_minute(sales))
    assert 3 == row.revision
    await finish(second)
    await closed(figures, by_minute([*sales, sale(75), sale(75), sale(76)]))
    assert [1, 2, 3, 1] == [row.revision for row in await _told(second, 4)]


async def test_a_version_stays_what_it_was(mesh: Mesh, url: str) -> None:
    """A changed definition under the same version is refused; a new version runs beside the old."""
    await mesh.host(AnalyticsProcessor(job(), url))
    changed = revenue(columns={"double": lambda pence: 2 * pence})
    with pytest.raises(UsageError, match="raise the version"):
        await mesh.host(AnalyticsProcessor(job(changed), url))
    same = revenue(columns={"double": lambda pence: 2 * pence})
    await mesh.host(AnalyticsProcessor(job(same, version=2), url))
    other = revenue(columns={"double": lambda pence: 3 * pence})
    with pytest.raises(UsageError, match="version=3"):
        await mesh.host(AnalyticsProcessor(job(other, version=2), url))
    await store(mesh, [sale(1)])
    await finish(mesh)
    for version in (0, 1, 2):
        await closed(Analytics(mesh, "shops", version=version), by_minute([sale(1)]))
    answer = await mesh.request("analytics_processor", "jobs")
    assert [("shops", 1, True), ("shops", 2, False)] == [
        (one["job"], one["version"], one["is_current"]) for one in answer["jobs"]
    ]


async def test_questions_by_key_and_time(mesh: Mesh, url: str) -> None:
    """Rows are asked for by key, by time and by state, a page at a time."""
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    sales = [sale(60 * minute, shop) for minute in range(5) for shop in ("a", "b", "c")]
    await store(mesh, sales)
    await finish(mesh)
    await closed(figures, by_minute(sales))
    of_b = await figures.query("revenue", key="b")
    assert 5 == len(of_b) == sum(row.key == ("b",) for row in of_b)
    question: dict[str, Any] = {
        "pipeline": "revenue",
        "since_us": START_US + 60_000_000,
        "until_us": START_US + 180_000_000,
        "limit": 4,
    }
    first: Any = await mesh.request("analytics_processor", "query", question)
    question["after"] = first["after"]
    last: Any = await mesh.request("analytics_processor", "query", question)
    assert (4, 2, None) == (len(first["rows"]), len(last["rows"]), last["after"])
    assert [] == await figures.query("revenue", state="open")


async def test_unknown_questions_are_refused(mesh: Mesh, url: str) -> None:
    """Who asks for what there is not is told so."""
    await mesh.host(AnalyticsProcessor(job(), url))
    for figures, pipeline in (
        (Analytics(mesh, "nothing"), "revenue"),
        (Analytics(mesh, "shops"), "nothing"),
        (Analytics(mesh, "shops", version=7), "revenue"),
    ):
        with pytest.raises(RemoteError) as refused:
            await figures.query(pipeline)
        assert "UNKNOWN_JOB" == refused.value.code
    with pytest.raises(RemoteError) as refused:
        await mesh.request("analytics_processor", payload={"action": "dance"})
    assert "INVALID_ACTION" == refused.value.code


async def test_batches_of_records_are_stored(mesh: Mesh, url: str) -> None:
    """`process_batch` stores records; one that is none refuses all of them."""
    await mesh.host(AnalyticsProcessor(job(), url))
    records = [{"at_us": START_US + n, "shop": "a", "pence": 5, "number": n} for n in range(10)]
    batch: dict[str, Any] = {"batch": records, "batch_size": 10}
    answer = await mesh.request("analytics_processor", "process_batch", batch)
    assert 10 == answer["processed"]
    for wrong in (
        {"batch": [{"shop": "a"}]},
        {"batch": records, "batch_size": 9},
        {"batch": records, "source": "none"},
    ):
        with pytest.raises(RequestError):
            await mesh.request("analytics_processor", "process_batch", wrong)
    await counts_when(Analytics(mesh, "shops"), 10)


async def test_who_follows_sees_every_row(mesh: Mesh, url: str) -> None:
    """A follower is given what is there, then what comes, corrections too."""
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    for shard in (0, 1):
        await store(mesh, [sale(10), sale(75)], shard=shard)
    await closed(figures, by_minute([sale(10)] * 2))
    async with asyncio.timeout(PATIENCE_S), aclosing(figures.follow("revenue")) as changes:
        first = await anext(changes)
        assert (True, {(START_US, "north"): (2, 200)}) == (first.is_snapshot, shown(first.rows))
        await store(mesh, [sale(21)])
        second = await anext(changes)
        assert [2] == [row.revision for row in second.rows]
        await finish(mesh)
        third = await anext(changes)
        assert {(START_US + MINUTE_US, "north"): (2, 200)} == shown(third.rows)


async def _told(mesh: Mesh, count: int) -> list[WindowRow]:
    """Return the rows of `revenue` that events have told, once there are so many."""
    rows: list[WindowRow] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(rows) < count:
            await asyncio.sleep(0)
            events = [each async for each in read_events(mesh, "windows.shops.revenue")]
            rows = [row for each in events for row in rows_of(each.decode(ClosedWindows))]
    return rows
