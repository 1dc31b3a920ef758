"""What a window says of its records: a state for each key, which grows by merging. Pure.

Merging is commutative and associative, and sums are integers: so the same records make the same
state, in whatever groups and order they come. That is what makes a result exact through kills.
"""

from __future__ import annotations

from typing import Any, Protocol

State = Any
"""What JSON can carry, or bytes; made by `fold`, changed by nobody but its aggregate's `merge`."""


class Aggregate(Protocol):
    """One figure of a window."""

    column: str
    """Whose values it is given: a field of the record, or a computed column. Empty: none, only how
    many there are."""

    def check(self, kind: type | None) -> None:
        """Refuse a column of a type that it cannot take (None: computed, known when it is folded).

        Raises:
            UsageError: says which, and why.
        """
        ...

    def fold(self, values: list[Any]) -> State:
        """Return the state that some values make; at least one, None among them is left out."""
        ...

    def merge(self, one: State, other: State) -> State:
        """Return the state of both; `one` may be changed, `other` is not."""
        ...

    def show(self, state: State, size_s: float) -> Any:
        """Return the figure: what JSON can carry. `size_s`: how long the window is, seconds."""
        ...

    def pack(self, state: State) -> Any:
        """Return the state as msgpack can carry it (bytes, ints, strings, lists, maps)."""
        ...

    def unpack(self, packed: Any) -> State:
        """Return the state that was packed."""
        ...
