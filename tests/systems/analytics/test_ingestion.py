"""Ingestion: what is acknowledged is stored, once, and what is not taken is told and counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from agent99 import Mesh
from agent99.errors import BadRequestError, Failure, UsageError
from agent99.systems.analytics import (
    DataIngestionAgent,
    Finished,
    Flushed,
    Ingested,
    IngestionOptions,
    IngestionStats,
    Source,
)
from agent99.systems.analytics._intake import Datum
from tests._wait import eventually
from tests.systems.analytics._lines import LINES, Line, batches_of, events_of, numbers_of, row

AT_ONCE = IngestionOptions(linger_s=0.0)


async def ingest(mesh: Mesh, data: Any, *, timeout_s: float = 5.0, **more: Any) -> Ingested:
    """Send a record, or an array of them."""
    payload = {"data": data} | more
    return await mesh.request(
        "data_ingestion", "ingest", payload, returns=Ingested, timeout_s=timeout_s
    )


async def stats_of(mesh: Mesh) -> IngestionStats:
    """Return what the one instance did."""
    return await mesh.request("data_ingestion", "stats", {}, returns=IngestionStats)


# --- single records -------------------------------------------------------------------------------


async def test_a_record_is_acknowledged_when_it_is_stored(mesh: Mesh) -> None:
    """`ingested: true` comes after the event is in the log, and the data id stands in it."""
    await mesh.host(DataIngestionAgent([LINES], options=AT_ONCE))
    answer = await ingest(mesh, row(1))
    [batch] = await batches_of(mesh)
    assert (True, 0, 1) == (answer.ingested, answer.buffer_size, answer.records)
    assert [1] == batch.columns["number"]
    assert [answer.data_id] == [origin.data_id for origin in batch.origins]


async def test_records_are_gathered_until_there_are_enough(mesh: Mesh) -> None:
    """A batch is stored when it has its number of records, long before they would linger."""
    options = IngestionOptions(batch_records_max=10, linger_s=30.0)
    await mesh.host(DataIngestionAgent([LINES], options=options))
    same = [ingest(mesh, row(0), timeout_s=60.0) for _ in range(20)]
    answers = await asyncio.gather(*same)
    batches = await batches_of(mesh)
    assert [10, 10] == [batch.rows for batch in batches]
    assert 20 == len({answer.data_id for answer in answers})


async def test_a_batch_is_stored_when_it_has_its_bytes(mesh: Mesh) -> None:
    """Bytes end a batch as records do."""
    options = IngestionOptions(batch_bytes_max=1_000)
    await mesh.host(DataIngestionAgent([LINES], options=options))
    sent = [asyncio.ensure_future(ingest(mesh, row(0), timeout_s=60.0)) for _ in range(4)]
    await eventually(lambda: any(each.done() for each in sent))
    assert all(batch.rows < 4 for batch in await batches_of(mesh))
    await mesh.request("data_ingestion", "flush", {})
    await asyncio.gather(*sent)


async def test_a_caller_gets_its_answer_in_time(mesh: Mesh) -> None:
    """A record does not linger longer than half of what its caller still waits."""
    await mesh.host(DataIngestionAgent([LINES]))
    async with asyncio.timeout(0.9):
        await ingest(mesh, row(1), timeout_s=1.0)
    assert {1: 1} == await numbers_of(mesh)


async def test_a_record_does_not_wait_until_it_would_be_late(mesh: Mesh) -> None:
    """It lingers for no more than half the delay of its source, however long its caller waits."""
    hasty = Source("hasty", Line, time="sold_at", delay_s=0.1)
    await mesh.host(DataIngestionAgent([hasty]))
    async with asyncio.timeout(5):
        await ingest(mesh, row(1), timeout_s=60.0)
    assert 1 == len(await batches_of(mesh, hasty))


async def test_flush_stores_what_waits(mesh: Mesh) -> None:
    """Nobody whose record waits when it is flushed waits longer."""
    await mesh.host(DataIngestionAgent([LINES]))
    sent = [asyncio.ensure_future(ingest(mesh, row(n), timeout_s=60.0)) for n in range(7)]
    while (await stats_of(mesh)).buffer_size < 7:
        await asyncio.sleep(0)
    flushed = await mesh.request("data_ingestion", "flush", {}, returns=Flushed)
    assert Flushed(flushed=True, records=7) == flushed
    await asyncio.gather(*sent)
    assert dict.fromkeys(range(7), 1) == await numbers_of(mesh)


async def test_an_agent_that_leaves_stores_what_it_has(mesh: Mesh) -> None:
    """To stop is to flush: the callers get their answers."""
    await mesh.host(DataIngestionAgent([LINES]))
    sent = [asyncio.ensure_future(ingest(mesh, row(n), timeout_s=60.0)) for n in range(7)]
    while (await stats_of(mesh)).buffer_size < 7:
        await asyncio.sleep(0)
    await mesh.aclose()
    assert all(each.ingested for each in await asyncio.gather(*sent))


# --- arrays ---------------------------------------------------------------------------------------


async def test_an_array_is_parted_by_shard(mesh: Mesh) -> None:
    """Each record is stored once, in the shard that its field says, under the shard's key."""
    await mesh.host(DataIngestionAgent([LINES]))
    answer = await ingest(mesh, [row(n) for n in range(50)], batch_id="b1")
    events, batches = await events_of(mesh), await batches_of(mesh)
    assert ("b1", 50) == (answer.data_id, answer.records)
    assert dict.fromkeys(range(50), 1) == await numbers_of(mesh)
    assert [f"lines.{batch.shard}" for batch in batches] == [event.subject for event in events]
    assert [f"b1.lines.{batch.shard}" for batch in batches] == [event.id for event in events]
    where = {country: b.shard for b in batches for country in b.columns["country"]}
    assert all({where[country] for country in b.columns["country"]} == {b.shard} for b in batches)


