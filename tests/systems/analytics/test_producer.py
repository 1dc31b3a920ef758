"""A producer: what it has taken is stored once, in order, or told to be lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from agent99 import Failure, Mesh
from agent99.errors import ClosedError, DeadlineExceededError, NoAgentError, UsageError
from agent99.systems.analytics import (
    BatchFailedError,
    DataIngestionAgent,
    Finished,
    Ingested,
    Producer,
    ProducerOptions,
    Source,
)
from tests._wait import eventually
from tests.systems.analytics._lines import LINES, Line, batches_of, line, numbers_of

SMALL = ProducerOptions(batch_records_max=10, buffer_records_max=30, linger_s=60.0)


class Desk:
    """Answers what a producer asks, as a test says."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        """What is raised, or awaited; at their end all is stored."""
        self.batches: list[list[int]] = []
        self.ids: list[str] = []

    async def request(self, _target: str, operation: str, payload: Any, **how: Any) -> Any:
        """Take a batch."""
        if operation == "finish":
            return Finished(finished=True, shards=(0,))
        self.ids.append(payload.batch_id)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            await answer.wait()
        assert how["returns"] is Ingested
        assert how["idempotency_key"] == payload.batch_id
        self.batches.append([msgspec.json.decode(raw)["number"] for raw in payload.data])
        return Ingested(ingested=True, data_id=payload.batch_id, buffer_size=0)


async def test_all_are_stored_once_and_in_order(mesh: Mesh) -> None:
    """At the end of the block every record is in the log, those of a shard in their order."""
    await mesh.host(DataIngestionAgent([LINES]))
    async with Producer(mesh, LINES) as producer:
        await producer.send_many(line(n) for n in range(5_000))
        await producer.send(line(5_000))
    assert dict.fromkeys(range(5_001), 1) == await numbers_of(mesh)
    for shard in range(LINES.shards):
        mine = [b.columns["number"] for b in await batches_of(mesh) if b.shard == shard]
        numbers = [number for numbers in mine for number in numbers]
        assert sorted(numbers) == numbers
    counts = producer.statistics
    assert (5_001, 5_001, 0, 0) == (counts.sent, counts.stored, counts.failed, counts.waiting)


async def test_flush_returns_when_all_before_are_stored(mesh: Mesh) -> None:
    """What was sent before `flush` is in the log when it returns."""
    await mesh.host(DataIngestionAgent([LINES]))
    async with Producer(mesh, LINES, options=SMALL) as producer:
        await producer.send_many(line(n) for n in range(7))
        await producer.flush()
        assert dict.fromkeys(range(7), 1) == await numbers_of(mesh)


async def test_a_batch_goes_by_its_age(mesh: Mesh) -> None:
    """A record does not wait for others longer than it may linger."""
    await mesh.host(DataIngestionAgent([LINES]))
    async with Producer(mesh, LINES, options=ProducerOptions(linger_s=0.01)) as producer:
        await producer.send(line(1))
        await eventually(lambda: producer.statistics.stored == 1)


async def test_finish_ends_the_source(mesh: Mesh) -> None:
    """It is the last thing in each shard."""
    await mesh.host(DataIngestionAgent([LINES]))
    async with Producer(mesh, LINES) as producer:
        await producer.send(line(1))
        await producer.finish()
    assert LINES.shards == sum(batch.is_final for batch in await batches_of(mesh))


async def test_it_waits_while_too_much_is_not_stored() -> None:
    """Back-pressure: `send` returns only when there is room, and no record is lost by it."""
    may_go = asyncio.Event()
    desk = Desk(may_go)
    async with Producer(desk, LINES, options=SMALL) as producer:
        sending = asyncio.ensure_future(producer.send_many(line(n) for n in range(100)))
        await eventually(lambda: producer.statistics.sent == 30)
        assert not sending.done()
        assert (30, 0) == (producer.statistics.waiting, len(desk.batches))
        may_go.set()
        await sending
    assert list(range(100)) == [number for batch in desk.batches for number in batch]


async def test_a_batch_comes_again_under_the_same_id() -> None:
    """Whatever became of the first attempt, the second is known for the same batch."""
    desk = Desk(
        NoAgentError("nobody"),
        DeadlineExceededError("no answer"),
        Failure("full", code="INGESTION_FULL", retryable=True),
    )
    async with Producer(desk, LINES, options=SMALL) as producer:
        await producer.send(line(1))
        await producer.flush()
    assert [[1]] == desk.batches
    assert (4, 1) == (len(desk.ids), len(set(desk.ids)))
    assert 3 == producer.statistics.retries


async def test_a_batch_that_failed_is_told_with_its_records() -> None:
    """The next call raises it, once, with the records; those after it are stored."""
    desk = Desk(Failure("no", code="BAD_REQUEST"))
    async with Producer(desk, LINES, options=SMALL) as producer:
        await producer.send_many(line(n) for n in range(12))
        with pytest.raises(BatchFailedError) as caught:
            await producer.flush()
        await producer.flush()
    error = caught.value
    assert tuple(line(n) for n in range(10)) == error.records
    assert (desk.ids[0], False, "BAD_REQUEST") == (
        error.batch_id,
        error.is_unknown,
        error.cause.code,
    )
    assert [[10, 11]] == desk.batches
    counts = producer.statistics
    assert (12, 2, 10, 0) == (counts.sent, counts.stored, counts.failed, counts.waiting)


async def test_all_batches_that_failed_are_told() -> None:
    """Where several have failed since the last call, one error has them all."""
    desk = Desk(Failure("no", code="BAD_REQUEST"), Failure("never", code="BAD_REQUEST"))
    async with Producer(desk, LINES, options=SMALL) as producer:
        await producer.send_many(line(n) for n in range(25))
        with pytest.raises(BatchFailedError) as caught:
            await producer.flush()
    told = [each.records[0].number for each in (caught.value, *caught.value.others)]
    assert [0, 10] == told
    assert [[20, 21, 22, 23, 24]] == desk.batches


async def test_who_gives_up_says_that_it_is_unknown() -> None:
    """Where an attempt had no answer, the records may be stored all the same."""
    desk = Desk(DeadlineExceededError("no answer"), Failure("no", code="BAD_REQUEST"))
    producer = Producer(desk, LINES, options=SMALL)
    with pytest.raises(BatchFailedError, match="unknown") as caught:
        async with producer:
            await producer.send(line(1))
    assert caught.value.is_unknown


async def test_an_error_of_the_block_is_raised_and_the_rest_is_stored() -> None:
    """Whoever leaves by an error gets that error; what was sent is stored nevertheless."""
    desk = Desk()

    async def produce() -> None:
        async with Producer(desk, LINES, options=SMALL) as producer:
            await producer.send_many(line(n) for n in range(3))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await produce()
    assert [[0, 1, 2]] == desk.batches


async def test_who_is_cancelled_sends_what_it_can_and_says_what_it_could_not() -> None:
    """Ctrl-C is a cancellation: batches that fail then stand beside it, and nothing hangs."""
    desk = Desk(Failure("no", code="BAD_REQUEST"))
    may_end = asyncio.Event()
    notes: list[str] = []

    async def produce() -> None:
        try:
            async with Producer(desk, LINES, options=SMALL) as producer:
                await producer.send_many(line(n) for n in range(3))
                may_end.set()
                await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            notes.extend(error.__notes__)
            raise

    producing = asyncio.ensure_future(produce())
    await may_end.wait()
    producing.cancel()
    with suppress(asyncio.CancelledError):
        await producing
    assert "3 records" in notes[0]


async def test_what_is_no_record_of_the_source_is_refused_at_once() -> None:
    """A record of another type would spoil a batch."""

    class Other(Line, frozen=True):
        """Not what the source has."""

    other = Source("others", Other, time="sold_at")
    async with Producer(Desk(), other) as producer:
        with pytest.raises(UsageError, match="no record of"):
            await producer.send(line(1))  # type: ignore[arg-type]  # that is what is tested


class Odd(msgspec.Struct):
    """A record that JSON cannot always say."""

    at_us: int
    number: int = 0
    ratio: float = 0.5
    other: float | None = None
    name: str = ""


@pytest.mark.parametrize(
    "odd",
    [
        Odd(2, ratio=float("nan")),
        Odd(2, other=float("-inf")),
        Odd(2, name="\ud800"),
    ],
    ids=["NaN", "infinity", "surrogate"],
)
async def test_what_json_cannot_say_is_refused_at_once(odd: Odd) -> None:
    """It would spoil its batch, or be stored as another value; those around it are stored."""
    source = Source("odd", Odd, time="at_us")
    desk = Desk()
    async with Producer(desk, source, options=SMALL) as producer:
        await producer.send(Odd(1, 1))
        with pytest.raises(UsageError, match="Odd"):
            await producer.send(odd)
        await producer.send(Odd(3, 3))
    assert [[1, 3]] == desk.batches
    counts = producer.statistics
    assert (2, 2, 0) == (counts.sent, counts.stored, counts.failed)


@pytest.mark.parametrize("in_flight", [1, 2])
async def test_flush_does_not_end_well_where_a_sender_broke(in_flight: int) -> None:
    """Whichever sender it was: its batch is not known to be stored, and whoever waits is told."""
    options = ProducerOptions(in_flight_max=in_flight, batch_records_max=1)
    producer = Producer(Desk(KeyError("broken")), LINES, options=options)

    async def produce() -> None:
        async with producer:
            await producer.send(line(1))
            await producer.flush()

    with pytest.raises(ClosedError) as caught:
        await produce()
    assert isinstance(caught.value.__cause__, KeyError)
    assert (1, 0) == (producer.statistics.waiting, producer.statistics.stored)


async def test_it_is_used_within_its_block() -> None:
    """Before, and after, there is nobody who would send."""
    producer = Producer(Desk(), LINES)
    with pytest.raises(UsageError, match="enter"):
        await producer.send(line(1))
    async with producer:
        pass
    with pytest.raises(ClosedError):
        await producer.send(line(1))


@pytest.mark.parametrize(
    "options",
    [{"linger_s": -1}, {"batch_records_max": 0}, {"give_up_s": 0}, {"in_flight_max": 0}],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    """A bound below 1, and times that are none."""
    with pytest.raises(UsageError, match=next(iter(options))):
        ProducerOptions(**options)
