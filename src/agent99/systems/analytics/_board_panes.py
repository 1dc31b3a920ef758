"""Tumbling and hopping windows, made of panes that do not overlap. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from agent99.systems.analytics._board_cells import NEVER_US, Cells, Chunks, Span, rows_in
from agent99.systems.analytics._delta import Cell, Key, Panes, WindowRow
from agent99.systems.analytics._due import Due
from agent99.systems.analytics._windows import Hopping, Tumbling


class PaneWindows:
    """Windows by number: number n has the panes from n * hop on, `span` of them.

    Invariant: every window that is not forgotten and has records either waits to close or is shown.
    """

    def __init__(self, cells: Cells, window: Tumbling | Hopping) -> None:
        self._cells: Final = cells
        self._size_us: Final = window.size_us
        self._every_us: Final = window.every_us if isinstance(window, Hopping) else window.size_us
        self._span: Final = window.size_us // window.pane_us
        self._hop: Final = self._every_us // window.pane_us
        self._panes: Final[Panes] = {}
        self._kept: Final[Due[int]] = Due()
        """The panes, by the last window that shows them."""
        self._waiting: Final[Due[None]] = Due()
        self._shown: Final[dict[int, dict[Key, int]]] = {}
        """The revisions of the rows of closed windows, by window and key."""
        self._forgettable: Final[Due[None]] = Due()
        """The closed windows, as they are in `_shown`."""
        self._changed: Final[dict[int, set[Key]]] = {}
        """What late records have added to closed windows since the last close."""
        self._first_open = self._first_kept = NEVER_US
        """The windows from this number on are open; from that one on they are not forgotten."""
        self._chunks: Final = Chunks()

    def __repr__(self) -> str:
        return f"PaneWindows({len(self._panes)} panes, {len(self._shown)} shown)"

    def add(self, panes: Panes) -> int:
        """Merge a delta; see `Windows`."""
        unwanted = 0
        for pane, cells in panes.items():
            last = pane // self._hop
            if last < self._first_kept:
                unwanted += rows_in(cells.values())
                self._chunks.pass_by(pane)
                continue
            first = max((pane - self._span) // self._hop + 1, self._first_kept)
            for number in range(first, min(last + 1, self._first_open)):
                self._changed.setdefault(number, set()).update(cells)
            if pane in self._panes:
                self._merge(self._panes[pane], cells)
                continue
            self._panes[pane] = cells
            self._chunks.hold(pane)
            self._kept.add(last, [pane])
            for number in range(max(first, self._first_open), last + 1):
                self._waiting.add(number)
        return unwanted

    def _merge(self, known: dict[Key, Cell], cells: dict[Key, Cell]) -> None:
        for key, cell in cells.items():
            mine = known.get(key)
            if mine is None:
                known[key] = cell
            else:
                self._cells.merge(mine, cell)

    def ends(self) -> Iterator[tuple[int, int]]:
        """Yield where windows close next, and how many rows that makes; see `Windows`."""
        for number, _ in self._waiting.rising():
            yield self._span_of(number).end_us, sum(map(len, self._panes_of(number)))

    def close(self, watermark_us: int) -> Iterator[WindowRow]:
        """Yield the rows of what closes or has changed; see `Windows`."""
        self._first_open = (watermark_us - self._size_us) // self._every_us + 1
        for number, _ in self._waiting.take_before(self._first_open):
            yield from self._rows(number, None)
        for number, keys in self._changed.items():
            yield from self._rows(number, keys)
        self._changed.clear()

    def _rows(self, number: int, keys: set[Key] | None) -> Iterator[WindowRow]:
        """Yield the rows of a closed window: of some keys, or of all."""
        if number not in self._shown:
            self._shown[number] = {}
            self._forgettable.add(number)
        shown, span = self._shown[number], self._span_of(number)
        for key, cells in self._cells_of(number, keys).items():
            shown[key] = revision = shown.get(key, 0) + 1
            yield self._cells.row(span, key, self._cells.sum(cells), revision)

    def _span_of(self, number: int) -> Span:
        start_us = number * self._every_us
        return Span(start_us, start_us + self._size_us)

    def _cells_of(self, number: int, keys: Iterable[Key] | None) -> dict[Key, list[Cell]]:
        found: dict[Key, list[Cell]] = {}
        for cells in self._panes_of(number):
            for key in cells if keys is None else cells.keys() & keys:
                found.setdefault(key, []).append(cells[key])
        return found

    def _panes_of(self, number: int) -> Iterator[dict[Key, Cell]]:
        first = number * self._hop
        for pane in range(first, first + self._span):
            if pane in self._panes:
                yield self._panes[pane]

    def forget(self, horizon_us: int) -> None:
        """Forget what ends at or before the horizon; see `Windows`."""
        self._first_kept = (horizon_us - self._size_us) // self._every_us + 1
        for number, _ in self._forgettable.take_before(self._first_kept):
            del self._shown[number]
        for _, panes in self._kept.take_before(self._first_kept):
            for pane in panes:
                del self._panes[pane]
                self._chunks.release(pane)

    def recall(self, row: WindowRow) -> None:
        """Take over a revision; see `Windows`."""
        shown = self._shown.get(row.start_us // self._every_us, {})
        if row.key in shown:
            shown[row.key] = row.revision

    def open_rows(self, key: Key | None) -> list[WindowRow]:
        """Return what the open windows say; see `Windows`."""
        keys = None if key is None else {key}
        return [
            self._cells.row(self._span_of(number), key, self._cells.sum(cells), 0)
            for number in self._waiting
            for key, cells in self._cells_of(number, keys).items()
        ]

    def panes(self) -> Panes:
        """Return all that is needed; see `Windows`."""
        return self._panes

    def chunk_of(self, pane: int) -> int:
        """Return the pane: each is a chunk."""
        return pane

    def done_chunks(self) -> list[int]:
        """Return the chunks that nobody needs; see `Windows`."""
        return self._chunks.take_done()
