"""A pipeline over records at hand, in virtual time: as it runs on the mesh, without one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from agent99.errors import UsageError
from agent99.systems.analytics._board import Board, row_order
from agent99.systems.analytics._board_cells import Span
from agent99.systems.analytics._columns import Columns, check_columns, columns_of, split_by_shard
from agent99.systems.analytics._delta import Counts, Key, WindowRow
from agent99.systems.analytics._fold import fold
from agent99.systems.analytics._pipeline import Pipeline
from agent99.systems.analytics._watermark import Watermark
from agent99.systems.analytics._windows import SECOND_US


class Run:
    """One pipeline, fed by hand; its wall clock stands still until it is told to go on.

        run = Run(revenue)
        run.feed([Line(...), Line(...)])
        run.pass_time(6)  # the source is idle: windows close as the wall clock passes them
        run.finish()
        assert run.counts.is_closed

    Invariant: every record that was fed is in exactly one count; those that were dropped are in
    `late`, the others (but those that `where` left out) in windows.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline: Final = pipeline
        self.counts: Final = Counts()
        """What became of the records."""
        self.rows: Final[list[WindowRow]] = []
        """What closed, was corrected and was taken back so far, in this order."""
        self.late: Final[list[dict[str, Any]]] = []
        """The side stream: the records that came too late, by field; a datetime as microseconds
        since the epoch."""
        self._board: Final = Board(pipeline)
        self._watermark: Final = Watermark(pipeline.source)
        self._max_us: Final[dict[int, int]] = {}
        self._ordinals: Final[dict[Key, int]] = {}
        self._ended: Final[set[int]] = set()
        self._now_us = 0
        self._latest: Final[dict[tuple[Key, Span], WindowRow]] = {}

    def __repr__(self) -> str:
        return f"Run({self.pipeline.name!r}, {self.counts!r})"

    @property
    def watermark_us(self) -> int | None:
        """Up to where windows have closed, microseconds since the epoch; None: nowhere."""
        return self._board.watermark_us

    @property
    def result(self) -> list[WindowRow]:
        """The closed windows, by their ends, then their keys: of each its latest row."""
        kept = [row for row in self._latest.values() if not row.is_retracted]
        return sorted(kept, key=row_order)

    def open_rows(self) -> list[WindowRow]:
        """Return what the windows say that have not closed yet; by their ends, then their keys."""
        return self._board.open_rows()

    def feed(
        self,
        records: Sequence[msgspec.Struct] | Columns,
        *,
        shard: int | None = None,
    ) -> list[WindowRow]:
        """Add records, in the order in which they are stored; return the rows that they brought.

        Args:
            records: Of the source's type; or its columns, with datetimes as microseconds.
            shard: In which shard they are. None: where the source's `shard_by` says.

        Raises:
            BadRequestError: a record that the source refuses, or a function of the pipeline that
                fails with it; nothing was added.
            UsageError: there is no such shard, or it has ended.
        """
        columns = self._columns(records)
        parts = (
            split_by_shard(self.pipeline.source, columns) if shard is None else [(shard, columns)]
        )
        self._check_shards(one for one, _ in parts)
        horizon_us, times = self._board.horizon_us, self.pipeline.source.time
        ordinals = dict(self._ordinals)  # a later part may be refused
        folded = [
            (
                fold(
                    self.pipeline,
                    mine,
                    len(mine[times]),
                    max_us=self._max_us.get(one),
                    horizon_us=horizon_us,
                    ordinals=ordinals,
                ),
                mine,
            )
            for one, mine in parts
        ]
        self._ordinals.update(ordinals)
        for delta, mine in folded:
            self._board.merge(delta.panes)
            self._count(delta.counts)
            self.late.extend({name: mine[name][row] for name in mine} for row in delta.dropped)
        for one, mine in parts:
            if mine[times]:
                self._max_us[one] = max(*mine[times], self._max_us.get(one, mine[times][0]))
                self._watermark.note(one, self._max_us[one], self._now_us)
        return self._close()

    def _columns(self, records: Sequence[msgspec.Struct] | Columns) -> Columns:
        if not isinstance(records, dict):
            return columns_of(self.pipeline.source, records)
        check_columns(self.pipeline.source, records)
        return records

    def _check_shards(self, shards: Iterable[int]) -> None:
        for shard in shards:
            if type(shard) is not int or not 0 <= shard < self.pipeline.source.shards:
                raise UsageError(f"{self.pipeline.source} has no shard {shard!r}")
            if shard in self._ended:
                raise UsageError(f"shard {shard} of {self.pipeline.source} has ended")

    def _count(self, counts: Counts) -> None:
        mine = self.counts
        mine.records += counts.records
        mine.on_time += counts.on_time
        mine.late += counts.late
        mine.dropped += counts.dropped
        mine.skipped += counts.skipped

    def pass_time(self, seconds: float) -> list[WindowRow]:
        """Let the wall clock go on, with no record; return the rows that this brought.

        Raises:
            UsageError: `seconds` is below 0, or no number.
        """
        if not seconds >= 0:
            raise UsageError(f"the wall clock goes on by 0 seconds or more, not by {seconds}")
        self._now_us += round(seconds * SECOND_US)
        return self._close()

    def finish(self, shard: int | None = None) -> list[WindowRow]:
        """End a shard, or all: no record follows; return the rows that this brought.

        Once all have ended, every window closes, but those by count that are not full.

        Raises:
            UsageError: there is no such shard, or it has ended before.
        """
        running = [one for one in range(self.pipeline.source.shards) if one not in self._ended]
        shards = running if shard is None else [shard]
        self._check_shards(shards)
        for one in shards:
            self._ended.add(one)
            self._watermark.note(one, self._max_us.get(one), self._now_us, is_final=True)
        return self._close()

    def _close(self) -> list[WindowRow]:
        rows = self._board.close(self._watermark.at(self._now_us))
        self._board.done_chunks()  # nothing is stored that could be deleted
        self.rows.extend(rows)
        for row in rows:
            self._latest[row.key, Span(row.start_us, row.end_us, row.number)] = row
        return rows


def run(pipeline: Pipeline, records: Iterable[msgspec.Struct]) -> Run:
    """Run a pipeline over records, to their end.

    Raises:
        BadRequestError: a record that the source refuses, or a function of the pipeline that fails
            with it.
    """
    done = Run(pipeline)
    done.feed(list(records))
    done.finish()
    return done
