"""What the stored batches of one partition add up to, before it is written. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from agent99.systems.analytics._delta import Counts, Key, Panes
from agent99.systems.analytics._fold import fold, merge_panes

if TYPE_CHECKING:
    from agent99.systems.analytics._columns import ColumnBatch
    from agent99.systems.analytics._pipeline import Pipeline

ShardKey = tuple[str, int]
"""A source's name, and the number of one of its shards."""


class Mark(msgspec.Struct, frozen=True):
    """How far the records of a shard have come."""

    max_us: int | None = None
    """The latest time so far."""
    is_final: bool = False
    """It has ended, and stays so, whatever is stored in it afterwards."""


class Known(msgspec.Struct):
    """What the records of a partition are folded by."""

    marks: dict[ShardKey, Mark]
    horizons: dict[str, int | None]
    """By pipeline: what is before it is not taken any more."""
    ordinals: dict[str, dict[Key, int]]
    """By pipeline, where windows are by count: how many records each key has had."""


class Taken(NamedTuple):
    """A stored batch that could be read."""

    sequence: int
    """Its place in the log."""
    known_as: str
    """By its id and its records: that which comes again has the same."""
    batch: ColumnBatch
    latest_us: int
    """Of its records' times; 0 of a batch without records."""


class LateRecords(msgspec.Struct, frozen=True, kw_only=True):
    """Records that came too late for a pipeline: its side stream."""

    job: str
    version: int
    pipeline: str
    source: str
    shard: int
    rows: int
    columns: dict[str, list[Any]]
    """The fields of the source, times as microseconds. Empty: it is one record, too large to be
    told with all this beside it; the stored batch has it."""
    sequence: int = 0
    """The place in the log of the stored batch that they are of."""


class Work:
    """Adds up batches, in the order of the log.

    Invariant: a batch is in all pipelines of its source, or in none.

    Args:
        by_source: The pipelines by the names of their sources.
        known: What is known of the partition; the ordinals are counted on in place.
    """

    def __init__(self, by_source: Mapping[str, Sequence[Pipeline]], known: Known) -> None:
        self._by_source = by_source
        self._known = known
        self.panes: Final[dict[str, Panes]] = {}
        self.counts: Final[dict[str, Counts]] = {}
        self.marks: Final[dict[ShardKey, Mark]] = {}
        """Of the shards that came, as they are after it."""
        self.lowest: Final[dict[str, int]] = {}
        """By pipeline: the earliest record that was taken, where a horizon matters."""
        self.late: Final[list[tuple[str, Taken, list[int]]]] = []
        """By pipeline and batch: which records came too late."""

    def __repr__(self) -> str:
        return f"Work({self.counts!r})"

    def add(self, taken: Taken) -> None:
        """Fold a batch into every pipeline of its source.

        Raises:
            BadRequestError, UsageError: a function of a pipeline cannot take its records. Nothing
                of it was added, but ordinals may have been counted on: load them anew.
        """
        batch = taken.batch
        at = (batch.source, batch.shard)
        mark = self.marks.get(at) or self._known.marks.get(at) or Mark()
        pipelines = self._by_source.get(batch.source, ())
        if batch.rows and pipelines:
            self._fold(taken, mark, pipelines)
            latest_us = taken.latest_us
            latest_us = latest_us if mark.max_us is None else max(latest_us, mark.max_us)
            mark = Mark(latest_us, mark.is_final)
        self.marks[at] = Mark(mark.max_us, mark.is_final or batch.is_final)

    def keys_of(self, pipeline: str) -> Iterator[Key]:
        """Yield the keys of what was added to a pipeline; one in several panes comes again."""
        for cells in self.panes.get(pipeline, {}).values():
            yield from cells

    def _fold(self, taken: Taken, mark: Mark, pipelines: Sequence[Pipeline]) -> None:
        known, batch = self._known, taken.batch
        folds = [
            fold(
                one,
                batch.columns,
                batch.rows,
                max_us=mark.max_us,
                horizon_us=known.horizons.get(one.name),
                ordinals=known.ordinals.get(one.name),
            )
            for one in pipelines
        ]
        for pipeline, (panes, counts, dropped, earliest_us) in zip(pipelines, folds, strict=True):
            name = pipeline.name
            if dropped:
                self.late.append((name, taken, dropped))
            if earliest_us is not None:
                self.lowest[name] = min(earliest_us, self.lowest.get(name, earliest_us))
            merge_panes(pipeline, self.panes.setdefault(name, {}), panes)
            _count(self.counts.setdefault(name, Counts()), counts)


def _count(into: Counts, other: Counts) -> None:
    into.records += other.records
    into.on_time += other.on_time
    into.late += other.late
    into.dropped += other.dropped
    into.skipped += other.skipped