async def test_an_array_that_comes_again_is_stored_once(mesh: Mesh) -> None:
    """The same batch id, or idempotency key, stands for the same records: same answer, no more."""
    await mesh.host(DataIngestionAgent([LINES]))
    rows = [row(n) for n in range(20)]
    answers = [await ingest(mesh, rows, batch_id="b1") for _ in range(3)]
    payload = {"data": rows}
    for _ in range(2):
        how: dict[str, Any] = {"returns": Ingested, "idempotency_key": "b1"}
        answers.append(await mesh.request("data_ingestion", "ingest", payload, **how))
    assert {"b1"} == {answer.data_id for answer in answers}
    assert dict.fromkeys(range(20), 1) == await numbers_of(mesh)
    assert 0 < (await stats_of(mesh)).repeated


async def test_a_record_with_a_key_is_stored_once(mesh: Mesh) -> None:
    """A single record that comes again under its key is not gathered with others."""
    await mesh.host(DataIngestionAgent([LINES]))
    for _ in range(2):
        await ingest(mesh, row(1), batch_id="r1")
    assert {1: 1} == await numbers_of(mesh)


async def test_other_records_under_the_same_id_are_refused(mesh: Mesh) -> None:
    """They would be taken for the first ones, and lost: the caller is told."""
    await mesh.host(DataIngestionAgent([LINES]))
    await ingest(mesh, [row(1)], batch_id="b1")
    with pytest.raises(Failure) as caught:
        await ingest(mesh, [row(1) | {"number": 2}], batch_id="b1")
    assert "IDEMPOTENCY_CONFLICT" == caught.value.code
    assert {1: 1} == await numbers_of(mesh)


async def test_a_batch_of_one_source_is_not_that_of_another(mesh: Mesh) -> None:
    """Two sources may have batches of one id."""
    others = Source("others", Line, time="sold_at")
    await mesh.host(DataIngestionAgent([LINES, others]))
    await ingest(mesh, [row(1)], batch_id="b1", source="lines")
    await ingest(mesh, [row(1)], batch_id="b1", source="others")
    assert (1, 1) == (len(await batches_of(mesh)), len(await batches_of(mesh, others)))


async def test_what_is_larger_as_columns_than_the_log_takes_is_stored_in_parts(mesh: Mesh) -> None:
    """Fields that are left out have defaults, which may be long: the batch is halved."""

    class Wide(Line, frozen=True):
        """A line with much to say."""

        remark: str = "-" * 2_000

    wide = Source("wide", Wide, time="sold_at")
    await mesh.host(DataIngestionAgent([wide]))
    await ingest(mesh, [row(n) for n in range(1_000)], batch_id="w")
    batches = await batches_of(mesh, wide)
    assert list(range(1_000)) == [n for batch in batches for n in batch.columns["number"]]
    assert [batch.rows for batch in batches] == [batch.origins[0].rows for batch in batches]
    assert 1 < len(batches)


async def test_the_end_of_a_source_stands_behind_its_records(mesh: Mesh) -> None:
    """`finish` is the last event of each shard, also behind what was gathered just now."""
    await mesh.host(DataIngestionAgent([LINES]))
    sent = asyncio.ensure_future(ingest(mesh, row(1), timeout_s=60.0))
    while not (await stats_of(mesh)).buffer_size:
        await asyncio.sleep(0)
    finished = await mesh.request("data_ingestion", "finish", {}, returns=Finished)
    await sent
    assert Finished(finished=True, shards=(0, 1, 2, 3)) == finished
    last = {batch.shard: batch for batch in await batches_of(mesh)}
    assert [True] * 4 == [last[shard].is_final for shard in range(4)]
    assert {1: 1} == await numbers_of(mesh)


# --- what is not taken ----------------------------------------------------------------------------

