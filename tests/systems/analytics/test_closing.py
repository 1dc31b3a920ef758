"""One closes the windows of a pipeline: in nobody's way, followed by another, asked by anybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99 import Mesh
from agent99.clock import Clock
from agent99.errors import RequestError
from agent99.groups import read_events
from agent99.store import Store, open_store
from agent99.systems.analytics import TopK
from agent99.systems.analytics._asker import Asker
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._closed_rows import Closing, compact, read_news, write_turn
from agent99.systems.analytics._delta import WindowRow
from agent99.systems.analytics._horizons import own_horizon, share_horizons
from agent99.systems.analytics._jobs import reader_of_job, register
from agent99.systems.analytics._lease import Claim, beat, read_claims, take
from agent99.systems.analytics._pages import join, open_page
from agent99.systems.analytics._processor import AnalyticsProcessor
from agent99.systems.analytics._questions import After, RowsPage, RowsQuery
from agent99.systems.analytics._results import ClosedWindows, rows_of
from agent99.systems.analytics._tables import MIGRATIONS, SCHEMA
from tests._wait import PATIENCE_S, eventually

from ._held import Held, some_wait
from ._sales import counts_when, finish, job, revenue, rows_when, sale, store

READER = reader_of_job("m", "shops", 1)


@asynccontextmanager
async def stores(url: str, count: int) -> AsyncGenerator[list[Store]]:
    """Open a database several times, as several processors do; the job is known there."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_store(url, migrations=MIGRATIONS, schema=SCHEMA))
            for _ in range(count)
        ]
        note = partial(register, mesh="m", job=job(revenue()), now_us=0)
        await opened[0].transaction(note)
        yield opened


async def test_a_closer_that_was_followed_takes_no_deltas_away(postgres_url: str) -> None:
    """While deltas are made one nobody takes the closer's place: it might miss what is moved."""
    shops = job(revenue())
    async with stores(postgres_url, 3) as (one, two, three):
        claim = Claim("revenue", "", 0, 0)
        first = partial(take, reader=READER, owner="one", claim=claim)
        assert 1 == await one.transaction(first)
        closing = Closing(shops, shops.pipelines["revenue"], READER, 1)
        into = (1, 7, b"")
        moving = Held(one, partial(compact, closing=closing, into=into, parts=[(3, 1, 7)]))
        await moving.done()
        claim = Claim("revenue", "one", 1, 1)
        second = partial(take, reader=READER, owner="two", claim=claim)
        taking = asyncio.ensure_future(two.transaction(second))
        await some_wait(three, 1)
        await moving.end()
        assert await taking is None


async def test_who_folds_keeps_no_closer_from_its_lease(postgres_url: str) -> None:
    """A closer shows that it lives, or is followed, however long others hold the horizon."""
    async with stores(postgres_url, 2) as (one, two):
        folding = Held(one, partial(share_horizons, reader=READER, pipelines=["revenue"]))
        await folding.done()
        claim = Claim("revenue", "", 0, 0)
        async with asyncio.timeout(PATIENCE_S):
            epoch = await two.transaction(partial(take, reader=READER, owner="two", claim=claim))
            assert epoch is not None
            mine = {"revenue": epoch}
            (after,) = await two.transaction(partial(beat, reader=READER, owner="two", mine=mine))
        assert after == Claim("revenue", "two", 1, 2)
        await folding.end()


async def test_a_horizon_moves_between_those_who_fold(postgres_url: str) -> None:
    """Who folds from now on waits behind the closer that waits: it has its turn, however many."""
    async with stores(postgres_url, 4) as (one, two, three, four):
        share = partial(share_horizons, reader=READER, pipelines=["revenue"])
        folding = Held(one, share)
        await folding.done()
        moving = Held(two, partial(own_horizon, reader=READER, pipeline="revenue"))
        await some_wait(four, 1)
        next_one = asyncio.ensure_future(three.transaction(share))
        await some_wait(four, 2)
        await folding.end()
        await moving.done()
        assert not next_one.done()
        await moving.end()
        await next_one


