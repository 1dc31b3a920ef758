"""The deltas of a pipeline that stand in the database and have been merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from agent99.systems.analytics._closed_rows import (
    SETTLED_PART,
    Closing,
    Delta,
    compact,
    read_states,
)

if TYPE_CHECKING:
    from agent99.store import Store

COMPACT_AT: Final = 64
"""Deltas of one chunk that are made one."""
COMPACT_AT_MOST: Final = 1_024
"""So many are made one also where the one before is large."""

Row = tuple[int, int, int]
"""A delta's place: part, sequence, chunk."""


class Stock:
    """What there is of each chunk; says what can be deleted, and makes one delta of many.

    Invariant: a delta is in it from when it was merged until it was deleted.
    """

    def __init__(self, closing: Closing) -> None:
        self._closing: Final = closing
        self._rows: Final[dict[int, dict[Row, int]]] = {}
        """By chunk: sizes of the deltas, bytes."""
        self._finished: Final[list[Row]] = []
        self._sequence = 0
        """The last one of a delta that was made of several."""

    def __repr__(self) -> str:
        return f"Stock({sum(map(len, self._rows.values()))} deltas, {len(self._rows)} chunks)"

    def __len__(self) -> int:
        """Return how many deltas there are."""
        return sum(map(len, self._rows.values())) + len(self._finished)

    def add(self, delta: Delta) -> None:
        """Note a delta that was merged."""
        row = (delta.part, delta.sequence, delta.chunk)
        self._rows.setdefault(delta.chunk, {})[row] = delta.size_bytes
        if delta.part == SETTLED_PART:
            self._sequence = max(self._sequence, delta.sequence)

    def finish(self, chunks: Iterable[int]) -> None:
        """Note that nobody needs any more what has been merged of some chunks."""
        for chunk in chunks:
            self._finished.extend(self._rows.pop(chunk, ()))

    def done(self) -> Sequence[Row]:
        """Return what can be deleted."""
        return tuple(self._finished)

    def forget(self, rows: Sequence[Row]) -> None:
        """Note that what was `done` is deleted."""
        del self._finished[: len(rows)]

    async def compact(self, store: Store, cursors: Mapping[int, int]) -> None:
        """Make one delta of many, of one chunk at most.

        Args:
            store: Where they are.
            cursors: By part, up to where it is written that deltas were shown: a delta that was
                made of several counts as shown.

        Raises:
            LeaseLostError, StoreError or one of its kinds.
        """
        for chunk, rows in self._rows.items():
            if len(rows) <= COMPACT_AT:
                continue
            shown = [
                row for row in rows if row[0] == SETTLED_PART or row[1] <= cursors.get(row[0], -1)
            ]
            if _is_worth_it(shown, rows):
                await self._compact(store, chunk, shown)
                return

    async def _compact(self, store: Store, chunk: int, rows: list[Row]) -> None:
        states = await store.read(partial(read_states, closing=self._closing, deltas=rows))
        self._sequence += 1
        into = (self._sequence, chunk, states)
        await store.transaction(partial(compact, closing=self._closing, into=into, parts=rows))
        known = self._rows[chunk]
        for row in rows:
            del known[row]
        known[SETTLED_PART, self._sequence, chunk] = len(states)


def _is_worth_it(shown: Sequence[Row], sizes: Mapping[Row, int]) -> bool:
    """Tell whether so much is new that what is old may be written once more for it."""
    new = [row for row in shown if row[0] != SETTLED_PART]
    if len(new) < COMPACT_AT:
        return False
    new_bytes = sum(sizes[row] for row in new)
    old_bytes = sum(sizes[row] for row in shown) - new_bytes
    return 2 * new_bytes >= old_bytes or len(new) >= COMPACT_AT_MOST
