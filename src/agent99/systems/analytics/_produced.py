"""What a producer is set up with, what it counts, and what it says of records that failed."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from agent99.errors import Agent99Error, UsageError

CAPABILITY: Final = "data_ingestion"


class ProducerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How records are gathered, how many may wait, and for how long a batch is tried.

    Raises:
        UsageError: a bound is below 1, or a time not above 0.
    """

    batch_records_max: int = 1_000
    batch_bytes_max: int = 256 * 1024
    """As JSON."""
    linger_s: float = 0.05
    """So long a record waits for others at most; 0 or more."""
    buffer_records_max: int = 10_000
    """Records that are not stored yet; beyond them `send` waits."""
    in_flight_max: int = 1
    """Batches that are sent at once. With more than one they may be stored in another order."""
    timeout_s: float = 10.0
    """Of one attempt."""
    give_up_s: float = 60.0
    """So long a batch is tried before it has failed. The server recognises a repeated batch for two
    minutes, and the processors later too; so longer is safe as well."""
    shard: int | None = None
    """In which shard they are stored, of a source without a field that says so; None: any."""
    capability: str = CAPABILITY
    """Who takes them."""

    def __post_init__(self) -> None:
        for name in ("batch_records_max", "batch_bytes_max", "buffer_records_max", "in_flight_max"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; at least 1")
        for name in ("timeout_s", "give_up_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} is {getattr(self, name)}; above 0")
        if not self.linger_s >= 0:
            raise UsageError(f"linger_s is {self.linger_s}; 0 or more")


class ProducerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the records: `sent = stored + failed + waiting`."""

    sent: int
    """Taken by `send`."""
    stored: int
    """Acknowledged: they are in the log."""
    failed: int
    """Of batches that failed; whoever called next was told."""
    waiting: int
    """Not stored yet, those under way included."""
    batches: int
    """Stored."""
    retries: int
    """Attempts after one that failed."""


class BatchFailedError(Agent99Error):
    """Records that a producer had taken could not be stored; it goes on with the others."""

    code = "BATCH_FAILED"

    def __init__(
        self, batch_id: str, records: tuple[Any, ...], cause: Agent99Error, *, is_unknown: bool
    ) -> None:
        tail = "whether they are stored is unknown" if is_unknown else "none of them is stored"
        super().__init__(f"batch {batch_id} of {len(records):,} records failed: {cause}; {tail}")
        self.batch_id = batch_id
        """Under this id the same batch may be sent again: it is stored once."""
        self.records = records
        """In the order in which they were sent."""
        self.cause = cause
        """What came of the last attempt."""
        self.is_unknown = is_unknown
        """Whether they may be stored all the same."""
        self.others: tuple[BatchFailedError, ...] = ()
        """Batches that have failed as well since the last call."""
