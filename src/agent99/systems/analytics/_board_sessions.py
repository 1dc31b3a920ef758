"""Sessions: windows that grow by their records, and may be joined by a late one. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from agent99.systems.analytics._board_cells import NEVER_US, Cells, Chunks, Span, rows_in
from agent99.systems.analytics._delta import Cell, Key, Panes, WindowRow
from agent99.systems.analytics._due import Due
from agent99.systems.analytics._windows import Session

GAPS_IN_CHUNK: Final = 16
_START = attrgetter("start_us")


@dataclass(slots=True, eq=False)
class _Activity:
    """A session so far."""

    key: Key
    start_us: int
    last_us: int
    cell: Cell
    chunks: set[int]
    """Where its parts are stored."""
    shown: dict[Span, int] = field(default_factory=dict[Span, int])
    """The revisions of the closed windows that it was, or of which it has been joined."""
    is_gone: bool = False
    """It is part of another, or forgotten."""


class SessionWindows:
    """Sessions by key.

    Invariant: those of a key lie at least the gap apart.
    """

    def __init__(self, cells: Cells, window: Session) -> None:
        self._cells: Final = cells
        self._gap_us: Final = window.gap_us
        self._lines: Final[dict[Key, list[_Activity]]] = {}
        """By rising start."""
        self._waiting: Final[Due[_Activity]] = Due()
        """By where they ended when they were put there."""
        self._forgettable: Final[Due[_Activity]] = Due()
        """The closed ones, by their ends."""
        self._changed: Final[set[_Activity]] = set()
        """Those that are to be closed, corrected or taken back at the next close."""
        self._watermark_us = self._horizon_us = NEVER_US
        self._chunks: Final = Chunks()

    def __repr__(self) -> str:
        return f"SessionWindows({len(self._lines)} keys)"

    def add(self, panes: Panes) -> int:
        """Merge a delta; see `Windows`."""
        unwanted = 0
        for pane, cells in panes.items():
            for key, cell in cells.items():
                if cell[2] + self._gap_us <= self._horizon_us:
                    unwanted += rows_in([cell])
                    self._chunks.pass_by(self.chunk_of(pane))
                else:
                    self._add(key, cell, self.chunk_of(pane))
        return unwanted

    def _add(self, key: Key, cell: Cell, chunk: int) -> None:
        start_us, last_us = cell[1], cell[2]
        line = self._lines.setdefault(key, [])
        first = end = bisect_left(line, last_us + self._gap_us, key=_START)
        while first and start_us - line[first - 1].last_us < self._gap_us:
            first -= 1
        self._chunks.hold(chunk)
        activity = _Activity(key, start_us, last_us, cell, {chunk})
        for other in line[first:end]:
            activity = self._joined(other, activity)
        line[first:end] = [activity]
        if activity.last_us + self._gap_us > self._watermark_us:
            self._waiting.add(activity.last_us + self._gap_us, [activity])
        else:
            self._changed.add(activity)
        if activity.shown:
            self._changed.add(activity)

    def _joined(self, one: _Activity, other: _Activity) -> _Activity:
        """Return one of the two, with all that both have."""
        self._cells.merge(one.cell, other.cell)
        one.start_us = min(one.start_us, other.start_us)
        one.last_us = max(one.last_us, other.last_us)
        one.shown |= other.shown
        for chunk in one.chunks & other.chunks:
            self._chunks.release(chunk)
        one.chunks |= other.chunks
        other.is_gone = True
        self._changed.discard(other)
        return one

    def ends(self) -> Iterator[tuple[int, int]]:
        """Yield where sessions close next, and how many rows that makes; see `Windows`."""
        for end_us, activities in self._waiting.rising():
            yield end_us, len(activities)

    def close(self, watermark_us: int) -> Iterator[WindowRow]:
        """Yield the rows of what closes, has changed or is taken back; see `Windows`."""
        self._watermark_us = watermark_us
        for end_us, activities in self._waiting.take_before(watermark_us + 1):
            self._changed.update(one for one in activities if self._is_still(one, end_us))
        for activity in self._changed:
            yield from self._rows(activity)
        self._changed.clear()

    def _is_still(self, activity: _Activity, end_us: int) -> bool:
        return not activity.is_gone and activity.last_us + self._gap_us == end_us

    def _rows(self, activity: _Activity) -> list[WindowRow]:
        span = self._span_of(activity)
        revision = activity.shown.pop(span, 0)
        rows = [
            self._cells.retraction(before, activity.key, shown + 1)
            for before, shown in activity.shown.items()
        ]
        activity.shown.clear()
        if span.end_us <= self._watermark_us:
            activity.shown[span] = revision + 1
            rows.append(self._cells.row(span, activity.key, activity.cell, revision + 1))
            if not revision:
                self._forgettable.add(span.end_us, [activity])
        return rows

    def _span_of(self, activity: _Activity) -> Span:
        return Span(activity.start_us, activity.last_us + self._gap_us)

    def forget(self, horizon_us: int) -> None:
        """Forget what ends at or before the horizon; see `Windows`."""
        self._horizon_us = horizon_us
        for end_us, activities in self._forgettable.take_before(horizon_us + 1):
            for activity in activities:
                if self._is_still(activity, end_us):
                    self._drop(activity)

    def _drop(self, activity: _Activity) -> None:
        activity.is_gone = True
        line = self._lines[activity.key]
        at = bisect_left(line, activity.start_us, key=_START)
        del line[at]
        if not line:
            del self._lines[activity.key]
        for chunk in activity.chunks:
            self._chunks.release(chunk)

    def recall(self, row: WindowRow) -> None:
        """Take over a revision; see `Windows`."""
        line = self._lines.get(row.key, [])
        at = bisect_left(line, row.start_us, key=_START)
        span = Span(row.start_us, row.end_us)
        if at < len(line) and span in line[at].shown:
            line[at].shown[span] = row.revision

    def open_rows(self, key: Key | None) -> list[WindowRow]:
        """Return what the open windows say; see `Windows`."""
        lines = self._lines.values() if key is None else [self._lines.get(key, [])]
        return [
            self._cells.row(self._span_of(activity), activity.key, activity.cell, 0)
            for line in lines
            for activity in line
            if activity.last_us + self._gap_us > self._watermark_us
        ]

    def panes(self) -> Panes:
        """Return all that is needed; see `Windows`."""
        panes: Panes = {}
        for key, line in self._lines.items():
            for activity in line:
                panes.setdefault(activity.start_us, {})[key] = activity.cell
        return panes

    def chunk_of(self, pane: int) -> int:
        """Return which length of some gaps, from the epoch on, the fragment begins in."""
        return pane // (GAPS_IN_CHUNK * self._gap_us)

    def done_chunks(self) -> list[int]:
        """Return the chunks that nobody needs; see `Windows`."""
        return self._chunks.take_done()
