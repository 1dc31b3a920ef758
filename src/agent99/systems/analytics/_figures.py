"""What a window says of its records: a state for each key, which grows by merging. Pure.

Merging is commutative and associative, and sums are integers: so the same records make the same
state, in whatever groups and order they come. That is what makes a result exact through kills.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Protocol, TypeVar, runtime_checkable

import msgspec

T = TypeVar("T")
State = Any
"""What msgpack can carry, with integers of any size; changed by nobody."""

SUMMED: Final = (int,)
"""Floats are not: their sum depends on the order in which they are added. Nor is bool: count the
records that `where` leaves."""
ORDERED: Final = (int, float, str, bool, datetime)


@runtime_checkable
class Aggregate(Protocol):
    """One figure of a window."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Whose values it is given: fields of the record, or computed columns."""
        ...

    def misfit(self, column: str, kind: type, /) -> str:
        """Say why it cannot take one of its columns, whose values are of a type; empty: it can."""
        ...

    def fold(self, rows: int, /, *values: Sequence[Any]) -> State:
        """Return the state that some records make.

        Args:
            rows: How many they are; at least one.
            values: Theirs, for each of `columns`; None among them is left out.

        Raises:
            BadRequestError: a value that none of its type may be; says which.
        """
        ...

    def merge(self, states: Sequence[State], /) -> State:
        """Return the state of all; at least one, of which none is changed."""
        ...

    def show(self, state: State, size_s: float, /) -> Any:
        """Return the figure: what JSON can carry. `size_s`: how long the window is, seconds."""
        ...


class _OfRows(msgspec.Struct, frozen=True):
    """A figure of how many records there are."""

    @property
    def columns(self) -> tuple[str, ...]:
        """None: what a record holds does not matter."""
        return ()

    def misfit(self, _column: str, _kind: type, /) -> str:
        """Nothing misfits."""
        return ""

    def fold(self, rows: int, /, *_values: Sequence[Any]) -> int:
        """Return how many."""
        return rows

    def merge(self, states: Sequence[int], /) -> int:
        """Return how many in all."""
        return sum(states)


class OfColumn(msgspec.Struct, frozen=True):
    """A figure of one column, whose values are of certain types. Private to the room."""

    kinds: ClassVar[tuple[type, ...]] = ORDERED

    column: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The one that it is of."""
        return (self.column,)

    def misfit(self, _column: str, kind: type, /) -> str:
        """Say which types it takes, where the column's is none of them."""
        return not_of(kind, self.kinds)


class Count(_OfRows, frozen=True):
    """How many records there are."""

    def show(self, state: int, _size_s: float, /) -> int:
        """Return how many."""
        return state


class Rate(_OfRows, frozen=True):
    """Records per second, over the length of the window."""

    def show(self, state: int, size_s: float, /) -> float:
        """Return how many for each second of the window."""
        return state / size_s


class Sum(OfColumn, frozen=True):
    """The sum of integers: pence, not pounds. 0 where there are none."""

    kinds = SUMMED

    def fold(self, _rows: int, /, *values: Sequence[int | None]) -> int:
        """Return the sum."""
        return _sum(values[0])

    def merge(self, states: Sequence[int], /) -> int:
        """Return the sum of all."""
        return sum(states)

    def show(self, state: int, _size_s: float, /) -> int:
        """Return the sum."""
        return state


class Min(OfColumn, frozen=True):
    """The least value; of a datetime as microseconds since the epoch. None where there are none."""

    def fold(self, _rows: int, /, *values: Sequence[Any]) -> Any:
        """Return the least."""
        return min(present(values[0]), default=None)

    def merge(self, states: Sequence[Any], /) -> Any:
        """Return the least of all."""
        return min(present(states), default=None)

    def show(self, state: Any, _size_s: float, /) -> Any:
        """Return the least."""
        return state


class Max(OfColumn, frozen=True):
    """The greatest value; of a datetime as microseconds since the epoch. None: there are none."""

    def fold(self, _rows: int, /, *values: Sequence[Any]) -> Any:
        """Return the greatest."""
        return max(present(values[0]), default=None)

    def merge(self, states: Sequence[Any], /) -> Any:
        """Return the greatest of all."""
        return max(present(states), default=None)

    def show(self, state: Any, _size_s: float, /) -> Any:
        """Return the greatest."""
        return state


class Mean(OfColumn, frozen=True):
    """The mean of integers: their exact sum by their number, rounded once. None: there are none."""

    kinds = SUMMED

    def fold(self, _rows: int, /, *values: Sequence[int | None]) -> list[int]:
        """Return how many, and their sum."""
        numbers = present(values[0])
        return [len(numbers), sum(numbers)]

    def merge(self, states: Sequence[list[int]], /) -> list[int]:
        """Return how many in all, and the sum of all."""
        return _add_up(states)

    def show(self, state: list[int], _size_s: float, /) -> float | None:
        """Return the mean."""
        count, total = state
        return total / count if count else None


class Variance(OfColumn, frozen=True):
    """The variance of integers that are the whole population (divided by n, not by n - 1).

    It is made of three exact integer sums, and rounded once. None where there are none.
    """

    kinds = SUMMED

    def fold(self, _rows: int, /, *values: Sequence[int | None]) -> list[int]:
        """Return how many, their sum, and that of their squares."""
        numbers = present(values[0])
        return [len(numbers), sum(numbers), sum(number * number for number in numbers)]

    def merge(self, states: Sequence[list[int]], /) -> list[int]:
        """Return the three sums of all."""
        return _add_up(states)

    def show(self, state: list[int], _size_s: float, /) -> float | None:
        """Return the variance."""
        count, total, squares = state
        return (count * squares - total * total) / (count * count) if count else None


def present(values: Sequence[T | None]) -> Sequence[T]:
    """Return the values that are not None."""
    if None in values:
        return [value for value in values if value is not None]
    return values  # type: ignore[return-value]  # none of them is None, as was just seen


def not_of(kind: type, kinds: Iterable[type]) -> str:
    """Say that a column of one type would have to be of one of others; empty if it is."""
    if kind in kinds:
        return ""
    return f"{kind.__name__}, not {' or '.join(one.__name__ for one in kinds)}"


def _sum(values: Sequence[int | None]) -> int:
    try:
        return sum(values)  # type: ignore[arg-type]  # None among them is a TypeError
    except TypeError:
        return sum(present(values))


def _add_up(states: Sequence[list[int]]) -> list[int]:
    return [sum(sums) for sums in zip(*states, strict=True)]
