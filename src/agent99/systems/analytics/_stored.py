"""A stored batch, read of the log: what stands there may be anybody's, and is checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agent99.groups import event_of
from agent99.systems.analytics._columns import ColumnBatch, decode_batch, refusal, shard_key
from agent99.systems.analytics._repeats import known_as
from agent99.systems.analytics._work import Taken

if TYPE_CHECKING:
    from agent99.groups import Event
    from agent99.journal import Record
    from agent99.systems.analytics._source import Source

CLOCKS_US_MAX: Final = 60_000_000
"""So far the clock by which a record was let in and that of the log may be apart."""


def read_stored(record: Record, sources: Mapping[str, Source[Any]]) -> Taken:
    """Return the batch that a record of the log holds.

    Args:
        record: Of a topic of the job's sources.
        sources: By their topics.

    Raises:
        BadRequestError: it is no batch of one of them, or of a shard that there is not; it is under
            the key of another one; or it has a record too far beyond the moment at which it was
            stored, which is the same in every run. Says which.
    """
    event = event_of(record)
    source = sources.get(event.type)
    if source is None:
        raise refusal("$", f"no source of the job has the topic {event.type}")
    batch = decode_batch(source, bytes(event.data))
    _check_shard(source, event, batch)
    latest_us = max(batch.columns[source.time], default=0)
    if latest_us > record.stored_us + source.ahead_us_max + CLOCKS_US_MAX:
        row, ahead_s = batch.columns[source.time].index(latest_us), source.ahead_s_max
        rule = f"over {ahead_s:,.0f} s beyond the moment at which it was stored"
        raise refusal(f"$[{row}].{source.time}", rule)
    named = batch.known_as or known_as(event.id, batch.columns)
    return Taken(record.sequence, named, batch, latest_us)


def _check_shard(source: Source[Any], event: Event, batch: ColumnBatch) -> None:
    if batch.shard >= source.shards:
        rule = f"{source} has no shard {batch.shard}; 0 to {source.shards - 1}"
        raise refusal("$.shard", rule)
    if event.subject != (key := shard_key(source, batch.shard)):
        # Two partitions would say how far the shard is, and each what the other does not know.
        raise refusal("$.shard", f"stored under the key {event.subject!r}, not {key!r}")
