"""The processor: folds the records of a job, closes its windows, and answers for them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from agent99 import Agent, Failure, operation
from agent99.agent import link_of
from agent99.errors import (
    Agent99Error,
    BadRequestError,
    RequestError,
    UsageError,
)
from agent99.groups import Group, GroupOptions
from agent99.systems.analytics._answers import Answers
from agent99.systems.analytics._closers import Closers
from agent99.systems.analytics._columns import (
    ColumnBatch,
    Columns,
    columns_of,
    records_decoder,
    split_by_shard,
)
from agent99.systems.analytics._compare import compare
from agent99.systems.analytics._drop import drop
from agent99.systems.analytics._entries import batch_id_of, event_id_of, pieces_of
from agent99.systems.analytics._folding import Folding
from agent99.systems.analytics._ground import Ground
from agent99.systems.analytics._intake import check_times
from agent99.systems.analytics._jobs import current_version, register
from agent99.systems.analytics._query import (
    known_jobs,
    pipeline_stats,
    unknown,
)
from agent99.systems.analytics._questions import (
    INVALID_ACTION,
    CompareQuery,
    Comparison,
    Dropped,
    DropQuery,
    Jobs,
    JobStats,
    Processed,
    RowsPage,
    RowsQuery,
    StatsQuery,
    Switched,
    SwitchQuery,
)
from agent99.systems.analytics._shelf import LogShelf
from agent99.systems.analytics._sinks import Sinks
from agent99.systems.analytics._switch import check_reached, switch

if TYPE_CHECKING:
    from agent99.store import Transaction
    from agent99.systems.analytics._pipeline import Job
    from agent99.systems.analytics._source import Source

ROWS_MAX = 2_000_000
"""That one statement of the database may return."""
DRAIN_S_MAX = 2.0
"""For so long a batch that is folded may end, when its partition goes to another processor."""
ACTIONS = ("process_batch", "query", "stats", "jobs", "compare", "switch", "drop")


class ProcessorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of a processor.

    Raises:
        UsageError: a number below 1.
    """

    batch_max: int = 32
    """Stored batches that are folded in one transaction."""
    prefetch_max: int = 64
    """Stored batches of one partition that wait here."""

    def __post_init__(self) -> None:
        if self.batch_max < 1 or self.prefetch_max < 1:
            raise UsageError("batch_max and prefetch_max of a processor are at least 1")


