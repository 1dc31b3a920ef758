"""Removes what is out of date: old answers, and messages seen long ago."""

from __future__ import annotations

import asyncio
from functools import partial

from agent99.errors import StoreOverloadedError
from agent99.store._engine import Engine
from agent99.store._idempotency import purge_answers
from agent99.store._transaction import Transaction

_PURGE_SEEN = (
    "DELETE FROM agent99_inbox WHERE schema_name = :schema AND (reader, message_id) IN ("
    "SELECT reader, message_id FROM agent99_inbox"
    " WHERE schema_name = :schema AND seen_us < :before_us ORDER BY seen_us LIMIT :rows_max{})"
)


class Cleaning:
    """Cleans up behind the callers' backs, a few rows at a time.

    Invariant: one clean-up at a time is under way.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._is_running = False
        self._next_s = 0.0
        self.removed = 0
        """Rows removed so far."""
        self.failures = 0
        """Clean-ups that failed."""

    def __repr__(self) -> str:
        return f"Cleaning(removed={self.removed}, failures={self.failures})"

    def look(self) -> None:
        """Start one, if rows were left since the last one and it is due."""
        scope = self._engine.scope
        if scope.leaves_rows and not self._is_running and scope.clock.monotonic_s() >= self._next_s:
            scope.leaves_rows = False
            self.start()

    def start(self) -> None:
        """Start one now."""
        engine, scope = self._engine, self._engine.scope
        if engine.writers is None or engine.writers.is_closed:
            return
        self._next_s = scope.clock.monotonic_s() + scope.options.purge_every_s
        before_us = scope.clock.wall_us() - int(scope.options.retention_s * 1_000_000)
        try:
            future = engine.transaction(partial(_purge, before_us=before_us))
        except StoreOverloadedError:
            self.failures += 1
            return
        self._is_running = True
        future.add_done_callback(self._ended)

    def _ended(self, future: asyncio.Future[tuple[int, int]]) -> None:
        self._is_running = False
        if future.cancelled() or future.exception() is not None:
            self.failures += 1
            return
        self.removed += sum(future.result())
        if max(future.result()) >= self._engine.scope.options.purge_rows_max:
            self._next_s = 0.0  # there may be more: the next call goes on
            self._engine.scope.leaves_rows = True


def _purge(transaction: Transaction, before_us: int) -> tuple[int, int]:
    scope = transaction.scope
    rows_max = scope.options.purge_rows_max
    answers = purge_answers(transaction, before_us, rows_max)
    tail = " FOR UPDATE SKIP LOCKED" if transaction.dialect == "postgresql" else ""
    values = {"schema": scope.schema, "before_us": before_us, "rows_max": rows_max}
    seen = transaction.execute(_PURGE_SEEN.format(tail), values).changed
    return answers, seen