class Behind:
    """A clock whose wall is an hour behind."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __repr__(self) -> str:
        return f"Behind({self._clock!r})"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def wall_us(self) -> int:
        """Return the moment an hour ago."""
        return self._clock.wall_us() - 3_600_000_000


async def test_silence_is_measured_by_one_clock(mesh: Mesh, postgres_url: str) -> None:
    """Whose clock is behind notes no shard as silent that is not, though another one closes."""
    shops = job(revenue())
    processor = AnalyticsProcessor(shops, postgres_url)
    await mesh.host(processor)
    ground: Any = processor._ground
    right, ground.clock = ground.clock, Behind(ground.clock)
    await store(mesh, [sale(1)])
    await counts_when(Analytics(mesh, "shops"), 1)
    (claim,) = await ground.store.read(partial(read_claims, reader=ground.reader))
    closing = Closing(shops, shops.pipelines["revenue"], ground.reader, claim.epoch)
    read = partial(read_news, closing=closing, places={}, here_us=right.wall_us())
    news = await ground.store.read(read)
    assert 0 <= news.now_us - news.shards[0].seen_us < 60_000_000


async def test_closers_outlive_whatever_breaks(
    mesh: Mesh, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody foresaw ends no look for good: windows of this processor close on."""
    processor = AnalyticsProcessor(job(), url)
    await mesh.host(processor)
    closers: Any = processor._closers
    look, looks = closers.look, 0

    async def broken() -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ValueError("nobody foresaw this")
        await look()

    closers.look = broken
    async with asyncio.timeout(PATIENCE_S):
        while looks < 2:
            await asyncio.sleep(0)
    assert "nobody foresaw this" in caplog.text


