"""The threads of a store, and the way to them: new, open, closed."""

from __future__ import annotations

import asyncio
from typing import Any

from agent99.errors import Agent99Error, ClosedError, UsageError
from agent99.store._arrivals import Arrivals
from agent99.store._link import Database
from agent99.store._runner import TransactionRunner
from agent99.store._scope import Scope
from agent99.store._workers import Desk, Work


class Engine:
    """Runs functions in transactions and reads.

    Invariant: it is new, open or closed, and goes through these in this order; only an open one has
    threads.
    """

    def __init__(self, database: Database, scope: Scope) -> None:
        self.database = database
        self.scope = scope
        self.arrivals = Arrivals(scope.clock)
        self.state = "new"
        self.writers: Desk | None = None
        self.readers: Desk | None = None

    def __repr__(self) -> str:
        return f"Engine({self.database.name!r}, {self.state})"

    def start(self) -> None:
        """Start the threads.

        Raises:
            UsageError: it was started before.
        """
        if self.state != "new":
            message = f"the store is {self.state}; a store is opened once"
            raise UsageError(message)
        self.state = "open"
        options, is_sqlite = self.scope.options, self.database.dialect == "sqlite"
        self.writers = self._desk(
            "transactions",
            1 if is_sqlite else options.writers_max,
            batch_max=options.batch_max if is_sqlite else 1,
        )
        self.readers = self._desk("reads", options.readers_max, batch_max=1, read_only=True)

    def transaction(self, work: Work) -> asyncio.Future[Any]:
        """Queue a function that may write; returns the future of its result.

        Raises:
            StoreOverloadedError, ClosedError
            UsageError: not open.
        """
        if self.writers is None:
            raise self._not_open()
        return self.writers.submit(work)

    def read(self, work: Work) -> asyncio.Future[Any]:
        """Queue a function that reads; as `transaction`."""
        if self.readers is None:
            raise self._not_open()
        return self.readers.submit(work)

    def stop(self) -> None:
        """End the threads when they have run what is queued; does not wait. Idempotent."""
        for desk in (self.writers, self.readers):
            if desk is not None:
                desk.stop()

    async def aclose(self) -> None:
        """Take in nothing more, finish what is queued, close. Idempotent."""
        writers, readers = self.writers, self.readers
        if writers is None or readers is None or self.state == "closed":
            self.state = "closed"
            return
        try:
            await asyncio.gather(writers.aclose(), readers.aclose())
        finally:
            self.state = "closed"
            self.database.close()

    def _desk(self, what: str, threads: int, *, batch_max: int, read_only: bool = False) -> Desk:
        desk = Desk(what, self.scope, self.arrivals.ring)
        desk.start(
            [
                TransactionRunner(self.database, self.scope, read_only=read_only)
                for _ in range(threads)
            ],
            batch_max=batch_max,
        )
        return desk

    def _not_open(self) -> Agent99Error:
        if self.state == "closed":
            return ClosedError("store")
        return UsageError("the store is not open: use `async with open_store(...)`, or `open()`")
