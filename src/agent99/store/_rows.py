"""What a statement gave, fetched to the end: nothing stays open behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agent99.errors import StoreError


class Rows:
    """The rows of one statement, or the count of those it changed.

    Each row is a tuple whose fields can also be read by column name (`row.quantity`).
    """

    __slots__ = ("_rows", "changed")

    def __init__(self, rows: Sequence[Any], changed: int) -> None:
        self._rows = rows
        self.changed = changed
        """Rows inserted, updated or deleted; 0 for a query."""

    def __repr__(self) -> str:
        return f"Rows(rows={len(self._rows)}, changed={self.changed})"

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> Sequence[Any]:
        """Return every row, in order."""
        return self._rows

    def first(self) -> Any | None:
        """Return the first row, or None when there is none."""
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        """Return the only row.

        Raises:
            StoreError: there is none, or more than one.
        """
        if len(self._rows) != 1:
            message = f"one row was expected and {len(self._rows)} came"
            raise StoreError(message)
        return self._rows[0]

    def scalar(self) -> Any | None:
        """Return the first column of the first row, or None when there is no row."""
        return self._rows[0][0] if self._rows else None

    def scalars(self) -> list[Any]:
        """Return the first column of every row."""
        return [row[0] for row in self._rows]
