"""Records are enriched before they are stored: few look-ups, bounded, in their order, and once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.envelope import Header, encode_message, parse_key, parse_topic
from agent99.errors import DeadlineExceededError, Failure, RequestError, UsageError
from agent99.ids import SystemIds
from agent99.systems.analytics import (
    AnalyticsProcessor,
    Count,
    DataIngestionAgent,
    Enrichment,
    Flushed,
    Ingested,
    IngestionOptions,
    IngestionStats,
    Job,
    Pipeline,
    Producer,
    ProducerOptions,
    Tumbling,
    WindowRow,
)
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._columns import ColumnBatch, columns_of
from agent99.systems.analytics._enriched import Room, enriched_pieces
from agent99.systems.analytics._entries import Piece
from agent99.systems.analytics._spill import Spill
from tests._wait import PATIENCE_S, eventually
from tests.systems.analytics._goods import GOODS, Bought, Knowing, bought, by_number, category
from tests.systems.analytics._lines import LINES, batches_of, events_of
from tests.systems.analytics._sales import START_US, counts_when, rows_when

CATEGORIES_AND_A_NUMBER = {"tea": "drink", "cup": "china", "five": 5}
SOON_S = 0.1
LONG_S = PATIENCE_S


async def host(mesh: Mesh, *enrichments: Enrichment, linger_s: float = 0.0) -> DataIngestionAgent:
    """Host an ingestion of goods."""
    options = IngestionOptions(linger_s=linger_s)
    agent = DataIngestionAgent([GOODS], options=options, enrichments=enrichments)
    await mesh.host(agent)
    return agent


async def ingest(mesh: Mesh, data: Any, *, timeout_s: float = 20.0, **more: Any) -> Ingested:
    """Send a record, or an array of them."""
    payload = {"data": data} | more
    return await mesh.request(
        "data_ingestion", "ingest", payload, returns=Ingested, timeout_s=timeout_s
    )


async def stats_of(mesh: Mesh) -> IngestionStats:
    """Return what the one instance did."""
    return await mesh.request("data_ingestion", "stats", {}, returns=IngestionStats)


async def come() -> None:
    """Let what was sent come, and whatever it sets going be begun: all is in this process."""
    for _ in range(50):
        await asyncio.sleep(0)


async def stored(mesh: Mesh, column: str = "category") -> dict[int, Any]:
    """Return what the records have that are stored, by their numbers."""
    return by_number(await batches_of(mesh, GOODS), column)


async def refused(sent: Any) -> RequestError:
    """Return what the sender is told, which is to come again."""
    with pytest.raises(RequestError) as told:
        await sent
    assert ("NOT_ENRICHED", True) == (told.value.code, told.value.retryable)
    return told.value


# --- few look-ups ---------------------------------------------------------------------------------


async def test_an_array_is_looked_up_at_once(mesh: Mesh) -> None:
    """Its distinct keys are asked for together; what a record brings stays, the rest is counted."""
    knows = Knowing(CATEGORIES_AND_A_NUMBER)
    await host(mesh, category(knows))
    rows = [bought(n, code) for n, code in enumerate(["tea", "cup", "tea", "jar", None, "five"])]
    await ingest(mesh, [*rows, bought(9, "cup", category="own"), bought(10, "mug", category="own")])
    expected = dict(enumerate(["drink", "china", "drink", None, None, None]))
    assert expected | {9: "own", 10: "own"} == await stored(mesh)
    assert [["tea", "cup", "jar", "five"]] == knows.asked
    stats = await stats_of(mesh)
    assert (1, 3, 2, 1, 0) == (
        stats.lookups,
        stats.enriched,
        stats.missed,
        stats.misfit,
        stats.left,
    )


async def test_single_records_that_come_together_are_looked_up_together(mesh: Mesh) -> None:
    """While one look-up is under way the others gather for the next one."""
    knows = Knowing()
    await host(mesh, category(knows, timeout_s=LONG_S))
    knows.is_open.clear()
    sent = [asyncio.ensure_future(ingest(mesh, bought(0)))]
    await eventually(lambda: knows.asked)
    sent += [asyncio.ensure_future(ingest(mesh, bought(n, ("cup", "pot")[n % 2]))) for n in (1, 2)]
    await come()
    sent += [asyncio.ensure_future(ingest(mesh, bought(n))) for n in range(3, 20)]
    named = [ingest(mesh, bought(n), batch_id=f"r{n}") for n in range(20, 40)]
    sent += map(asyncio.ensure_future, named)
    await come()
    assert 1 == len(knows.asked)
    knows.is_open.set()
    await asyncio.gather(*sent)
    assert 2 == len(knows.asked)
    expected = dict.fromkeys(range(40), "drink") | {1: "china", 2: "china"}
    assert expected == await stored(mesh)
    assert 40 == (await stats_of(mesh)).enriched


async def test_nothing_is_looked_up_where_nothing_is_lacking(mesh: Mesh) -> None:
    """Nor of a source that has no enrichment."""
    knows = Knowing()
    agent = DataIngestionAgent([GOODS, LINES], enrichments=[category(knows)])
    await mesh.host(agent)
    await ingest(mesh, [bought(1, category="own"), bought(2, None)], source="goods")
    await mesh.request("data_ingestion", "finish", {"source": "lines"})
    await mesh.request("data_ingestion", "finish", {"source": "goods"})
    assert [] == knows.asked
    assert {1: "own", 2: None} == await stored(mesh)


async def test_a_later_enrichment_looks_up_by_what_an_earlier_one_has_found(mesh: Mesh) -> None:
    """They go in their order; where nothing is found the later one has no key."""
    points = Enrichment(GOODS, "category", ("points",), Knowing({"drink": {"points": 7}}))
    await host(mesh, category(Knowing()), points)
    await ingest(mesh, [bought(1, "tea"), bought(2, "jar"), bought(3, "tea", points=1)])
    await ingest(mesh, bought(4, "tea"))
    assert {1: 7, 2: 0, 3: 1, 4: 7} == await stored(mesh, "points")


def test_an_enrichment_is_of_a_source_that_the_agent_takes() -> None:
    """Any other one would do nothing, and nobody would know."""
    with pytest.raises(UsageError, match="does not take"):
        DataIngestionAgent([LINES], enrichments=[category(Knowing())])


async def test_a_class_says_what_its_records_get(mesh: Mesh) -> None:
    """As its sources and its options, so that `agent99 run` hosts it."""

    class Goods(DataIngestionAgent):
        """Takes goods."""

        sources = (GOODS,)
        enrichments = (category(Knowing()),)

    await mesh.host(Goods())
    await ingest(mesh, [bought(1)])
    assert {1: "drink"} == await stored(mesh)


# --- what cannot be looked up ---------------------------------------------------------------------


@pytest.mark.parametrize("is_array", [True, False])
async def test_who_cannot_be_told_refuses_and_nothing_is_stored(mesh: Mesh, is_array: bool) -> None:
    """The sender is told to come again; the next one, for which it works, is stored."""
    knows = Knowing()
    await host(mesh, category(knows))
    knows.fails = 1
    error = await refused(ingest(mesh, [bought(1)] if is_array else bought(1)))
    assert "category by code: RuntimeError: nobody knows; nothing of it was stored" in str(error)
    assert {} == await stored(mesh)
    await ingest(mesh, [bought(1)] if is_array else bought(1))
    assert {1: "drink"} == await stored(mesh)
    assert {"NOT_ENRICHED": 1} == (await stats_of(mesh)).refused


async def test_a_producer_comes_again(mesh: Mesh) -> None:
    """What was refused is stored once it can be looked up, once, and as it is known then."""
    knows = Knowing()
    await host(mesh, category(knows))
    knows.fails = 3
    async with Producer(mesh, GOODS, options=ProducerOptions(batch_records_max=10)) as producer:
        await producer.send_many(Bought(START_US + n, n, "tea") for n in range(30))
    assert 3 == producer.statistics.retries
    assert dict.fromkeys(range(30), "drink") == await stored(mesh)


async def test_what_cannot_be_looked_up_is_left_where_that_was_asked_for(mesh: Mesh) -> None:
    """The records are stored with the default, and counted; those after them are enriched."""
    knows = Knowing()
    await host(mesh, category(knows, otherwise="leave"))
    knows.fails = 2
    await ingest(mesh, [bought(1), bought(2, None), bought(3, category="own")])
    await ingest(mesh, bought(4))
    await ingest(mesh, [bought(5)])
    assert {1: None, 2: None, 3: "own", 4: None, 5: "drink"} == await stored(mesh)
    stats = await stats_of(mesh)
    assert (3, 1, 3) == (stats.left, stats.enriched, stats.lookups)


@pytest.mark.parametrize("data", [[bought(1)], bought(1)])
async def test_nobody_waits_longer_than_the_bound(mesh: Mesh, data: Any) -> None:
    """A look-up that never answers is ended, and the sender is told, or the record stored."""
    knows = Knowing()
    await host(mesh, category(knows, timeout_s=SOON_S))
    knows.is_open.clear()
    async with asyncio.timeout(LONG_S / 2):
        error = await refused(ingest(mesh, data, timeout_s=LONG_S))
    assert "no answer within 0.1 s" in str(error)
    await eventually(lambda: knows.ended)
    assert {} == await stored(mesh)


async def test_a_sender_is_told_before_its_deadline(mesh: Mesh) -> None:
    """Though the look-up may take longer: what it hears is why, and that nothing is stored."""
    knows = Knowing()
    await host(mesh, category(knows, timeout_s=LONG_S))
    knows.is_open.clear()
    for data in (bought(1), [bought(1)]):
        error = await refused(ingest(mesh, data, timeout_s=0.5))
        assert "no answer before the caller's deadline" in str(error)
    assert {} == await stored(mesh)


async def test_a_look_up_that_cannot_be_ended_keeps_nobody(mesh: Mesh) -> None:
    """Single records after it are looked up, though it goes on for ever."""
    ended, asked = asyncio.Event(), 0

    async def stubborn(keys: Sequence[Any]) -> Mapping[Any, Any]:
        nonlocal asked
        asked += 1
        while asked == 1 and not ended.is_set():
            try:
                await ended.wait()
            except asyncio.CancelledError:
                continue
        return dict.fromkeys(keys, "drink")

    await host(mesh, category(stubborn, timeout_s=SOON_S))
    async with asyncio.timeout(LONG_S / 2):
        await refused(ingest(mesh, bought(1), timeout_s=LONG_S))
        while not await stored(mesh):
            with suppress(RequestError):
                await ingest(mesh, bought(2))
    ended.set()
    assert {2: "drink"} == await stored(mesh)


@pytest.mark.parametrize("answer", [None, ["drink"], 5])
async def test_a_look_up_that_returns_no_mapping_is_told(mesh: Mesh, answer: Any) -> None:
    """It is the fault of none of the records, which are not stored without it."""

    async def wrong(keys: Sequence[Any]) -> Any:
        del keys
        return answer

    await host(mesh, category(wrong))
    error = await refused(ingest(mesh, [bought(1)]))
    assert f"a look-up returned {type(answer).__name__}, and no mapping" in str(error)


# --- order ----------------------------------------------------------------------------------------


async def test_records_are_stored_in_the_order_in_which_they_came(mesh: Mesh) -> None:
    """One for which nothing is looked up is not ahead of one that is looked up still."""
    knows = Knowing()
    await host(mesh, category(knows, timeout_s=LONG_S), linger_s=LONG_S)
    knows.is_open.clear()
    own = {"category": "own"}
    sent = [asyncio.ensure_future(ingest(mesh, [bought(1)], shard=0))]
    await eventually(lambda: knows.asked)
    sent.append(asyncio.ensure_future(ingest(mesh, bought(2, "tea", **own), shard=0)))
    sent.append(asyncio.ensure_future(ingest(mesh, [bought(3, "cup", **own)], shard=0)))
    sent.append(asyncio.ensure_future(ingest(mesh, [bought(4, "tea")], shard=0)))
    ended = asyncio.ensure_future(mesh.request("data_ingestion", "finish", {}))
    await eventually(lambda: 2 == len(knows.asked))
    assert {} == await stored(mesh)
    knows.is_open.set()
    await asyncio.gather(*sent, ended)
    batches = await batches_of(mesh, GOODS)
    assert [1, 2, 3, 4] == [number for batch in batches for number in batch.columns["number"]]
    assert [False, False, False, False, True] == [batch.is_final for batch in batches]


async def test_what_fails_lets_nobody_go_ahead(mesh: Mesh) -> None:
    """One behind one that failed waits for what is ahead of both."""
    knows = Knowing()
    await host(mesh, category(knows, timeout_s=LONG_S))
    knows.is_open.clear()
    first = asyncio.ensure_future(ingest(mesh, [bought(1)]))
    await eventually(lambda: knows.asked)
    await refused(ingest(mesh, [bought(2, "cup")], timeout_s=0.4))
    third = asyncio.ensure_future(ingest(mesh, [bought(3, category="own")]))
    await come()
    assert {} == await stored(mesh)
    knows.is_open.set()
    await asyncio.gather(first, third)
    numbers = [batch.columns["number"] for batch in await batches_of(mesh, GOODS)]
    assert [[1], [3]] == numbers


async def test_flush_waits_for_what_is_looked_up(mesh: Mesh) -> None:
    """Answered = stored, also what had come and was not in the buffer yet."""
    knows = Knowing()
    await host(mesh, category(knows, timeout_s=LONG_S), linger_s=LONG_S)
    knows.is_open.clear()
    sent = asyncio.ensure_future(ingest(mesh, bought(1), timeout_s=LONG_S))
    await eventually(lambda: knows.asked)
    with pytest.raises(DeadlineExceededError):
        await mesh.request("data_ingestion", "flush", {}, timeout_s=0.4)
    assert {"DEADLINE_EXCEEDED": 1} == (await stats_of(mesh)).refused
    flush = mesh.request("data_ingestion", "flush", {}, returns=Flushed, timeout_s=LONG_S)
    flushed = asyncio.ensure_future(flush)
    await come()
    knows.is_open.set()
    assert 1 == (await flushed).records
    await sent


async def test_an_agent_that_leaves_stores_what_it_looks_up(mesh: Mesh) -> None:
    """What has come does not linger until its time, though it was not in the buffer yet."""
    knows = Knowing()
    agent = await host(mesh, category(knows, timeout_s=LONG_S), linger_s=LONG_S)
    knows.is_open.clear()
    sent = asyncio.ensure_future(ingest(mesh, bought(1), timeout_s=LONG_S))
    await eventually(lambda: knows.asked)
    left = asyncio.ensure_future(mesh.aclose())
    running = agent._running
    assert running is not None
    await eventually(lambda: "draining" == running.dispatcher.refusal)
    await asyncio.sleep(0)
    knows.is_open.set()
    async with asyncio.timeout(LONG_S / 3):
        await left
    assert (await sent).ingested
    assert 1 == agent._counts.tally.enriched


# --- once -----------------------------------------------------------------------------------------


async def test_a_batch_that_comes_again_is_stored_once_though_more_is_known(mesh: Mesh) -> None:
    """It is the same batch by what was sent; other records under its id are refused."""
    knows = Knowing()
    await host(mesh, category(knows))
    rows = [bought(n) for n in range(5)]
    await ingest(mesh, rows, batch_id="b1")
    knows.found = {"tea": "herbs"}
    assert 5 == (await ingest(mesh, rows, batch_id="b1")).records
    knows.found = {}
    await ingest(mesh, rows, batch_id="b1")
    await ingest(mesh, bought(0), batch_id="one")
    knows.found = {"tea": "drink"}
    await ingest(mesh, bought(0), batch_id="one")
    events = await events_of(mesh, GOODS)
    assert ["b1.goods.0", "one.goods.0"] == [event.id for event in events]
    assert 3 == (await stats_of(mesh)).repeated
    with pytest.raises(RequestError) as conflict:
        await ingest(mesh, [bought(0, category="drink")], batch_id="one")
    assert "IDEMPOTENCY_CONFLICT" == conflict.value.code


async def test_a_batch_that_comes_later_counts_once_though_more_is_known(
    mesh: Mesh, url: str
) -> None:
    """When the server has forgotten its id it is stored twice; the processors know it by then."""
    window, figures = Tumbling(60), {"sold": Count()}
    by_category = Pipeline("sold", GOODS, key=("category",), window=window, aggregates=figures)
    await mesh.host(AnalyticsProcessor(Job("goods", (by_category,)), url))
    knows = Knowing()
    await host(mesh, category(knows))
    await ingest(mesh, [bought(1)], batch_id="b1")
    analytics = Analytics(mesh, "goods")
    await counts_when(analytics, 1, "sold")
    await store_again(mesh, Bought(START_US + 1, 1, "tea"), "herbs")
    await store_again(mesh, Bought(START_US + 1, 1, "tea", "drink"), "drink")
    knows.found = {"tea": "herbs"}
    await ingest(mesh, [bought(3)], batch_id="b2")
    counts = await counts_when(analytics, 3, "sold")
    assert (3, 1) == (counts.on_time, counts.repeated_events)
    expected = {"drink": 2, "herbs": 1}
    await rows_when(
        analytics,
        lambda rows: expected == sold_by(rows),
        pipeline="sold",
        state="open",
    )


async def test_every_version_sees_what_was_known_then(mesh: Mesh, tmp_path: Path) -> None:
    """A job that folds the log once more, when another category is known, has the same rows."""
    figures = {"sold": Count()}
    window = Tumbling(60)
    sold = Pipeline("sold", GOODS, key=("category",), window=window, aggregates=figures)
    url, knows = f"sqlite:///{tmp_path}/figures.db", Knowing()
    await mesh.host(AnalyticsProcessor(Job("goods", (sold,)), url))
    await host(mesh, category(knows))
    await ingest(mesh, [bought(1), bought(2, "cup"), bought(3, "pot")])
    knows.found = dict.fromkeys(knows.found, "other")
    await ingest(mesh, [bought(4)])
    await mesh.request("data_ingestion", "finish", {})
    analytics = Analytics(mesh, "goods")
    rows = await rows_when(analytics, lambda rows: 3 == len(rows), pipeline="sold")
    assert {"drink": 1, "china": 2, "other": 1} == sold_by(rows)
    await mesh.host(AnalyticsProcessor(Job("goods", (sold,), version=2), url))
    later = Analytics(mesh, "goods", version=2)
    again = await rows_when(later, lambda rows: 3 == len(rows), pipeline="sold")
    assert sold_by(rows) == sold_by(again)


def sold_by(rows: Sequence[WindowRow]) -> dict[Any, Any]:
    """Return how many of each category were sold."""
    return {row.key[0]: row.values["sold"] for row in rows}


async def test_a_batch_in_the_file_is_known_though_more_is_known(tmp_path: Path) -> None:
    """What spilled is there once when it comes again; other records under its id are refused."""
    ids, waiting = SystemIds(), list[asyncio.Future[Any]]()

    def put_in(piece: Piece) -> asyncio.Future[Any]:
        del piece
        waiting.append(asyncio.get_running_loop().create_future())
        return waiting[-1]

    spill = Spill(f"sqlite:///{tmp_path}/spill.db", 10_000, SystemClock(), ids, put_in)
    await spill.open()
    try:
        await spill.put([piece_of(Bought(1, 1, "tea"), "drink")])
        await spill.put([piece_of(Bought(1, 1, "tea"), "herbs")])
        assert 1 == spill.batches
        with pytest.raises(Failure) as conflict:
            await spill.put([piece_of(Bought(1, 1, "tea", "drink"), "drink")])
        assert "IDEMPOTENCY_CONFLICT" == conflict.value.code
    finally:
        await spill.aclose()


def piece_of(sent: Bought, category_now: str) -> Piece:
    """Return the event of the batch `b1` of one record, with the category as it is known now."""
    columns = columns_of(GOODS, [sent])
    batch = ColumnBatch(source="goods", shard=0, rows=1, columns=columns)
    full = columns | {"category": [category_now]}
    (piece,) = enriched_pieces(GOODS, batch, full, "b1.goods.0", Room(10_000, 256))
    return piece


async def store_again(mesh: Mesh, sent: Bought, category_now: str) -> None:
    """Store a record as the batch `b1` once the server has forgotten its id."""
    piece = piece_of(sent, category_now)
    topic = parse_topic(piece.topic)
    header = Header(
        type="event", from_uuid="x", to_uuid=topic, event_uuid=piece.event_id, timestamp=START_US
    )
    message, link = encode_message(header, piece.body), mesh.link
    key, message_id = parse_key(piece.key), link.ids.uuid()
    await link.durable.log.append(topic, key, message, message_id=message_id)
