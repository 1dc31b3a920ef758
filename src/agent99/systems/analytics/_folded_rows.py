"""Writes what was folded, with the position, in one transaction; reads what folding needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.errors import PayloadTooLargeError
from agent99.systems.analytics._closed_rows import ADD_DELTA
from agent99.systems.analytics._columns import only_rows, shard_key
from agent99.systems.analytics._delta import Counts, Key, Panes, key_of, key_text
from agent99.systems.analytics._fold import pack_panes
from agent99.systems.analytics._horizons import share_horizons
from agent99.systems.analytics._wall import common_us
from agent99.systems.analytics._windows import CountOf
from agent99.systems.analytics._work import Known, LateRecords, Mark, Taken, Work

if TYPE_CHECKING:
    from agent99.groups import Batch
    from agent99.store import Transaction
    from agent99.systems.analytics._pipeline import Job

_READ_MARKS: Final = (
    "SELECT source, shard, max_us, is_final FROM analytics_mark WHERE reader = :reader"
)
_READ_ORDINALS: Final = (
    "SELECT pipeline, key, records FROM analytics_ordinal WHERE reader = :reader AND part = :part"
)
_READ_HORIZONS: Final = (
    "SELECT pipeline, horizon_us FROM analytics_closer WHERE reader = :reader ORDER BY pipeline"
)
_SET_MARK: Final = (
    "INSERT INTO analytics_mark (reader, source, shard, max_us, seen_us, is_final)"
    " VALUES (:reader, :source, :shard, :max_us, :seen_us, :is_final)"
    " ON CONFLICT (reader, source, shard) DO UPDATE SET max_us = excluded.max_us,"
    " seen_us = excluded.seen_us, is_final = excluded.is_final"
)
_ADD_COUNT: Final = (
    "INSERT INTO analytics_count"
    " (reader, pipeline, part, records, on_time, late, dropped, skipped, refused, refused_records,"
    " repeated)"
    " VALUES (:reader, :pipeline, :part, :records, :on_time, :late, :dropped, :skipped, :refused,"
    " :refused_records, :repeated)"
    " ON CONFLICT (reader, pipeline, part) DO UPDATE SET"
    " records = analytics_count.records + excluded.records,"
    " on_time = analytics_count.on_time + excluded.on_time,"
    " late = analytics_count.late + excluded.late,"
    " dropped = analytics_count.dropped + excluded.dropped,"
    " skipped = analytics_count.skipped + excluded.skipped,"
    " refused = analytics_count.refused + excluded.refused,"
    " refused_records = analytics_count.refused_records + excluded.refused_records,"
    " repeated = analytics_count.repeated + excluded.repeated"
)
_SET_ORDINAL: Final = (
    "INSERT INTO analytics_ordinal (reader, pipeline, part, key, records)"
    " VALUES (:reader, :pipeline, :part, :key, :records)"
    " ON CONFLICT (reader, pipeline, part, key) DO UPDATE SET records = excluded.records"
)


class StaleError(Exception):
    """What the work was based on is not so any more: it has to be done anew. Private to the room.

    Args:
        done: The sequences of what has its effect already.
        repeated: Of what came before, in another event, and had its effect then.
    """

    def __init__(self, done: Collection[int] = (), repeated: Collection[int] = ()) -> None:
        super().__init__(f"{len(done) + len(repeated)} events have their effects already")
        self.done = frozenset(done)
        self.repeated = frozenset(repeated)


class Folded(msgspec.Struct, frozen=True):
    """What one transaction writes."""

    work: Work
    taken: Sequence[Taken]
    """What the work is of."""
    handled: Collection[int]
    """The sequences of what the work is of, of what was refused, and of repetitions."""
    refused: Mapping[str, int]
    """By pipeline: the events of which something was refused."""
    refused_records: Mapping[str, int]
    """By pipeline: the records that were refused, as far as they could be read."""
    repeated: Mapping[str, int]
    """By pipeline: the events that had come before."""
    deltas: Sequence[tuple[str, int, bytes]]
    """Pipeline, chunk and states of what the work adds to windows."""
    ordinals: Mapping[str, Mapping[Key, int]]
    seen_us: int
    """By the wall clock of this machine."""


def pack_deltas(
    job: Job, work: Work, chunks: Mapping[str, Callable[[int], int]]
) -> list[tuple[str, int, bytes]]:
    """Return what work adds to windows, as it is stored: pipeline, chunk, states.

    Args:
        chunks: By pipeline: what says in which chunk a pane is stored.
    """
    deltas: list[tuple[str, int, bytes]] = []
    for name, panes in work.panes.items():
        by_chunk: dict[int, Panes] = {}
        for pane, cells in panes.items():
            by_chunk.setdefault(chunks[name](pane), {})[pane] = cells
        pipeline = job.pipelines[name]
        deltas += [
            (name, chunk, pack_panes(pipeline, some)) for chunk, some in sorted(by_chunk.items())
        ]
    return deltas


def load_known(transaction: Transaction, job: Job, reader: str, part: int) -> Known:
    """Return what the records of a partition are folded by."""
    marks = {
        (row.source, row.shard): Mark(row.max_us, bool(row.is_final))
        for row in transaction.execute(_READ_MARKS, {"reader": reader})
    }
    ordinals: dict[str, dict[Key, int]] = {
        one.name: {} for one in job.pipelines.values() if isinstance(one.window, CountOf)
    }
    if ordinals:
        values = {"reader": reader, "part": part}
        for pipeline, key, records in transaction.tuples(_READ_ORDINALS, values):
            ordinals[pipeline][key_of(key)] = records
    return Known(marks, read_horizons(transaction, reader), ordinals)


def read_horizons(transaction: Transaction, reader: str) -> dict[str, int | None]:
    """Return by pipeline before which time nothing is taken any more."""
    return dict(transaction.tuples(_READ_HORIZONS, {"reader": reader}))


def write(
    transaction: Transaction, job: Job, batch: Batch, folded: Folded
) -> dict[str, int | None] | None:
    """Write everything, and move the position on.

    Returns:
        The horizons, as `read_horizons`. None: all of it was written already, by a transaction
        whose end nobody here has heard of; what was folded upon is older than that.

    Raises:
        StaleError: some of it has its effect already, or a horizon has moved over records that
            were taken.
        LeaseLostError: another member owns the partition.
        as `Transaction.execute`.
    """
    fresh = {record.sequence for record in batch.fresh(transaction)}
    if not fresh:
        return None
    if done := set(folded.handled) - fresh:
        raise StaleError(done)
    if repeated := [
        one.sequence
        for one in folded.taken
        if not transaction.first_time(one.known_as, reader=batch.reader)
    ]:
        raise StaleError(repeated=repeated)
    horizons = _checked_horizons(transaction, batch.reader, folded.work.lowest)
    at = {"reader": batch.reader, "part": batch.partition}
    _write_deltas(transaction, at | {"sequence": batch.position}, folded)
    _write_ordinals(transaction, at, folded)
    _write_counts(transaction, at, folded)
    _write_late(transaction, job, folded.work)
    seen_us = common_us(transaction, folded.seen_us)
    marks: list[dict[str, Any]] = [
        {
            "reader": batch.reader,
            "source": source,
            "shard": shard,
            "max_us": mark.max_us,
            "seen_us": seen_us,
            "is_final": int(mark.is_final),
        }
        for (source, shard), mark in sorted(folded.work.marks.items())
    ]
    if marks:
        transaction.execute(_SET_MARK, marks)
    return horizons


def _checked_horizons(
    transaction: Transaction, reader: str, lowest: Mapping[str, int]
) -> dict[str, int | None]:
    """Hold the horizons where they are until the transaction ends, and check what was taken."""
    share_horizons(transaction, reader, lowest)
    horizons = read_horizons(transaction, reader)
    for pipeline, horizon_us in horizons.items():
        if horizon_us is not None and lowest.get(pipeline, horizon_us) < horizon_us:
            raise StaleError
    return horizons


def _write_deltas(transaction: Transaction, at: Mapping[str, Any], folded: Folded) -> None:
    deltas: list[dict[str, Any]] = [
        {**at, "pipeline": name, "chunk": chunk, "states": states}
        for name, chunk, states in folded.deltas
    ]
    if deltas:
        transaction.execute(ADD_DELTA, deltas)


def _write_ordinals(transaction: Transaction, at: Mapping[str, Any], folded: Folded) -> None:
    ordinals: list[dict[str, Any]] = [
        {**at, "pipeline": name, "key": key_text(key), "records": known[key]}
        for name, known in folded.ordinals.items()
        for key in dict.fromkeys(folded.work.keys_of(name))
    ]
    if ordinals:
        transaction.execute(_SET_ORDINAL, ordinals)


def _write_counts(transaction: Transaction, at: Mapping[str, Any], folded: Folded) -> None:
    counts = folded.work.counts
    rows: list[dict[str, Any]] = [
        {
            **at,
            "pipeline": name,
            **msgspec.structs.asdict(counts.get(name, Counts())),
            "refused": folded.refused.get(name, 0),
            "refused_records": folded.refused_records.get(name, 0),
            "repeated": folded.repeated.get(name, 0),
        }
        for name in sorted(counts.keys() | folded.refused.keys() | folded.repeated.keys())
    ]
    if rows:
        transaction.execute(_ADD_COUNT, rows)


def _write_late(transaction: Transaction, job: Job, work: Work) -> None:
    for name, taken, dropped in work.late:
        _put_late(transaction, job, name, taken, dropped)


def _put_late(
    transaction: Transaction, job: Job, pipeline: str, taken: Taken, rows: list[int]
) -> None:
    """Put records into the side stream, in as many events as they need.

    One whose batch was as large as an event may be has no room beside what is told of it here.
    """
    batch = taken.batch
    event = LateRecords(
        job=job.name,
        version=job.version,
        pipeline=pipeline,
        source=batch.source,
        shard=batch.shard,
        rows=len(rows),
        columns=only_rows(batch.columns, rows),
        sequence=taken.sequence,
    )
    topic = f"late.{job.name}.{pipeline}"
    key = shard_key(job.pipelines[pipeline].source, batch.shard)
    try:
        transaction.append(topic, event, key=key)
    except PayloadTooLargeError:
        if len(rows) == 1:
            transaction.append(topic, msgspec.structs.replace(event, columns={}), key=key)
            return
        middle = len(rows) // 2
        for some in (rows[:middle], rows[middle:]):
            _put_late(transaction, job, pipeline, taken, some)
