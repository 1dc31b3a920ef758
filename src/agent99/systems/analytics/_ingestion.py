"""The agent that takes in records, and acknowledges those that are stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable
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
from agent99.systems.analytics._enriched import Room, Tally, enriched_pieces
from agent99.systems.analytics._enricher import Enricher, open_enrichers
from agent99.systems.analytics._enrichment import Enrichment
from agent99.systems.analytics._entries import (
    Entry,
    Piece,
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
        enrichments: What records get that they did not bring, before they are stored; of a source,
            in this order.

    Raises:
        UsageError: two sources have one name, or an enrichment is of none of them.
    """

    capabilities = ("data_ingestion", "stream_processing")
    concurrency_max = 4_096
    waiting_max = 1_024

    sources: tuple[Source[Any], ...] = ()
    options: IngestionOptions = IngestionOptions()
    enrichments: tuple[Enrichment, ...] = ()

    _storing: Storing

    def __init__(
        self,
        sources: Iterable[Source[Any]] | None = None,
        *,
        options: IngestionOptions | None = None,
        enrichments: Iterable[Enrichment] | None = None,
    ) -> None:
        several = tuple(type(self).sources if sources is None else sources) or (DATA,)
        self._options = options or type(self).options
        self._intakes: dict[str, Intake] = {
            each.name: Intake(each, self._options.array_records_max) for each in several
        }
        if len(self._intakes) < len(several):
            raise UsageError("two sources have one name")
        mine = type(self).enrichments if enrichments is None else enrichments
        self._enrichments = tuple(mine)
        for one in self._enrichments:
            if one.source not in several:
                raise UsageError(f"{one!r}: the agent does not take {one.source!r}")
        self._enrichers: dict[str, Enricher] = {}
        self._only = several[0].name if len(several) == 1 else ""
        self._counts = Counts()

    async def start(self) -> None:
        """Take in records from now on."""
        self._storing = storing = Storing(self, self._options, self._counts)
        await storing.open()
        self._enrichers = await open_enrichers(self, self._enrichments, self._counts)
        host_of(self).duty(lambda _host: _Flushing(storing, self._finish))

    async def stop(self) -> None:
        """End what could not be stored until now; its callers were told."""
        for enricher in self._enrichers.values():
            await enricher.aclose()
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
            known_as = batch_id or self.context.idempotency_key or ""
            intake = self._intake(source)
            data_id, puts, tally = await self._made(intake, bytes(data), known_as, shard)
            await self._storing.store(puts, self._until_s())
            self._counts.tally.add(tally)
            size, rows = self._storing.buffer.records, sum(put.entry.rows for put in puts)
            return Ingested(ingested=True, data_id=data_id, buffer_size=size, records=rows)

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
            if (enricher := self._enrichers.get(intake.source.name)) is not None:
                await enricher.passed(self._until_s())
            known_as = self._batch_id(batch_id or self.context.idempotency_key or "")
            origin = self._origin(known_as, 0)
            nothing: Columns = {name: [] for name in intake.source.fields}
            puts = [
                self._put(
                    intake.source, _batch(intake.source, number, origin, nothing, is_final=True)
                )
                for number in shards
            ]
            await self._storing.store(puts, self._until_s())
            return Finished(finished=True, shards=tuple(shards))

    @operation(idempotent=True)
    async def flush(self) -> Flushed:
        """Store what waits now; answered = it is, or its callers know that it is not."""
        with self._refusals():
            waiting = await self._flush(self._until_s())
            if waiting is None:
                raise is_unknown()
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
            lookups=counts.lookups,
            **msgspec.structs.asdict(counts.tally),
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

    async def _made(
        self, intake: Intake, data: bytes, known_as: str, shard: int | None
    ) -> tuple[str, list[Put], Tally]:
        """Return what is to be stored, the id that it goes by, and what was looked up for it.

        By itself: it ends before that is stored, and whoever waits for it keeps no records.
        """
        taken = intake.read(data, link_of(self).clock.wall_us())
        data_id = self._batch_id(known_as)
        if not (taken.is_array or known_as):
            put, tally = await self._single(intake, taken, data_id, len(data), shard)
            return data_id, [put], tally
        if shard is None and not intake.source.shard_by:  # a repetition goes to the same one
            shard = crc32(data_id.encode()) % intake.source.shards
        puts, tally = await self._puts(intake, taken, self._origin(data_id, taken.rows), shard)
        return data_id, puts, tally

    async def _single(
        self, intake: Intake, taken: Taken, data_id: str, size: int, shard: int | None
    ) -> tuple[Put, Tally]:
        """Return a record that is gathered with others, with what was looked up for it."""
        [(number, _)] = intake.part(taken, shard)
        now_s = link_of(self).clock.monotonic_s()
        linger_s = min(self._options.linger_s, intake.source.delay_s / 2)
        due_s = now_s + min(linger_s, self._remaining_s() / 2)
        record, tally = taken.records[0], Tally()
        size += RECORD_BYTES
        if (enricher := self._enrichers.get(intake.source.name)) is not None:
            tally = await enricher.fill_record(record, taken.columns, self._until_s())
            size += enricher.row_bytes
        single = Single(intake.source, number, record, self._origin(data_id, 1))
        entry = Entry(rows=1, done=_future(), single=single)
        return Put(shard_key(intake.source, number), entry, size, due_s), tally

    async def _puts(
        self, intake: Intake, taken: Taken, origin: Origin, shard: int | None
    ) -> tuple[list[Put], Tally]:
        """Return a batch for each shard of the records, with what was looked up for them."""
        source, parts = intake.source, intake.part(taken, shard)
        batches = [_batch(source, number, origin, columns) for number, columns in parts]
        if (enricher := self._enrichers.get(source.name)) is None:
            return [self._put(source, batch) for batch in batches], Tally()
        columns, tally = await enricher.fill(
            taken.columns, self._until_s(), is_alone=taken.is_array
        )
        enriched = intake.part(msgspec.structs.replace(taken, columns=columns), shard)
        room = Room(self._storing.bytes_max, enricher.row_bytes)
        puts: list[Put] = []
        for batch, (_, full) in zip(batches, enriched, strict=True):
            pieces = enriched_pieces(source, batch, full, _event_id(source, batch), room)
            puts.append(_put(source, batch, pieces))
        return puts, tally

    def _put(self, source: Source[Any], batch: ColumnBatch) -> Put:
        event_id = _event_id(source, batch)
        return _put(source, batch, pieces_of(source, batch, event_id, self._storing.bytes_max))

    async def _flush(self, until_s: float) -> list[Entry] | None:
        """Store at once what has come; returns it, or None: something is looked up still."""
        for enricher in self._enrichers.values():
            if not await enricher.is_free(until_s):
                return None
        return self._storing.flush()

    async def _finish(self, timeout_s: float) -> None:
        """Store at once what has come, and what is looked up by then: it need not wait longer."""
        if await self._flush(link_of(self).clock.monotonic_s() + timeout_s) is None:
            self._storing.flush()

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


