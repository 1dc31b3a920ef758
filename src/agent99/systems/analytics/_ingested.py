"""What an ingestion agent is set up with, and what it answers."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from agent99.errors import BadRequestError, Failure, UsageError
from agent99.systems.analytics._buffer import BufferBounds
from agent99.systems.analytics._enriched import Tally

INVALID_ACTION: Final = "INVALID_ACTION"
INGESTION_FULL: Final = "INGESTION_FULL"
"""More waits to be stored than the bounds allow; nothing of this was stored."""
NOT_ENRICHED: Final = "NOT_ENRICHED"
"""What records are to have could not be looked up; nothing of this was stored."""
DROPPED: Final = "DROPPED"
"""It waited, and made room for what came later; it was not stored."""
NOT_YET: Final = "DEADLINE_EXCEEDED"
"""Whether all of it is stored is unknown: what a caller knows as `DeadlineExceededError`."""
ACTIONS: Final = ("ingest", "finish", "flush", "stats")

Overflow = Literal["block", "refuse", "drop_oldest", "spill"]
"""What happens to records that come when the buffer is full:

- `block`: the caller waits for room, until its deadline;
- `refuse`: the caller is told at once;
- `drop_oldest`: they are taken; who sent the oldest that wait is told that those are not stored;
- `spill`: they are stored in a file, and from there, in their order, in the log.
"""


class IngestionOptions(BufferBounds, frozen=True, kw_only=True):
    """When records are stored, and how much may wait for it.

    Raises:
        UsageError: a bound is below 1, a time below 0, or there is no file for what spills.
    """

    linger_s: float = 30.0
    """So long a record waits for others at most; less, where its caller cannot wait so long, and no
    longer than half the `delay_s` of its source: of a source that falls silent the time goes on by
    the wall clock, and a record that was held back for longer would come too late."""
    array_records_max: int = 10_000
    """Records in one array."""
    overflow: Overflow = "block"
    spill_url: str = ""
    """The database for what spills: `sqlite:///path`; of this instance alone."""
    spill_bytes_max: int = 1024**3
    """What may lie there; beyond it callers are told that it is full."""

    def __post_init__(self) -> None:
        for name in ("array_records_max", "spill_bytes_max"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; at least 1")
        if not self.linger_s >= 0:
            raise UsageError(f"linger_s is {self.linger_s}; 0 or more")
        if self.overflow not in get_args(Overflow):
            raise UsageError(
                f"overflow is {self.overflow!r}; one of {', '.join(get_args(Overflow))}"
            )
        if (self.overflow == "spill") != bool(self.spill_url):
            raise UsageError("a spill_url goes with overflow='spill', and the other way round")
        BufferBounds.__post_init__(self)


class Ingested(msgspec.Struct, frozen=True):
    """The records are stored."""

    ingested: bool
    data_id: str
    """Names them: the batch id, where one was given."""
    buffer_size: int
    """Records of all callers that wait to be stored."""
    records: int = 1
    """So many."""


class Finished(msgspec.Struct, frozen=True):
    """It is stored that no more comes: windows need not wait for it."""

    finished: bool
    shards: tuple[int, ...]


class Flushed(msgspec.Struct, frozen=True):
    """All that waited when it was asked is stored, or its callers know that it is not."""

    flushed: bool
    records: int
    """That waited."""


class IngestionStats(msgspec.Struct, frozen=True, kw_only=True):
    """An ingestion agent, as it is now, and what it did since it started."""

    buffer_size: int
    """Records that wait to be stored."""
    batch_size: int
    flush_interval: float
    """Seconds."""
    buffer_bytes: int
    """What waits to be stored, bytes as they came."""
    blocked: int
    """Requests that wait for room."""
    records: int
    """Stored and acknowledged, those that spilled included."""
    batches: int
    """Events that these are in the log; those that spilled, once they are there."""
    repeated: int
    """Batches that were there already, under the same id."""
    refused: dict[str, int]
    """Requests that were not taken, by the code of the refusal."""
    dropped: int
    """Records that made room for later ones; their callers know."""
    abandoned: int
    """Records that nobody waited for any more, and that were not stored."""
    retries: int
    """Attempts to store a batch after one that failed."""
    spilled: int
    """Records that were stored in the file first."""
    spilled_waiting: int
    """Of these, batches that are there still."""
    lookups: int = 0
    """Look-ups for records that lacked what they were to have."""
    enriched: int = 0
    """Values that records got so, one for each column of each record that is acknowledged."""
    missed: int = 0
    """Values that there were none of, for the key of the record."""
    misfit: int = 0
    """Values of another type than the column's, or too long; the column has its default."""
    left: int = 0
    """Values that could not be looked up, where that leaves the default."""


class Counts:
    """What an ingestion agent did; see `IngestionStats`."""

    def __init__(self) -> None:
        self.records = 0
        self.batches = 0
        self.repeated = 0
        self.refused: dict[str, int] = {}
        self.dropped = 0
        self.abandoned = 0
        self.retries = 0
        self.spilled = 0
        self.lookups = 0
        self.tally = Tally()

    def __repr__(self) -> str:
        return f"Counts(records={self.records}, batches={self.batches}, refused={self.refused})"

    def refuse(self, code: str) -> None:
        """Count a request that is not taken."""
        self.refused[code] = self.refused.get(code, 0) + 1


def is_full(what: str) -> Failure:
    """Return what a caller is told whose records have no room."""
    return Failure(f"{what}; nothing of it was stored", code=INGESTION_FULL, retryable=True)


def is_not_enriched(what: str) -> Failure:
    """Return what a caller is told for whose records nothing could be looked up."""
    return Failure(f"{what}; nothing of it was stored", code=NOT_ENRICHED, retryable=True)


def is_unknown() -> Failure:
    """Return what a caller is told that cannot wait longer."""
    rule = "not stored in time; whether it will be is unknown: repeat it with the same batch id"
    return Failure(rule, code=NOT_YET, retryable=True)


def is_partly_stored() -> Failure:
    """Return what a caller is told whose records are stored in some shards, and not in others."""
    rule = "a part of it is stored, and a part is not: repeat it with the same batch id"
    return Failure(rule, code=NOT_YET, retryable=True)


def is_bad(error: BadRequestError) -> Failure:
    """Return what a caller is told whose records are not taken; for it a `BadRequestError`."""
    return Failure(error.message, code=error.code, details=error.details)
