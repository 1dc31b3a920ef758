"""The agent that takes in records, and acknowledges those that are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import msgspec

from agent99 import Agent, Failure, operation
from agent99.agent import host_of, link_of
from agent99.clock import wait_ended
from agent99.errors import BadRequestError, UsageError
from agent99.systems.analytics._columns import ColumnBatch, Columns, Origin, refusal, shard_key
from agent99.systems.analytics._door import Put
from agent99.systems.analytics._entries import (
    Entry,
    Refused,
    Single,
    batch_id_of,
    event_id_of,
    pieces_of,
)
from agent99.systems.analytics._ingested import (
    ACTIONS,
    INVALID_ACTION,
    Counts,
    Finished,
    Flushed,
    Ingested,
    IngestionOptions,
    IngestionStats,
    is_bad,
    is_unknown,
)
from agent99.systems.analytics._intake import DATA, Intake, Taken
from agent99.systems.analytics._source import Source
from agent99.systems.analytics._storing import Storing

RECORD_BYTES = 256
"""What a record that waits takes besides its own bytes."""
ANSWER_S = 0.25
"""So long before a caller's deadline it is answered, whatever has come of its records."""
WAIT_S_MAX = 3_600.0


class DataIngestionAgent(Agent):
    """Takes records of its sources: what it has acknowledged is stored in the log of the mesh.

    Single records are gathered into batches; an array is one at once. Any number of instances may
    run: they share the work.

    Args:
        sources: Whose records it takes; none: whatever JSON comes is a record of the source `data`.
        options: When records are stored, and how much may wait for it.

    Raises:
        UsageError: two sources have one name.
    """

    capabilities = ("data_ingestion", "stream_processing")
    concurrency_max = 4_096
    waiting_max = 1_024

    sources: tuple[Source[Any], ...] = ()
    options: IngestionOptions = IngestionOptions()

    _storing: Storing

    def __init__(
        self,
        sources: Iterable[Source[Any]] | None = None,
        *,
        options: IngestionOptions | None = None,
    ) -> None:
        several = tuple(type(self).sources if sources is None else sources) or (DATA,)
        self._options = options or type(self).options
        self._intakes: dict[str, Intake] = {
            each.name: Intake(each, self._options.array_records_max) for each in several
        }
        if len(self._intakes) < len(several):
            raise UsageError("two sources have one name")
        self._only = several[0].name if len(several) == 1 else ""
        self._counts = Counts()

    async def start(self) -> None:
        """Take in records from now on."""
        self._storing = storing = Storing(self, self._options, self._counts)
        await storing.open()
        host_of(self).duty(lambda _host: _Flushing(storing))

    async def stop(self) -> None:
        """End what could not be stored until now; its callers were told."""
        await self._storing.aclose()

    # --- what is asked for ------------------------------------------------------------------------

    async def process_request(self, action: str = "", operation: str = "") -> None:
        """Refuse what names none of the operations."""
        name = operation or action
        self._counts.refuse(INVALID_ACTION)
        raise Failure(f"{name!r} is none of: {', '.join(ACTIONS)}", code=INVALID_ACTION)

    @operation
    async def ingest(
        self, data: msgspec.Raw, source: str = "", batch_id: str = "", shard: int | None = None
    ) -> Ingested:
        """Store a record, or an array of records: all or, where one of them is wrong, none.

        Answered = stored. What is sent again under the same batch id, or idempotency key, is stored
        once: within two minutes in the log, and later for whoever reads it by the ids.
        """
        with self._refusals():
            intake = self._intake(source)
            taken = intake.read(bytes(data), link_of(self).clock.wall_us())
            known_as = batch_id or self.context.idempotency_key or ""
            if taken.is_array or known_as:
                return await self._ingest_batch(intake, taken, known_as, shard)
            return await self._ingest_one(intake, taken, len(data), shard)

    @operation
    async def finish(
        self, source: str = "", shard: int | None = None, batch_id: str = ""
    ) -> Finished:
        """Store that no more records of a shard, or of the whole source, come: windows close."""
        with self._refusals():
            intake = self._intake(source)
            if shard is not None:
                intake.check_shard(shard)
            shards = range(intake.source.shards) if shard is None else (shard,)
            known_as = self._batch_id(batch_id or self.context.idempotency_key or "")
            origin = self._origin(known_as, 0)
            nothing: Columns = {name: [] for name in intake.source.fields}
            puts = [
                self._batch(intake.source, number, origin, nothing, is_final=True)
                for number in shards
            ]
            await self._storing.store(puts, self._until_s())
            return Finished(finished=True, shards=tuple(shards))

    @operation(idempotent=True)
    async def flush(self) -> Flushed:
        """Store what waits now; answered = it is, or its callers know that it is not."""
        with self._refusals():
            waiting = self._storing.flush()
            if waiting:
                all_of_it = asyncio.gather(
                    *(entry.done for entry in waiting), return_exceptions=True
                )
                link = link_of(self)
                if not await wait_ended(link.deadlines, all_of_it, self._until_s()):
                    raise is_unknown()
            return Flushed(flushed=True, records=sum(entry.rows for entry in waiting))

    @operation(idempotent=True)
    async def stats(self) -> IngestionStats:
        """Return what waits, and what this instance did since it started."""
        counts, options = self._counts, self._options
        return IngestionStats(
            buffer_size=self._storing.buffer.records,
            batch_size=options.batch_records_max,
            flush_interval=options.linger_s,
            buffer_bytes=self._storing.buffer.bytes,
            blocked=self._storing.blocked,
            records=counts.records,
            batches=counts.batches,
            repeated=counts.repeated,
            refused=dict(counts.refused),
            dropped=counts.dropped,
            abandoned=counts.abandoned,
            retries=counts.retries,
            spilled=counts.spilled,
            spilled_waiting=self._storing.spilled_waiting,
        )

    # --- inside -----------------------------------------------------------------------------------

    @contextmanager
    def _refusals(self) -> Generator[None]:
        """Count what is not taken, and tell the caller why."""
        try:
            yield
        except BadRequestError as error:
            self._counts.refuse(error.code)
            raise is_bad(error) from error
        except Failure as error:
            self._counts.refuse(error.code)
            raise

    def _intake(self, name: str) -> Intake:
        intake = self._intakes.get(name or self._only)
        if intake is None:
            raise refusal("$.source", f"{name!r} is none of: {', '.join(self._intakes)}")
        return intake

    async def _ingest_one(
        self, intake: Intake, taken: Taken, size: int, shard: int | None
    ) -> Ingested:
        """Gather a record with others, and wait until they are stored."""
        [(number, _)] = intake.part(taken, shard)
        data_id = link_of(self).ids.uuid()
        now_s = link_of(self).clock.monotonic_s()
        linger_s = min(self._options.linger_s, intake.source.delay_s / 2)
        due_s = now_s + min(linger_s, self._remaining_s() / 2)
        single = Single(intake.source, number, taken.records[0], self._origin(data_id, 1))
        entry = Entry(rows=1, done=_future(), single=single)
        lane = shard_key(intake.source, number)
        await self._storing.store([Put(lane, entry, size + RECORD_BYTES, due_s)], self._until_s())
        return Ingested(ingested=True, data_id=data_id, buffer_size=self._storing.buffer.records)

    async def _ingest_batch(
        self, intake: Intake, taken: Taken, known_as: str, shard: int | None
    ) -> Ingested:
        """Store records as batches of their own, one for each shard."""
        source, batch_id = intake.source, self._batch_id(known_as)
        if shard is None and not source.shard_by:  # a repetition goes to the same one
            shard = crc32(batch_id.encode()) % source.shards
        origin = self._origin(batch_id, taken.rows)
        puts = [
            self._batch(source, number, origin, columns)
            for number, columns in intake.part(taken, shard)
        ]
        await self._storing.store(puts, self._until_s())
        size = self._storing.buffer.records
        return Ingested(ingested=True, data_id=batch_id, buffer_size=size, records=taken.rows)

    def _batch(
        self,
        source: Source[Any],
        shard: int,
        origin: Origin,
        columns: Columns,
        *,
        is_final: bool = False,
    ) -> Put:
        rows = len(next(iter(columns.values()), ()))
        origin = msgspec.structs.replace(origin, rows=rows)
        batch = ColumnBatch(
            source=source.name,
            shard=shard,
            rows=rows,
            columns=columns,
            origins=(origin,),
            is_final=is_final,
        )
        event_id = event_id_of(source, shard, origin.data_id)
        pieces = pieces_of(source, batch, event_id, self._storing.bytes_max)
        entry = Entry(rows=rows, done=_future(), pieces=pieces)
        return Put(shard_key(source, shard), entry, sum(len(piece.body) for piece in pieces))

    def _origin(self, data_id: str, rows: int) -> Origin:
        header = self.context.header
        return Origin(
            data_id=data_id,
            rows=rows,
            ingested_us=link_of(self).clock.wall_us(),
            source_ip=header.get("source_ip", ""),
            user_agent=header.get("user_agent", ""),
        )

    def _batch_id(self, known_as: str) -> str:
        return batch_id_of(known_as) if known_as else link_of(self).ids.uuid()

    def _remaining_s(self) -> float:
        return max(min(self.context.remaining_s(), WAIT_S_MAX), 0.0)

    def _until_s(self) -> float:
        """Return when the caller is answered at the latest."""
        remaining_s = self._remaining_s()
        return link_of(self).clock.monotonic_s() + remaining_s - min(ANSWER_S, remaining_s / 4)


class _Flushing:
    """Has an agent that leaves store at once what it has: its callers need not wait longer."""

    def __init__(self, storing: Storing) -> None:
        self._storing = storing

    def __repr__(self) -> str:
        return f"_Flushing({self._storing!r})"

    def start(self) -> None:
        """Nothing to do."""

    async def leave(self) -> None:
        """Store what waits."""
        self._storing.flush()

    async def stop(self, timeout_s: float) -> bool:
        """Store what waits; the operations wait for it."""
        del timeout_s
        self._storing.flush()
        return True


def _future() -> asyncio.Future[Refused | None]:
    return asyncio.get_running_loop().create_future()
