"""What all kinds of windows do with cells: merge them, show them, say which are needed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from agent99.systems.analytics._delta import Cell, Key, Panes, WindowRow
from agent99.systems.analytics._pipeline import Pipeline
from agent99.systems.analytics._windows import SECOND_US

NEVER_US: Final = -(2**63)
"""Before every time: the watermark and the horizon of a board that has none yet."""


class Span(NamedTuple):
    """Which window of a key."""

    start_us: int
    end_us: int
    number: int = 0
    """Of a window by count: which of the key's it is."""


class Windows(Protocol):
    """The windows of one kind: what has been merged, shown, and not forgotten yet."""

    def add(self, panes: Panes) -> int:
        """Merge a delta, whose cells are its own from now on.

        Returns:
            How many of its records are in no window but forgotten ones.
        """
        ...

    def ends(self) -> Iterator[tuple[int, int]]:
        """Yield at which watermarks windows close next, rising, and how many rows each makes.

        It may be fewer rows. Windows that close at no watermark are not among these.
        """
        ...

    def close(self, watermark_us: int) -> Iterator[WindowRow]:
        """Yield the rows of what ends at or before the watermark and was not shown like that.

        What takes a window back comes before what takes its place.
        """
        ...

    def forget(self, horizon_us: int) -> None:
        """Forget the windows that end at or before the horizon; they were closed."""
        ...

    def recall(self, row: WindowRow) -> None:
        """Take over the revision at which a closed window was shown."""
        ...

    def open_rows(self, key: Key | None) -> list[WindowRow]:
        """Return what the windows say that have not closed yet: of one key, or of all."""
        ...

    def panes(self) -> Panes:
        """Return all that is needed, as a delta. Its cells are not a copy."""
        ...

    def chunk_of(self, pane: int) -> int:
        """Return the chunk in which a pane is stored."""
        ...

    def done_chunks(self) -> list[int]:
        """Return the chunks of which nothing that was merged is needed, each once."""
        ...


class Chunks:
    """Counts, by chunk, the cells that are needed."""

    def __init__(self) -> None:
        self._held: dict[int, int] = {}
        self._done: set[int] = set()

    def __repr__(self) -> str:
        return f"Chunks({len(self._held)} held, {len(self._done)} done)"

    def hold(self, chunk: int) -> None:
        """Count one more."""
        self._held[chunk] = self._held.get(chunk, 0) + 1
        self._done.discard(chunk)

    def release(self, chunk: int) -> None:
        """Count one less; it was held."""
        self._held[chunk] -= 1
        if not self._held[chunk]:
            del self._held[chunk]
            self._done.add(chunk)

    def pass_by(self, chunk: int) -> None:
        """Note a chunk of which something was merged that nobody needs."""
        if chunk not in self._held:
            self._done.add(chunk)

    def take_done(self) -> list[int]:
        """Return the chunks of which nothing is held any more, each once, by rising number."""
        done, self._done = sorted(self._done), set()
        return done


class Cells:
    """Merges and shows the cells of a pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline: Final = pipeline.name
        self._merges: Final = [(n, one.merge) for n, one in enumerate(pipeline.measures)]
        first = len(pipeline.measures) - len(pipeline.aggregates)  # before them are the board's
        self._shows: Final = [
            (name, first + n, one.show) for n, (name, one) in enumerate(pipeline.aggregates.items())
        ]

    def __repr__(self) -> str:
        return f"Cells({self._pipeline!r})"

    def merge(self, into: Cell, other: Cell) -> None:
        """Merge a cell into another; `other` is not changed."""
        for index, merge in self._merges:
            into[index] = merge((into[index], other[index]))

    def sum(self, cells: Sequence[Cell]) -> Cell:
        """Return all in one. It is not one to merge into: it may be a cell of these."""
        if len(cells) == 1:
            return cells[0]
        return [merge([cell[index] for cell in cells]) for index, merge in self._merges]

    def join(self, deltas: Sequence[Panes]) -> Panes:
        """Return several deltas as one, to which their cells belong.

        All that come to a cell are merged at once: a large state is not copied for each of them.
        """
        if len(deltas) == 1:
            return deltas[0]
        found: dict[int, dict[Key, list[Cell]]] = {}
        for panes in deltas:
            for pane, cells in panes.items():
                by_key = found.setdefault(pane, {})
                for key, cell in cells.items():
                    by_key.setdefault(key, []).append(cell)
        return {
            pane: {key: self.sum(cells) for key, cells in by_key.items()}
            for pane, by_key in found.items()
        }

    def row(self, span: Span, key: Key, cell: Cell, revision: int) -> WindowRow:
        """Return what a window says; revision 0: it is open."""
        size_s = (span.end_us - span.start_us) / SECOND_US
        values: dict[str, Any] = {name: show(cell[at], size_s) for name, at, show in self._shows}
        return WindowRow(
            pipeline=self._pipeline,
            start_us=span.start_us,
            end_us=span.end_us,
            key=key,
            values=values,
            rows=cell[0],
            state="closed" if revision else "open",
            revision=revision,
            number=span.number,
        )

    def retraction(self, span: Span, key: Key, revision: int) -> WindowRow:
        """Return the row that takes a window back."""
        return WindowRow(
            pipeline=self._pipeline,
            start_us=span.start_us,
            end_us=span.end_us,
            key=key,
            values={},
            rows=0,
            state="closed",
            revision=revision,
            is_retracted=True,
        )


def rows_in(cells: Iterable[Cell]) -> int:
    """Return how many records are in some cells."""
    return sum(cell[0] for cell in cells)
