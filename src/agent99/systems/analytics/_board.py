"""The windows of a pipeline: deltas go in, and rows come out as the watermark passes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from agent99.systems.analytics._board_cells import NEVER_US, Cells, Windows
from agent99.systems.analytics._board_counts import CountWindows
from agent99.systems.analytics._board_panes import PaneWindows
from agent99.systems.analytics._board_sessions import SessionWindows
from agent99.systems.analytics._board_sliding import SlidingWindows
from agent99.systems.analytics._delta import Key, Panes, Scalar, WindowRow
from agent99.systems.analytics._pipeline import Pipeline
from agent99.systems.analytics._windows import CountOf, Session, Sliding


class Board:
    """The windows of a pipeline that are open, or closed and still take late records.

    A window closes when it ends at or before the watermark (one by count: when it is full), with
    revision 1. Late records give it further revisions. A session that a late record has made longer
    or joined with another is another window, since it has another beginning or end: what was shown
    is taken back, by a row with the next revision and `is_retracted`. So (key, start, end, number)
    names a window for good, and its row with the highest revision holds.

    A window that ends at or before the horizon (the watermark less the pipeline's lateness) is
    forgotten: it changes no more. Records before the horizon are not to be merged.

    Merging costs as much as the delta has cells, closing as much as what closes or has changed.

    Invariant: neither watermark nor horizon goes back.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline: Final = pipeline
        self._cells: Final = Cells(pipeline)
        self._windows: Final = _windows_of(pipeline, self._cells)
        self.watermark_us: int | None = None
        """Up to where windows have been closed; None: nowhere."""
        self.unwanted_rows = 0
        """Records that were merged when all their windows had been forgotten, and are in none. 0,
        if those that fold know the horizon."""

    def __repr__(self) -> str:
        return f"Board({self._pipeline.name!r}, {self._windows!r}, watermark={self.watermark_us})"

    @property
    def horizon_us(self) -> int | None:
        """Records before it are too late for every window; None: none is."""
        if self.watermark_us is None:
            return None
        return self.watermark_us - self._pipeline.lateness_us

    def merge(self, panes: Panes) -> None:
        """Merge a delta. Its cells are the board's from now on: it changes them."""
        self.unwanted_rows += self._windows.add(panes)

    def merge_several(self, deltas: Sequence[Panes]) -> None:
        """Merge deltas at once, which costs less than one after the other; as `merge`."""
        self.merge(self._cells.join(deltas))

    def step(self, watermark_us: int, rows_max: int) -> int:
        """Return at which watermark to close first, so that not too many rows come at once.

        It is the end of a window, or the watermark itself. Not counted in `rows_max` are the last
        of the windows that have this end, and corrections.
        """
        rows = 0
        for end_us, count in self._windows.ends():
            rows += count
            if end_us >= watermark_us:
                break
            if rows >= rows_max:
                return end_us
        return watermark_us

    def close(self, watermark_us: int | None, *, horizon_us: int | None = None) -> list[WindowRow]:
        """Return what `closing` yields: by ends, then by keys; what is taken back first."""
        return sorted(self.closing(watermark_us, horizon_us=horizon_us), key=row_order)

    def closing(
        self, watermark_us: int | None, *, horizon_us: int | None = None
    ) -> Iterator[WindowRow]:
        """Yield the rows of the windows that are closed now, or have changed since they were.

        In no order, but what is taken back comes before what takes its place. Until all have been
        taken, nothing may be merged or closed.

        Args:
            watermark_us: One before the last one counts as the last one. None: there is none yet,
                so that only windows by count close.
            horizon_us: Up to where windows are forgotten, if that is before the watermark less the
                lateness: where others fold, it takes a while until they know of a horizon.
        """
        if watermark_us is None:
            watermark_us = self.watermark_us
        elif self.watermark_us is not None:
            watermark_us = max(watermark_us, self.watermark_us)
        self.watermark_us = watermark_us
        yield from self._windows.close(NEVER_US if watermark_us is None else watermark_us)
        if (own_us := self.horizon_us) is not None:
            self._windows.forget(own_us if horizon_us is None else min(horizon_us, own_us))

    def settle(
        self,
        watermark_us: int | None,
        shown: Iterable[WindowRow] = (),
        *,
        horizon_us: int | None = None,
    ) -> None:
        """Take over from another board: all that has been merged was shown at this watermark.

        Args:
            watermark_us: At which the other one closed windows last; None: there was none yet.
            shown: The latest rows of windows that end after the horizon; those of revision 1 may be
                left out, the others are needed for the revisions to go on.
            horizon_us: As of `close`.
        """
        for _ in self.closing(watermark_us, horizon_us=horizon_us):
            pass
        self.recall(shown)

    def recall(self, shown: Iterable[WindowRow]) -> None:
        """Take over the revisions of rows that have been shown; see `settle`."""
        for row in shown:
            if not row.is_retracted:
                self._windows.recall(row)

    def open_rows(
        self, key: Key | None = None, *, from_us: int | None = None, to_us: int | None = None
    ) -> list[WindowRow]:
        """Return what the windows say that have not closed yet; by their ends, then their keys.

        Args:
            key: Only of this one.
            from_us: Only windows that end after it, microseconds.
            to_us: Only windows that start before it, microseconds.
        """
        rows = [
            row
            for row in self._windows.open_rows(key)
            if (from_us is None or row.end_us > from_us) and (to_us is None or row.start_us < to_us)
        ]
        rows.sort(key=row_order)
        return rows

    def panes(self) -> Panes:
        """Return all that is needed still as one delta: it can take the place of those merged.

        Its cells are the board's own: pack them before the next merge.
        """
        return self._windows.panes()

    def chunk_of(self, pane: int) -> int:
        """Return the chunk in which a pane of a delta is stored: what is deleted at once."""
        return self._windows.chunk_of(pane)

    def done_chunks(self) -> list[int]:
        """Return the chunks of which nothing is needed that has been merged, each only once.

        What has not been merged yet is: of a chunk that is done, those parts can be deleted that
        have been merged, and others may come.
        """
        return self._windows.done_chunks()


def _windows_of(pipeline: Pipeline, cells: Cells) -> Windows:
    window = pipeline.window
    if isinstance(window, Sliding):
        return SlidingWindows(cells, window)
    if isinstance(window, Session):
        return SessionWindows(cells, window)
    if isinstance(window, CountOf):
        return CountWindows(cells, window)
    return PaneWindows(cells, window)


def row_order(row: WindowRow) -> tuple[Any, ...]:
    """Return by what rows are ordered: by ends, keys, and what is taken back first."""
    return row.end_us, key_order(row.key), not row.is_retracted, row.start_us, row.number


def key_order(key: Key) -> tuple[tuple[int, Scalar], ...]:
    """Return by what keys are ordered: None before numbers before text."""
    return tuple((_rank(value), 0 if value is None else value) for value in key)


def _rank(value: Scalar) -> int:
    if value is None:
        return 0
    return 2 if isinstance(value, str) else 1