class AnalyticsProcessor(Agent):
    """Keeps the windows of a job, and answers what they say.

    Any number may run on one database: they share the records by the partitions of the log, and the
    pipelines, whose windows one of them closes each. They may come, go, and be killed at any time.

        await mesh.host(AnalyticsProcessor(job, database="sqlite:///figures.db"))

    Args:
        job: The pipelines, and their version.
        database: Its URL; all processors of a job share it.
        options: The bounds.

    Delivery: each record counts exactly once in each pipeline; so does each row, in the database
        and as an event of `windows.{job}.{pipeline}`, and in sinks as these say. What comes too
        late is an event of `late.{job}.{pipeline}`.
    """

    capabilities = ("analytics_processor",)

    def __init__(self, job: Job, database: str, options: ProcessorOptions | None = None) -> None:
        self._job = job
        self._database = database
        self._options = options or ProcessorOptions()
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Open the database, and go on where the job is.

        Raises:
            UsageError: the database has another definition under the job's version.
            StoreError or one of its kinds.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        from agent99.store import (  # noqa: PLC0415 - loads SQLAlchemy
            StoreOptions,
            make_folder,
            open_store,
        )
        from agent99.systems.analytics._tables import MIGRATIONS, SCHEMA  # noqa: PLC0415 - as above

        make_folder(self._database)
        async with AsyncExitStack() as stack:
            store = await stack.enter_async_context(
                open_store(
                    self._database,
                    migrations=MIGRATIONS,
                    schema=SCHEMA,
                    options=StoreOptions(rows_max=ROWS_MAX, lock_s_max=30.0),
                )
            )
            self._ground = ground = Ground(self, self._job, store)
            note = partial(register, mesh=ground.mesh, job=self._job, now_us=ground.clock.wall_us())
            await store.transaction(note)
            self.relay(store)
            folding = Folding(ground)
            self._group = Group(
                self,
                ground.group,
                sorted(pipelines[0].source.topic for pipelines in ground.by_source.values()),
                folding.handle,
                store=store,
                options=GroupOptions(
                    batch_max=self._options.batch_max,
                    prefetch_max=self._options.prefetch_max,
                    drain_s_max=DRAIN_S_MAX,
                ),
            )
            self._closers = closers = Closers(ground, lambda: self._group.statistics().members)
            self._answers = Answers(ground, closers)
            heard = ground.hear(folding.topic, closers.wake)
            stack.callback(heard.unsubscribe)
            closing = asyncio.get_running_loop().create_task(closers.run())
            stack.push_async_callback(self._end, closing)
            await stack.enter_async_context(self._group)
            self._sinks = Sinks(ground)
            delivering = asyncio.get_running_loop().create_task(self._sinks.run())
            stack.push_async_callback(_cancel, delivering)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """Hand over what is in hand, and close."""
        await self._stack.aclose()

    async def process_request(self, action: str = "", operation: str = "") -> None:
        """Refuse what names none of the operations."""
        message = f"no action {operation or action!r}; there are {', '.join(ACTIONS)}"
        raise Failure(message, code=INVALID_ACTION)

    @operation
    async def process_batch(
        self, batch: msgspec.Raw, batch_size: int = 0, source: str = ""
    ) -> Processed:
        """Store a batch of records; answered = stored, and in the windows some moments later.

        What is sent again under the same idempotency key counts once.
        """
        which = self._source(source)
        batch_id = batch_id_of(self.context.idempotency_key or link_of(self).ids.uuid())
        try:
            records = records_decoder(which)(batch)
            if batch_size and batch_size != len(records):
                message = f"batch_size is {batch_size}, and {len(records)} records came"
                raise BadRequestError(message)
            columns = columns_of(which, records)
            check_times(which, columns[which.time], self._ground.clock.wall_us())
            await self._store_records(which, columns, batch_id)
        except RequestError:
            raise
        except Agent99Error as error:
            raise Failure(str(error), code=error.code, retryable=error.retryable) from error
        return Processed(len(records), batch_id)

    @operation(idempotent=True)
    async def query(self, query: RowsQuery) -> RowsPage:
        """Return rows of a pipeline: of windows that are closed, that are open, or both."""
        return await self._answers.page(query)

    @operation(idempotent=True)
    async def stats(self, query: StatsQuery) -> JobStats:
        """Return the counts of the job, which close, and what this processor does."""
        ground, group = self._ground, self._group.statistics()
        self._check_ours(query.job, query.version)
        now_us = ground.clock.wall_us()

        def read(transaction: Transaction) -> tuple[int | None, Any]:
            return (
                current_version(transaction, ground.mesh, ground.job.name),
                pipeline_stats(transaction, ground.reader, now_us),
            )

        current, pipelines = await ground.store.read(read)
        return JobStats(
            job=ground.job.name,
            version=ground.job.version,
            current_version=current or ground.job.version,
            processors=group.members,
            partitions=len(group.partitions),
            events=group.events,
            closes=self._closers.pipelines,
            pipelines=pipelines,
            sinks=await self._sinks.stats(),
        )

    @operation(idempotent=True)
    async def jobs(self) -> Jobs:
        """Return all jobs of the mesh that the database knows."""
        read = partial(known_jobs, mesh=self._ground.mesh)
        return Jobs(await self._ground.store.read(read))

    @operation(idempotent=True)
    async def compare(self, query: CompareQuery) -> Comparison:
        """Compare what two versions say of the windows that both have closed."""
        ground = self._ground
        asked = partial(compare, mesh=ground.mesh, job=ground.job.name, query=query)
        return await ground.store.read(asked)

    @operation(idempotent=True)
    async def switch(self, query: SwitchQuery) -> Switched:
        """Have the processor's version be the one that is asked for, and whose rows are events."""
        ground = self._ground
        self._check_ours(query.job, query.version)
        which: dict[str, Any] = {"mesh": ground.mesh, "job": ground.job}
        if not query.is_forced:
            await ground.store.read(partial(check_reached, **which, goal=query.goal))
        return await ground.store.transaction(partial(switch, **which))

    @operation
    async def drop(self, query: DropQuery) -> Dropped:
        """Forget a version that is neither asked for nor run."""
        return await drop(self._ground, query.job or self._ground.job.name, query.version)

    # --- inside -----------------------------------------------------------------------------------

    def _check_ours(self, job: str, version: int) -> None:
        """Refuse a question that a processor of another version, or job, has to answer."""
        ours = self._ground.job
        if job not in ("", ours.name) or version not in (0, ours.version):
            raise unknown(f"this processor runs version {ours.version} of {ours.name!r}")

    async def _end(self, closing: asyncio.Task[None]) -> None:
        await _cancel(closing)
        await self._closers.end()

    def _source(self, name: str) -> Source[Any]:
        by_source = self._ground.by_source
        if not name and len(by_source) == 1:
            (name,) = by_source
        if name not in by_source:
            raise Failure(
                f"the job has no source {name!r}; there are {', '.join(sorted(by_source))}",
                code="UNKNOWN_SOURCE",
            )
        return by_source[name][0].source

    async def _store_records(self, source: Source[Any], columns: Columns, batch_id: str) -> None:
        shelf = LogShelf(self)
        for shard, part in split_by_shard(source, columns):
            rows = len(part[source.time])
            batch = ColumnBatch(source=source.name, shard=shard, rows=rows, columns=part)
            event_id = event_id_of(source, shard, batch_id)
            for piece in pieces_of(source, batch, event_id, shelf.bytes_max):
                await shelf.store(piece)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