async def test_a_window_is_open_until_its_row_is_stored(
    mesh: Mesh, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is said of a window as closed is said by the database, and so by whoever comes next."""
    plain, may_write = Store.transaction, asyncio.Event()
    writing: list[WindowRow] = []

    async def transaction(self: Store, work: Callable[..., Any], *more: Any) -> Any:
        is_turn = isinstance(work, partial) and work.func is write_turn
        if is_turn and (rows := work.keywords["turn"].rows):
            writing.extend(rows)
            await may_write.wait()
        return await plain(self, work, *more)

    monkeypatch.setattr(Store, "transaction", transaction)
    await mesh.host(AnalyticsProcessor(job(revenue()), url))
    figures = Analytics(mesh, "shops")
    for shard in (0, 1):
        await store(mesh, [sale(1), sale(70)], shard=shard)
    await eventually(lambda: writing)
    rows = await figures.query("revenue")
    assert ["open"] * 2 == [row.state for row in rows]
    may_write.set()
    states = ["closed", "open"]
    await rows_when(figures, lambda rows: states == [row.state for row in rows], state="all")


def row(end_us: int, shop: str = "", state: Any = "open", **changed: Any) -> WindowRow:
    """Return a row of a window."""
    right: dict[str, Any] = {"values": {}, "rows": 1, "revision": int(state == "closed")}
    right |= {"pipeline": "revenue", "start_us": 0, "end_us": end_us, "key": (shop,)}
    return WindowRow(**(right | changed), state=state)


@given(
    st.sets(st.tuples(st.integers(0, 4), st.sampled_from("abc"))),
    st.sets(st.tuples(st.integers(0, 4), st.sampled_from("abc"))),
    st.integers(1, 5),
)
def test_pages_have_all_rows_once(
    shut: set[tuple[int, str]], ajar: set[tuple[int, str]], limit: int
) -> None:
    """However small pages are: each window is on one of them, a closed one before all open ones."""
    closed = [row(*one, "closed") for one in sorted(shut)]
    opened = [row(*one) for one in sorted(ajar)]
    pages = [closed[at : at + limit] for at in range(0, len(closed), limit)] or [[]]
    pages[-1], after = join(pages[-1], open_page(opened, None, limit), limit)
    while after is not None:
        page, after = join([], open_page(opened, after, limit), limit)
        pages.append(page)
    assert all(len(page) <= limit for page in pages)
    found = [one for page in pages for one in page]
    assert closed == found[: len(closed)]
    rest = {(one.end_us, *one.key) for one in found[len(closed) :]}
    assert len(rest) == len(found) - len(closed)
    assert ajar - shut <= rest <= ajar  # what has closed meanwhile may be among both


async def test_open_windows_of_many_keys_are_answered(mesh: Mesh, url: str) -> None:
    """Who asks for open windows of many keys gets them, in parts where they are too many."""
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    await store(mesh, [sale(1, shop=f"shop-{number}") for number in range(3_000)])
    await counts_when(figures, 3_000)
    rows = await rows_when(figures, lambda rows: len(rows) == 3_000, state="all")
    assert 3_000 == len({one.key for one in rows})


async def test_what_closes_between_two_pages_is_shown() -> None:
    """A window that was open when closed ones were told, and closed when open ones were, is there.

    So is one that was corrected or taken back.
    """
    open_ones = After(0, 0, "", is_open=True)
    told = {
        (-1, None): ([row(1, "a", "closed"), row(1, "b", "closed")], 7, open_ones),
        (-1, open_ones): ([row(9, "e")], 8, None),
        (7, None): (
            [
                row(1, "a", "closed", revision=2),
                row(1, "b", "closed", revision=2, is_retracted=True),
                row(2, "c", "closed"),
            ],
            8,
            None,
        ),
    }

    class Asked(Asker):
        """Answers by itself."""

        async def ask(
            self, operation: str, question: Any, returns: Any, timeout_s: float = 0.0
        ) -> Any:
            rows, turn, after = told[question.after_turn, question.after]
            page: dict[str, Any] = {"job": "shops", "version": 1, "pipeline": "revenue"}
            page |= {"key": ["shop"], "watermark_us": None}
            return RowsPage(**page, rows=rows, turn=turn, after=after)

    nowhere: Any = None
    rows, _ = await Asked(nowhere, "shops").all_rows(RowsQuery(pipeline="revenue"))
    assert [("a", 2), ("c", 1), ("e", 0)] == [(one.key[0], one.revision) for one in rows]


async def test_who_was_followed_answers_for_nothing(mesh: Mesh, url: str) -> None:
    """A closer that has not noticed yet that another one has taken over shows no open windows."""
    processor = AnalyticsProcessor(job(), url)
    await mesh.host(processor)
    figures = Analytics(mesh, "shops")
    await store(mesh, [sale(1)])
    await rows_when(figures, len, state="open")
    query = RowsQuery(pipeline="revenue", state="open")
    assert await processor._answers._page(query) is not None
    ground = processor._ground
    await ground.store.transaction(
        lambda transaction: transaction.execute(
            "UPDATE analytics_closer SET owner = 'other', epoch = epoch + 1"
        )
    )
    assert await processor._answers._page(query) is None


async def test_a_row_too_large_for_an_event_stops_no_pipeline(mesh: Mesh, url: str) -> None:
    """A window whose row no event can hold is told without its values, and holds up no other."""
    top = revenue(key=(), aggregates={"top": TopK("shop")})
    await mesh.host(AnalyticsProcessor(job(top), url))
    figures = Analytics(mesh, "shops")
    for number in range(6):
        await store(mesh, [sale(1, shop=f"{number}" * 200_000)])
    await store(mesh, [sale(70, shop="north")])
    await rows_when(figures, lambda rows: len(rows) == 2, state="open")
    await finish(mesh)
    rows = await rows_when(figures, lambda rows: len(rows) == 2)
    assert [(True, 6), (False, 1)] == [(one.is_cut, one.rows) for one in rows]
    told: list[WindowRow] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(told) < 2:
            events = [each async for each in read_events(mesh, "windows.shops.revenue")]
            told = [one for each in events for one in rows_of(each.decode(ClosedWindows))]
    assert rows == told


async def test_a_question_that_makes_no_sense_is_refused(mesh: Mesh, url: str) -> None:
    """A question that the database could not be asked is refused by name."""
    await mesh.host(AnalyticsProcessor(job(), url))
    for asked in (
        {"since_us": 2**70},
        {"until_us": -(2**70)},
        {"after_turn": 2**70},
        {"version": 2**70},
        {"after": {"end_us": 2**70, "start_us": 0, "key": ""}},
        {"after": {"end_us": 0, "start_us": 0, "key": "\0"}},
        {"job": "\0"},
        {"pipeline": "\0"},
        {"key": ["a", "b"]},
    ):
        query = {"pipeline": "revenue", "state": "closed"} | asked
        with pytest.raises(RequestError) as refused:
            await mesh.request("analytics_processor", "query", query)
        assert "BAD_REQUEST" == refused.value.code, asked


async def test_a_key_that_nothing_has_is_answered(mesh: Mesh, url: str) -> None:
    """A question about a key that no record can have finds nothing."""
    await mesh.host(AnalyticsProcessor(job(), url))
    query = {"pipeline": "revenue", "state": "closed", "key": [2**70]}
    page = await mesh.request("analytics_processor", "query", query, returns=RowsPage)
    assert [] == page.rows
