"""The store: opens the database, runs transactions and reads, closes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from agent99.clock import Clock, SystemClock
from agent99.ids import Ids, SystemIds
from agent99.store._cleaning import Cleaning
from agent99.store._engine import Engine
from agent99.store._idempotency import Answer, Once
from agent99.store._link import Database, Dialect
from agent99.store._migrations import OWN_SCHEMA, Migration, check_migrations, migrate
from agent99.store._options import StoreOptions, StoreStatistics
from agent99.store._outbox import Outbox
from agent99.store._scope import Scope
from agent99.store._tables import OWN_MIGRATIONS
from agent99.store._transaction import Transaction

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
        schema: Whose migrations, keys and outbox these are, where several share a database.
        options: The bounds.
        clock: For ages and waits.
        ids: For the ids of events, and for jitter.

    Raises:
        UsageError: the URL, the migrations or the schema's name; nothing was touched.
    """
    check_migrations(schema, migrations)
    database = Database(url, options or StoreOptions())
    scope = Scope(schema, database.options, clock or SystemClock(), ids or SystemIds())
    return Store(Engine(database, scope), migrations)


class Store:
    """An agent's own data in SQL.

    Belongs to the event loop that opens it. All errors of the database are `StoreError`s.
    """

    def __init__(self, engine: Engine, migrations: Sequence[Migration]) -> None:
        self._engine = engine
        self._migrations = tuple(migrations)
        self._cleaning = Cleaning(engine)
        self._outbox = Outbox(engine)

    def __repr__(self) -> str:
        engine = self._engine
        name, schema = engine.database.name, engine.scope.schema
        return f"Store({name!r}, schema={schema!r}, {engine.state})"

    def __del__(self) -> None:
        engine: Engine | None = getattr(self, "_engine", None)
        if engine is not None and engine.state == "open":
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            engine.stop()

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
        return self._engine.database.dialect

    @property
    def outbox(self) -> Outbox:
        """What transactions have appended: for the relay that sends it."""
        return self._outbox

    async def open(self) -> None:
        """Connect, and bring the tables up to date.

        Raises:
            StoreUnavailableError: the database cannot be opened.
            MigrationError: its history does not fit the migrations.
            StoreError: a migration failed; nothing was changed.
            UsageError: it was opened before.
        """
        engine = self._engine
        engine.start()
        wanted = ((OWN_SCHEMA, OWN_MIGRATIONS), (engine.scope.schema, self._migrations))
        now_us = engine.scope.clock.wall_us()
        try:
            await self.transaction(partial(migrate, wanted=wanted, now_us=now_us))
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
            StoreOverloadedError: `waiting_max` others wait, and it did not run; or it appends, and
                the outbox is full.
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
        result = await self._engine.transaction(work)
        self._cleaning.look()
        return cast("T", result)

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
        return cast("T", await self._engine.read(work))

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
        answer: Answer[T] = await self.transaction(Once(key, request, work, answer_type))
        if answer.failure is not None:
            raise answer.failure
        return cast("T", answer.value)

    def statistics(self) -> StoreStatistics:
        """Return the counts so far."""
        writers, readers, cleaning = self._engine.writers, self._engine.readers, self._cleaning
        if writers is None or readers is None:
            return StoreStatistics()
        return StoreStatistics(
            transactions=writers.answered,
            failures=writers.failures + readers.failures,
            commits=writers.commits,
            retries=writers.retries,
            reads=readers.answered,
            waiting=writers.waiting + readers.waiting,
            purged=cleaning.removed,
            purge_failures=cleaning.failures,
        )

    async def aclose(self) -> None:
        """Take in nothing more, finish what is queued, close. Idempotent."""
        await self._engine.aclose()
