"""The store: opens the database, runs transactions and reads, closes."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from agent99.clock import Clock, SystemClock
from agent99.errors import Agent99Error, ClosedError, StoreOverloadedError, UsageError
from agent99.ids import Ids, SystemIds
from agent99.store._idempotency import OWN_MIGRATIONS, Answer, Once, purge
from agent99.store._link import Database, Dialect
from agent99.store._migrations import OWN_SCHEMA, Migration, check_migrations, migrate
from agent99.store._options import StoreOptions, StoreStatistics
from agent99.store._runner import TransactionRunner
from agent99.store._transaction import Transaction
from agent99.store._workers import Desk

T = TypeVar("T")


def open_store(
    url: str,
    *,
    migrations: Sequence[Migration] = (),
    schema: str = "main",
    options: StoreOptions | None = None,
    clock: Clock | None = None,
    ids: Ids | None = None,
) -> Store:
    """Return the store at `url`, to be used with `async with`, or opened and closed by hand.

    Args:
        url: `sqlite:///path/to/file.db` (four slashes for an absolute path), or
            `postgresql://user:password@host/database`.
        migrations: What makes the tables; applied on opening, once for all processes.
        schema: Whose migrations and idempotency keys these are, where several share a database.
        options: The bounds.
        clock: For ages and waits.
        ids: For jitter.

    Raises:
        UsageError: the URL, the migrations or the schema's name; nothing was touched.
    """
    check_migrations(schema, migrations)
    database = Database(url, options or StoreOptions())
    return Store(database, migrations, schema, clock or SystemClock(), ids or SystemIds())


class Store:
    """An agent's own data in SQL.

    Belongs to the event loop that opens it. All errors of the database are `StoreError`s.

    Invariant: it is new, open or closed, and goes through these in this order; only an open one has
    threads.
    """

    def __init__(
        self,
        database: Database,
        migrations: Sequence[Migration],
        schema: str,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._database = database
        self._options = database.options
        self._migrations = tuple(migrations)
        self._schema = schema
        self._clock = clock
        self._ids = ids
        self._state = "new"
        self._writers: Desk | None = None
        self._readers: Desk | None = None
        self._is_purging = False
        self._purge_next_s = 0.0
        self._purged = 0
        self._purge_failures = 0

    def __repr__(self) -> str:
        return f"Store({self._database.name!r}, schema={self._schema!r}, {self._state})"

    def __del__(self) -> None:
        if getattr(self, "_state", "new") == "open":
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            for desk in (self._writers, self._readers):
                if desk is not None:
                    desk.stop()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    @property
    def dialect(self) -> Dialect:
        """`sqlite` or `postgresql`: where their SQL differs."""
        return self._database.dialect

    async def open(self) -> None:
        """Connect, and bring the tables up to date.

        Raises:
            StoreUnavailableError: the database cannot be opened.
            MigrationError: its history does not fit the migrations.
            StoreError: a migration failed; nothing was changed.
            UsageError: it was opened before.
        """
        if self._state != "new":
            message = f"the store is {self._state}; a store is opened once"
            raise UsageError(message)
        self._start()
        wanted = ((OWN_SCHEMA, OWN_MIGRATIONS), (self._schema, self._migrations))
        try:
            await self.transaction(partial(migrate, wanted=wanted, now_us=self._clock.wall_us()))
        except BaseException:
            await self.aclose()
            raise

    async def transaction(self, work: Callable[[Transaction], T]) -> T:
        """Run a function in a transaction and return its result: all of its effect, or none.

        The function is synchronous and runs on a thread of the store; what it returns or raises
        comes back here. It may run more than once (a conflict, another's failure in a shared
        commit), so it should change nothing but the database. On SQLite transactions that wait
        together share one commit, and a slow function holds up the others.

        If the awaiting task is cancelled the transaction takes effect or not; either way it is
        whole, and later ones are not held up. Who must know uses `once`.

        Raises:
            StoreOverloadedError: `waiting_max` others wait; it did not run.
            StoreUnavailableError: cannot connect, or another process holds the lock for too long;
                with `outcome_unknown` the link broke during the commit.
            StoreFullError: the disk is full.
            ConstraintError: a rule of the tables forbids it.
            TransactionConflictError: `attempts_max` times others changed the same rows.
            StoreError: the database refuses a statement.
            UsageError: the function is asynchronous; the store is not open.
            ClosedError
            what the function raises; the transaction took no effect.
        """
        desk = self._writers
        if desk is None:
            raise self._not_open()
        return cast("T", await desk.submit(work))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        """Run a function that only reads, on a separate connection, and return its result.

        It sees the database as it is at its first statement, all acknowledged transactions
        included, and waits for no writer.

        Raises:
            StoreOverloadedError: `waiting_max` others wait; it did not run.
            StoreUnavailableError, StoreError, ClosedError
            UsageError: it writes, or is asynchronous; the store is not open.
            what the function raises.
        """
        desk = self._readers
        if desk is None:
            raise self._not_open()
        return cast("T", await desk.submit(work))

    async def once(
        self,
        key: str,
        request: Any,
        work: Callable[[Transaction], T],
        answer_type: type[T],
    ) -> T:
        """Run a transaction that takes effect once, however often its key comes.

        The first call runs `work` and keeps its answer in the same transaction; every other call
        with the key and the same request gets that answer, across processes and restarts, for
        `retention_s` at least. A call that comes while the first is under way waits for it.

        A `Failure` that `work` raises undoes the effect. It is an answer as well, kept and raised
        again under the key, unless it is `retryable`; then, and after any other error, nothing is
        kept and the key is as new.

        This holds for effects in this database. What `work` does elsewhere happens at least once.

        Args:
            key: 1 to 256 bytes; made by the caller, the same on every retry.
            request: What the key stands for; anything that JSON can carry. Compared by a hash.
            work: As in `transaction`; its answer must be JSON too.
            answer_type: The type of the answer, for reading it back.

        Raises:
            IdempotencyConflictError: the key came before with another request.
            InvalidNameError: the key.
            UsageError: the request or the answer cannot be written as JSON.
            StoreError: the answer under the key is not of this type.
            as `transaction`.
        """
        now_us = self._clock.wall_us()
        job = Once(self._schema, key, request, work, answer_type, now_us)
        answer: Answer[T] = await self.transaction(job)
        if not self._is_purging and self._clock.monotonic_s() >= self._purge_next_s:
            self._start_purge(now_us)
        if answer.failure is not None:
            raise answer.failure
        return cast("T", answer.value)

    def statistics(self) -> StoreStatistics:
        """Return the counts so far."""
        writers, readers = self._writers, self._readers
        if writers is None or readers is None:
            return StoreStatistics()
        return StoreStatistics(
            transactions=writers.answered,
            failures=writers.failures + readers.failures,
            commits=writers.commits,
            retries=writers.retries,
            reads=readers.answered,
            waiting=writers.waiting + readers.waiting,
            purged=self._purged,
            purge_failures=self._purge_failures,
        )

    async def aclose(self) -> None:
        """Take in nothing more, finish what is queued, close. Idempotent."""
        writers, readers = self._writers, self._readers
        if writers is None or readers is None or self._state == "closed":
            self._state = "closed"
            return
        try:
            await asyncio.gather(writers.aclose(), readers.aclose())
        finally:
            self._state = "closed"
            self._database.close()

    def _start(self) -> None:
        options, database = self._options, self._database
        is_sqlite = database.dialect == "sqlite"
        self._state = "open"
        self._writers = Desk("transactions", options, self._clock, self._ids)
        self._writers.start(
            [
                TransactionRunner(database, read_only=False)
                for _ in range(1 if is_sqlite else options.writers_max)
            ],
            batch_max=options.batch_max if is_sqlite else 1,
        )
        self._readers = Desk("reads", options, self._clock, self._ids)
        self._readers.start(
            [TransactionRunner(database, read_only=True) for _ in range(options.readers_max)],
            batch_max=1,
        )

    def _not_open(self) -> Agent99Error:
        if self._state == "closed":
            return ClosedError("store")
        return UsageError("the store is not open: use `async with open_store(...)`, or `open()`")

    def _start_purge(self, now_us: int) -> None:
        """Remove some answers that are out of date, behind the callers' backs."""
        desk = self._writers
        if desk is None or desk.is_closed:
            return
        options = self._options
        before_us = now_us - int(options.retention_s * 1_000_000)
        work = partial(
            purge, schema=self._schema, before_us=before_us, rows_max=options.purge_rows_max
        )
        self._purge_next_s = self._clock.monotonic_s() + options.purge_every_s
        try:
            future: asyncio.Future[int] = desk.submit(work)
        except StoreOverloadedError:
            self._purge_failures += 1
            return
        self._is_purging = True
        future.add_done_callback(self._purge_ended)

    def _purge_ended(self, future: asyncio.Future[int]) -> None:
        self._is_purging = False
        if future.cancelled() or future.exception() is not None:
            self._purge_failures += 1
            return
        self._purged += future.result()
        if future.result() >= self._options.purge_rows_max:
            self._purge_next_s = 0.0  # there may be more: the next call goes on
