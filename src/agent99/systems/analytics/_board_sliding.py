"""Sliding windows: one for each moment at which a key has records. Pure.

The windows of moments one after the other are summed with two merges a record on average, however
many records a window has: totals from the newest record back to each older one, made once, and a
running total of what came since ("two stacks": Tangwongsan, Hirzel and Schneider, "Low-latency
sliding-window aggregation in worst-case constant time", DEBS 2017, section 2).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from agent99.systems.analytics._board_cells import NEVER_US, Cells, Chunks, Span, rows_in
from agent99.systems.analytics._delta import Cell, Key, Panes, WindowRow
from agent99.systems.analytics._due import Due
from agent99.systems.analytics._windows import Sliding


@dataclass(slots=True)
class _Line:
    """The records of a key, by their moments."""

    moments: list[int] = field(default_factory=list[int])
    """By rising time, microseconds."""
    cells: dict[int, Cell] = field(default_factory=dict[int, Cell])
    shown: dict[int, int] = field(default_factory=dict[int, int])
    """The revisions of the rows of closed windows, by moment."""


class SlidingWindows:
    """Windows by key and moment; that of the moment t has the records of t - size < time ≤ t."""

    def __init__(self, cells: Cells, window: Sliding) -> None:
        self._cells: Final = cells
        self._size_us: Final = window.size_us
        self._lines: Final[dict[Key, _Line]] = {}
        self._waiting: Final[Due[Key]] = Due()
        """The keys, by the moments whose windows have not closed."""
        self._kept: Final[Due[Key]] = Due()
        """The keys, by all moments that are still needed."""
        self._changed: Final[dict[Key, set[int]]] = {}
        """The moments whose closed windows late records have changed since the last close."""
        self._first_open_us = self._first_shown_us = NEVER_US
        """Moments from here on are open; from there on they are not forgotten."""
        self._chunks: Final = Chunks()

    def __repr__(self) -> str:
        return f"SlidingWindows({len(self._lines)} keys)"

    def add(self, panes: Panes) -> int:
        """Merge a delta; see `Windows`."""
        unwanted = 0
        for moment, cells in panes.items():
            if moment <= self._first_shown_us - self._size_us:
                unwanted += rows_in(cells.values())
                self._chunks.pass_by(self.chunk_of(moment))
                continue
            for key, cell in cells.items():
                self._add(moment, key, cell)
        return unwanted

    def _add(self, moment: int, key: Key, cell: Cell) -> None:
        line = self._lines.setdefault(key, _Line())
        known = line.cells.get(moment)
        if known is not None:
            self._cells.merge(known, cell)
        else:
            line.cells[moment] = cell
            insort(line.moments, moment)
            self._chunks.hold(self.chunk_of(moment))
            self._kept.add(moment, [key])
            if moment >= self._first_open_us:
                self._waiting.add(moment, [key])
        if moment < self._first_open_us:
            first = bisect_left(line.moments, max(moment, self._first_shown_us))
            end = bisect_left(line.moments, min(moment + self._size_us, self._first_open_us))
            self._changed.setdefault(key, set()).update(line.moments[first:end])

    def ends(self) -> Iterator[tuple[int, int]]:
        """Yield where windows close next, and how many rows that makes; see `Windows`."""
        for moment, keys in self._waiting.rising():
            yield moment + 1, len(keys)

    def close(self, watermark_us: int) -> Iterator[WindowRow]:
        """Yield the rows of what closes or has changed; see `Windows`."""
        self._first_open_us = watermark_us  # the window of the moment t ends at t + 1
        for moment, keys in self._waiting.take_before(watermark_us):
            for key in keys:
                self._changed.setdefault(key, set()).add(moment)
        for key, moments in self._changed.items():
            shown = self._lines[key].shown
            for moment, cell in self._windows(key, sorted(moments)):
                shown[moment] = revision = shown.get(moment, 0) + 1
                yield self._cells.row(self._span_of(moment), key, cell, revision)
        self._changed.clear()

    def _span_of(self, moment: int) -> Span:
        return Span(moment - self._size_us + 1, moment + 1)

    def _windows(self, key: Key, moments: Iterable[int]) -> Iterator[tuple[int, Cell]]:
        """Yield what the windows of a key's moments have; the moments rise."""
        line = self._lines[key]
        times = line.moments
        back: list[Cell] = []  # back[n]: the total of the records from `back_first` + n to `split`
        back_first = split = since = 0
        running: Cell | None = None  # the total of the records from `split` to `since`
        for moment in moments:
            first = bisect_right(times, moment - self._size_us)
            end = bisect_right(times, moment)
            if first >= split:
                back = self._totals_back([line.cells[one] for one in times[first:end]])
                back_first, split, since, running = first, end, end, None
            for one in times[since:end]:
                cell = line.cells[one]
                running = cell if running is None else self._cells.sum([running, cell])
            since = end
            total = back[first - back_first]
            yield moment, total if running is None else self._cells.sum([total, running])

    def _totals_back(self, cells: list[Cell]) -> list[Cell]:
        """Return, for each cell, the total from it to the last one."""
        totals = [cells[-1]]
        for cell in cells[-2::-1]:
            totals.append(self._cells.sum([totals[-1], cell]))
        totals.reverse()
        return totals

    def forget(self, horizon_us: int) -> None:
        """Forget what ends at or before the horizon; see `Windows`."""
        self._first_shown_us = horizon_us
        first_us = horizon_us - self._size_us + 1
        lines: dict[Key, None] = {}
        for moment, keys in self._kept.take_before(first_us):
            for key in keys:
                lines[key] = None
                self._chunks.release(self.chunk_of(moment))
        for key in lines:
            line = self._lines[key]
            end = bisect_left(line.moments, first_us)
            for moment in line.moments[:end]:
                del line.cells[moment]
                line.shown.pop(moment, None)
            del line.moments[:end]
            if not line.moments:
                del self._lines[key]

    def recall(self, row: WindowRow) -> None:
        """Take over a revision; see `Windows`."""
        line = self._lines.get(row.key)
        if line is not None and row.end_us - 1 in line.shown:
            line.shown[row.end_us - 1] = row.revision

    def open_rows(self, key: Key | None) -> list[WindowRow]:
        """Return what the open windows say; see `Windows`."""
        rows: list[WindowRow] = []
        for one in self._lines if key is None else self._lines.keys() & {key}:
            moments = self._lines[one].moments
            opened = moments[bisect_left(moments, self._first_open_us) :]
            rows += [
                self._cells.row(self._span_of(moment), one, cell, 0)
                for moment, cell in self._windows(one, opened)
            ]
        return rows

    def panes(self) -> Panes:
        """Return all that is needed; see `Windows`."""
        panes: Panes = {}
        for key, line in self._lines.items():
            for moment, cell in line.cells.items():
                panes.setdefault(moment, {})[key] = cell
        return panes

    def chunk_of(self, pane: int) -> int:
        """Return which length of a window, from the epoch on, the moment is in."""
        return pane // self._size_us

    def done_chunks(self) -> list[int]:
        """Return the chunks that nobody needs; see `Windows`."""
        return self._chunks.take_done()
