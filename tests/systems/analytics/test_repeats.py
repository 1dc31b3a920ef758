"""What comes again counts once, by whichever way; what only has the same id is not lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent99 import Mesh
from agent99.envelope import Header, encode_message, parse_key, parse_topic
from agent99.errors import RequestError
from agent99.systems.analytics import DataIngestionAgent, Ingested, IngestionOptions
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._columns import ColumnBatch, columns_of, encode_batch
from agent99.systems.analytics._intake import DATA, Datum
from agent99.systems.analytics._processor import AnalyticsProcessor
from agent99.systems.analytics._repeats import has_same_records, known_as

from ._lines import events_of
from ._sales import SALES, START_US, Sale, closes, counts_when, job, revenue, sale, source

AT_ONCE = IngestionOptions(linger_s=0.0)


async def store_again(mesh: Mesh, event_id: str, *sales: Sale) -> None:
    """Store a batch of shard 0 as it stands in the log when the server has forgotten its id."""
    topic, columns = parse_topic(SALES.topic), columns_of(SALES, sales)
    batch = ColumnBatch(source="sales", shard=0, rows=len(sales), columns=columns)
    header = Header(
        type="event", from_uuid="x", to_uuid=topic, event_uuid=event_id, timestamp=START_US
    )
    message = encode_message(header, bytes(encode_batch(SALES, batch)))
    durable = mesh.link.durable
    await durable.streams.ensure_log()
    await durable.log.append(topic, parse_key("sales.0"), message, message_id=mesh.link.ids.uuid())


async def test_other_records_under_an_old_id_are_counted(mesh: Mesh, url: str) -> None:
    """They were acknowledged; and a true repetition is told from them, counts once, and is told."""
    await mesh.host(AnalyticsProcessor(job(revenue()), url))
    figures = Analytics(mesh, "shops")
    await store_again(mesh, "daily", sale(1))
    await counts_when(figures, 1)
    await store_again(mesh, "daily", sale(4), sale(5))
    await store_again(mesh, "daily", sale(1))
    await store_again(mesh, "daily", sale(4), sale(5))
    await store_again(mesh, "last", sale(6))
    counts = await counts_when(figures, 4)
    assert (4, 2, 0) == (counts.on_time, counts.repeated_events, counts.refused_events)
    assert closes(counts)


async def test_repetitions_in_one_batch_count_once(mesh: Mesh, url: str) -> None:
    """What stands in the log several times in a row is counted as repeated, each but the first."""
    for _ in range(3):
        await store_again(mesh, "daily", sale(1))
    await store_again(mesh, "last", sale(6))
    await mesh.host(AnalyticsProcessor(job(revenue()), url))
    counts = await counts_when(Analytics(mesh, "shops"), 2)
    assert (2, 2) == (counts.on_time, counts.repeated_events)


async def test_a_processor_knows_a_batch_that_comes_again(mesh: Mesh, url: str) -> None:
    """Given to a processor again under the same key it counts once; other records are refused."""
    await mesh.host(AnalyticsProcessor(job(revenue(source(shards=1))), url))
    figures = Analytics(mesh, "shops")
    sales = [{"at_us": START_US, "shop": "north", "pence": 1, "number": 1}]

    async def process(records: list[dict[str, Any]], key: str | None) -> Any:
        payload = {"batch": records}
        how: dict[str, Any] = {"idempotency_key": key}
        return await mesh.request("analytics_processor", "process_batch", payload, **how)

    answers = [await process(sales, "k") for _ in range(2)]
    assert ["k", "k"] == [answer["batch_id"] for answer in answers]
    with pytest.raises(RequestError) as refused:
        await process([*sales, *sales], "k")
    assert "IDEMPOTENCY_CONFLICT" == refused.value.code
    for _ in range(2):
        await process(sales, None)
    assert 3 == (await counts_when(figures, 3)).on_time


async def test_without_sources_a_repetition_is_one_too(mesh: Mesh) -> None:
    """An agent without sources knows a batch that comes again, though the time has gone on."""
    await mesh.host(DataIngestionAgent(options=AT_ONCE))

    async def ingest(user: int) -> Ingested:
        payload = {"data": [{"user": user}], "batch_id": "b-1"}
        return await mesh.request("data_ingestion", "ingest", payload, returns=Ingested)

    answers = [await ingest(7) for _ in range(2)]
    assert ["b-1"] * 2 == [answer.data_id for answer in answers]
    with pytest.raises(RequestError) as refused:
        await ingest(8)
    assert "IDEMPOTENCY_CONFLICT" == refused.value.code
    assert 1 == len(await events_of(mesh, DATA))


def test_what_is_remembered_is_the_id_and_the_records() -> None:
    """Other records, and another id, are another batch; when a datum came is nothing of it."""
    columns = columns_of(SALES, [sale(1), sale(2)])
    others = columns_of(SALES, [sale(1), sale(3)])
    assert known_as("b", columns) == known_as("b", dict(columns))
    assert 3 == len({known_as("b", columns), known_as("b", others), known_as("c", columns)})
    early, late = (columns_of(DATA, [Datum(at_us, "{}")]) for at_us in (1, 2))
    assert known_as("b", early) == known_as("b", late)
    assert known_as("b", early) != known_as("b", columns_of(DATA, [Datum(1, "[]")]))


def test_what_is_no_batch_has_not_the_same_records() -> None:
    """What somebody else has stored under an id is no repetition, whatever it is."""
    body = msgspec.json.encode({"columns": {"a": [1]}})
    assert has_same_records("b", body, body)
    enriched = msgspec.json.encode({"columns": {"a": [1]}, "known_as": "other"})
    beyond = b'{"columns": {"a": [%s]}}' % str(2**70).encode()
    others = (b"", b"{}", b'{"columns": 5}', b'{"columns": {"a": [2]}}', b"\xff", beyond, enriched)
    for other in others:
        assert not has_same_records("b", other, body)
        assert other == enriched or not has_same_records("b", other, enriched)