def _batch(
    source: Source[Any], shard: int, origin: Origin, columns: Columns, *, is_final: bool = False
) -> ColumnBatch:
    rows = len(next(iter(columns.values()), ()))
    return ColumnBatch(
        source=source.name,
        shard=shard,
        rows=rows,
        columns=columns,
        origins=(msgspec.structs.replace(origin, rows=rows),),
        is_final=is_final,
    )


def _event_id(source: Source[Any], batch: ColumnBatch) -> str:
    return event_id_of(source, batch.shard, batch.origins[0].data_id)


def _put(source: Source[Any], batch: ColumnBatch, pieces: tuple[Piece, ...]) -> Put:
    entry = Entry(rows=batch.rows, done=_future(), pieces=pieces)
    return Put(shard_key(source, batch.shard), entry, sum(len(piece.body) for piece in pieces))


class _Flushing:
    """Has an agent that leaves store at once what it has: its callers need not wait longer."""

    def __init__(self, storing: Storing, finish: Callable[[float], Awaitable[None]]) -> None:
        self._storing = storing
        self._finish = finish

    def __repr__(self) -> str:
        return f"_Flushing({self._storing!r})"

    def start(self) -> None:
        """Nothing to do."""

    async def leave(self) -> None:
        """Store what waits."""
        self._storing.flush()

    async def stop(self, timeout_s: float) -> bool:
        """Store what waits; the operations wait for it."""
        await self._finish(timeout_s)
        return True


def _future() -> asyncio.Future[Refused | None]:
    return asyncio.get_running_loop().create_future()