BAD: dict[str, tuple[Any, str]] = {
    "no time": ([row(1), {"country": "EIRE", "number": 2}], "$[1]"),
    "far in the future": ([row(1), row(2, sold_at="2999-01-01T00:00:00Z")], "$[1].sold_at"),
    "before 1970": ([row(1), row(2, sold_at="1950-01-01T00:00:00Z")], "$[1].sold_at"),
    "a time without a zone": ([row(1), row(2, sold_at="2011-01-01T00:00:00")], "$[1].sold_at"),
    "a wrong type": ([row(1), row(2, number="2")], "$[1].number"),
    "an integer of more than 64 bits": ([row(1), row(2, number=2**70)], "$[1].number"),
    "a field too many": ([row(1), row(2, colour="red")], "$[1]"),
    "no record": ([row(1), 5], "$[1]"),
    "no records at all": ([], "$"),
    "a number": (5, "$"),
    "too many": ([row(n) for n in range(101)], "$"),
    "alone, a wrong type": (row(1, number="2"), "$.number"),
    "alone, in the future": (row(1, sold_at="2999-01-01T00:00:00Z"), "$.sold_at"),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_record_is_refused_as_a_whole(mesh: Mesh, name: str) -> None:
    """Row, field and rule are named, nothing of it is stored, and it is counted."""
    data, path = BAD[name]
    options = IngestionOptions(linger_s=0.0, array_records_max=100)
    await mesh.host(DataIngestionAgent([LINES], options=options))
    with pytest.raises(BadRequestError) as caught:
        await ingest(mesh, data)
    assert path == caught.value.path
    await ingest(mesh, row(7))
    assert {7: 1} == await numbers_of(mesh)
    assert {"BAD_REQUEST": 1} == (await stats_of(mesh)).refused


async def test_a_source_that_there_is_not_is_named(mesh: Mesh) -> None:
    """Among several sources one has to be named, and one of them."""
    await mesh.host(DataIngestionAgent([LINES, Source("others", Line, time="sold_at")]))
    for source in ("", "ghosts"):
        with pytest.raises(BadRequestError, match="is none of: lines, others"):
            await ingest(mesh, row(1), source=source)


async def test_a_shard_is_chosen_where_no_field_does(mesh: Mesh) -> None:
    """Without `shard_by` the caller may say in which shard, among those that there are."""
    plain = Source("plain", Line, time="sold_at", shards=3)
    await mesh.host(DataIngestionAgent([LINES, plain], options=AT_ONCE))
    await ingest(mesh, [row(1)], source="plain", shard=2)
    await ingest(mesh, row(1), source="plain", shard=1)
    assert [2, 1] == [batch.shard for batch in await batches_of(mesh, plain)]
    for source, shard in (("plain", 3), ("plain", -1), ("lines", 0)):
        with pytest.raises(BadRequestError) as caught:
            await ingest(mesh, row(1), source=source, shard=shard)
        assert "$.shard" == caught.value.path


def test_two_sources_of_one_name_are_refused() -> None:
    """A record could be of either."""
    with pytest.raises(UsageError, match="one name"):
        DataIngestionAgent([LINES, LINES])


@pytest.mark.parametrize(
    "options",
    [
        {"linger_s": -1.0},
        {"array_records_max": 0},
        {"overflow": "explode"},
        {"overflow": "spill"},
        {"spill_url": "sqlite:///x.db"},
        {"buffer_records_max": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """A bound below 1, a time below 0, and a policy that there is not."""
    with pytest.raises(UsageError, match=next(iter(options))):
        IngestionOptions(**options)


# --- as the sample has it -------------------------------------------------------------------------


async def test_without_sources_it_takes_what_comes(mesh: Mesh) -> None:
    """Whatever JSON it is gets an id, the time at which it came, and whom it came from."""
    await mesh.host(DataIngestionAgent(options=AT_ONCE))
    payload = {"action": "ingest", "data": {"user": 7, "page": "/"}}
    headers = {"source_ip": "10.0.0.7", "user_agent": "curl/8"}
    answer = await mesh.request("data_ingestion", payload=payload, headers=headers)
    data = Source("data", Datum, time="ingested_us")
    [batch] = await batches_of(mesh, data)
    assert {"ingested", "data_id", "buffer_size"} <= answer.keys()
    assert ['{"user":7,"page":"/"}'] == batch.columns["data"]
    [origin] = batch.origins
    assert (answer["data_id"], "10.0.0.7", "curl/8") == (
        origin.data_id,
        origin.source_ip,
        origin.user_agent,
    )
    assert [origin.ingested_us] >= batch.columns["ingested_us"]


async def test_stats_have_the_words_of_the_sample(mesh: Mesh) -> None:
    """buffer_size, batch_size 100, flush_interval 30."""
    await mesh.host(DataIngestionAgent())
    stats = await mesh.request("data_ingestion", payload={"operation": "stats"})
    assert (0, 100, 30.0) == tuple(
        stats[word] for word in ("buffer_size", "batch_size", "flush_interval")
    )


async def test_another_action_is_refused(mesh: Mesh) -> None:
    """What names none of the operations gets the sample's code."""
    await mesh.host(DataIngestionAgent())
    with pytest.raises(Failure) as caught:
        await mesh.request("data_ingestion", payload={"action": "forget"})
    assert "INVALID_ACTION" == caught.value.code


async def test_several_instances_share_the_work(mesh: Mesh) -> None:
    """Whoever takes a record stores it."""
    await mesh.host(DataIngestionAgent([LINES]), DataIngestionAgent([LINES]))
    await asyncio.gather(*(ingest(mesh, [row(n)]) for n in range(50)))
    assert Counter(range(50)) == await numbers_of(mesh)
