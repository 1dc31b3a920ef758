"""The bounds of a store."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent99.envelope import ENVELOPE_BYTES
from agent99.errors import UsageError

_WHOLE_NUMBERS = (
    "waiting_max",
    "batch_max",
    "writers_max",
    "readers_max",
    "attempts_max",
    "rows_max",
    "purge_rows_max",
    "outbox_rows_max",
    "event_bytes_max",
)
_DURATIONS = (
    "lock_s_max",
    "statement_s_max",
    "retention_s",
    "purge_every_s",
    "outbox_lease_s",
    "outbox_kept_s",
)


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Every bound of a store; the defaults suit an agent on a small machine.

    Raises:
        UsageError: a number below 1, a duration that is not above 0.
    """

    waiting_max: int = 4096
    """Transactions that may wait or run at once, and as many reads; more are refused."""
    batch_max: int = 256
    """Transactions that share one commit on SQLite; 1 commits each alone."""
    writers_max: int = 8
    """Connections for transactions on PostgreSQL; SQLite always has one writer."""
    readers_max: int = 2
    """Connections for reads."""
    attempts_max: int = 8
    """Times a transaction runs, in all, while others keep changing the same rows (PostgreSQL)."""
    lock_s_max: float = 5.0
    """Seconds a transaction waits for a lock that another holds."""
    statement_s_max: float = 30.0
    """Seconds one statement may take (PostgreSQL)."""
    rows_max: int = 100_000
    """Rows that one statement may return."""
    isolation: Literal["read committed", "serializable"] = "read committed"
    """Of transactions on PostgreSQL; on SQLite they are always serial."""
    retention_s: float = 7 * 24 * 3600.0
    """Seconds that the answer under an idempotency key, or a seen message, is kept at the least."""
    purge_every_s: float = 60.0
    """Seconds between two clean-ups of these; sooner while one finds plenty."""
    purge_rows_max: int = 500
    """Answers, and messages, that one clean-up removes."""
    outbox_rows_max: int = 100_000
    """Rows that may wait in the outbox; beyond it a transaction that appends is refused."""
    event_bytes_max: int = 1024 * 1024 - ENVELOPE_BYTES
    """Bytes of one appended event as JSON; the default is what a server takes by default."""
    outbox_lease_s: float = 5.0
    """Seconds without a sign of the outbox's owner after which another may take it."""
    outbox_kept_s: float = 600.0
    """Seconds that a row is kept after it was stored in a stream; at least twice the time after
    which the stream's server has it on disk."""

    def __post_init__(self) -> None:
        for name in _WHOLE_NUMBERS:
            if getattr(self, name) < 1:
                message = f"StoreOptions.{name} is {getattr(self, name)}; it must be at least 1"
                raise UsageError(message)
        for name in _DURATIONS:
            if not getattr(self, name) > 0:
                message = f"StoreOptions.{name} is {getattr(self, name)}; it must be above 0"
                raise UsageError(message)


class StoreStatistics(msgspec.Struct, frozen=True):
    """Counts since the store was opened."""

    transactions: int = 0
    """Answered, with a result or an error; the store's own (migrations, clean-ups) count too."""
    failures: int = 0
    """Transactions and reads answered with an error."""
    commits: int = 0
    """Commits made; on SQLite far fewer than transactions when many share one."""
    retries: int = 0
    """Times a transaction was run again because others changed the same rows."""
    reads: int = 0
    """Reads answered, with a result or an error."""
    waiting: int = 0
    """Transactions and reads that wait or run now."""
    purged: int = 0
    """Idempotency answers and seen messages removed because they were out of date."""
    purge_failures: int = 0
    """Clean-ups that failed; the next one is due after `purge_every_s`."""
