"""Windows of so many records of a key: they close when they are full, whatever the time. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent99.systems.analytics._board_cells import Cells, Chunks, Span
from agent99.systems.analytics._delta import Cell, Key, Panes, WindowRow
from agent99.systems.analytics._windows import CountOf

PANES_IN_CHUNK: Final = 64


class CountWindows:
    """Windows by key and number; a closed one is forgotten at once, nothing can be late for it."""

    def __init__(self, cells: Cells, window: CountOf) -> None:
        self._cells: Final = cells
        self._records: Final = window.records
        self._open: Final[dict[tuple[int, Key], Cell]] = {}
        self._full: Final[list[tuple[int, Key]]] = []
        self._chunks: Final = Chunks()

    def __repr__(self) -> str:
        return f"CountWindows({len(self._open)} open)"

    def add(self, panes: Panes) -> int:
        """Merge a delta; see `Windows`."""
        for number, cells in panes.items():
            for key, cell in cells.items():
                known, before = self._open.get((number, key)), 0
                if known is None:
                    self._open[number, key] = known = cell
                    self._chunks.hold(self.chunk_of(number))
                else:
                    before = known[0]
                    self._cells.merge(known, cell)
                # Once, though it may get more than its records: of a key in two shards.
                if before < self._records <= known[0]:
                    self._full.append((number, key))
        return 0

    def ends(self) -> Iterator[tuple[int, int]]:
        """Yield nothing: no watermark closes these."""
        return iter(())

    def close(self, watermark_us: int) -> Iterator[WindowRow]:  # noqa: ARG002 - time closes none of these
        """Yield the rows of what is full; see `Windows`."""
        for number, key in self._full:
            cell = self._open.pop((number, key))
            yield self._cells.row(_span(number, cell), key, cell, 1)
            self._chunks.release(self.chunk_of(number))
        self._full.clear()

    def forget(self, horizon_us: int) -> None:
        """Do nothing: what is closed is forgotten."""

    def recall(self, row: WindowRow) -> None:
        """Do nothing: a closed window has one revision."""

    def open_rows(self, key: Key | None) -> list[WindowRow]:
        """Return what the windows say that are not full; see `Windows`."""
        return [
            self._cells.row(_span(number, cell), one, cell, 0)
            for (number, one), cell in self._open.items()
            if (key is None or one == key) and cell[0] < self._records
        ]

    def panes(self) -> Panes:
        """Return all that is needed; see `Windows`."""
        panes: Panes = {}
        for (number, key), cell in self._open.items():
            panes.setdefault(number, {})[key] = cell
        return panes

    def chunk_of(self, pane: int) -> int:
        """Return which so many windows the number is in."""
        return pane // PANES_IN_CHUNK

    def done_chunks(self) -> list[int]:
        """Return the chunks that nobody needs; see `Windows`."""
        return self._chunks.take_done()


def _span(number: int, cell: Cell) -> Span:
    return Span(cell[1], cell[2] + 1, number)
