"""Figures whose state is bounded, with an error that is stated: top-k, distinct, quantiles. Pure.

Each is exact, or within its error, for any grouping of the records; those of `Distinct` and of
`Quantiles` are also the same for any grouping.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from heapq import nsmallest
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.errors import UsageError, how_to_install
from agent99.systems.analytics._bounds import INT_MAX, INT_MIN
from agent99.systems.analytics._columns import refusal
from agent99.systems.analytics._figures import ORDERED, SUMMED, OfColumn, not_of, present

if TYPE_CHECKING:
    from ddsketch.mapping import KeyMapping

RELATIVE_ERROR: Final = 0.01
"""Of a quantile: it is within 1 % of a value that has the rank."""
THETA_LG_K: Final = 14
"""A theta sketch keeps 2 to the power of this many hashes."""


class TopK(msgspec.Struct, frozen=True):
    """The `k` values that most records have, or that have the greatest sum of weights.

    Shown as `[[value, count], …]`, the greatest first, equal ones in the order of the values.
    Exact while a window has at most `capacity` different values. Beyond, those with the least are
    given up, and a count is too low by at most the total / (`capacity` + 1).

    The state is a Misra-Gries summary, merged as in Agarwal et al., "Mergeable Summaries", ACM
    TODS 38(4), 2013, section 3.1.

    Raises:
        UsageError: `k` is not 1 to `capacity`.
    """

    column: str
    k: int = 10
    weight: str = ""
    """A column of integers, 0 or more. Empty: each record has the weight 1."""
    capacity: int = 10_000

    def __post_init__(self) -> None:
        if type(self.k) is not int or type(self.capacity) is not int:
            raise UsageError(f"k and capacity are whole numbers, not {self.k!r}, {self.capacity!r}")
        if not 1 <= self.k <= self.capacity:
            raise UsageError(f"the top {self.k} of at most {self.capacity} values; 1 or more")

    @property
    def columns(self) -> tuple[str, ...]:
        """The counted one, and that of the weights."""
        return (self.column, self.weight) if self.weight else (self.column,)

    def misfit(self, column: str, kind: type, /) -> str:
        """Say that weights are integers."""
        return not_of(kind, SUMMED if column == self.weight else ORDERED)

    def fold(self, _rows: int, /, *values: Sequence[Any]) -> list[Any]:
        """Return how much is given up, and the counts by value."""
        counts = _weighed(*values) if self.weight else Counter(present(values[0]))
        return self._bounded(0, counts)

    def merge(self, states: Sequence[list[Any]], /) -> list[Any]:
        """Return how much is given up of all, and the counts of all by value."""
        counts = Counter[Any]()
        for _, more in states:
            counts.update(more)
        return self._bounded(sum(lost for lost, _ in states), counts)

    def show(self, state: list[Any], _size_s: float, /) -> list[list[Any]]:
        """Return the values with the greatest counts."""
        _, counts = state
        return [[value, count] for value, count in nsmallest(self.k, counts.items(), key=_rank)]

    def _bounded(self, lost: int, counts: Mapping[Any, int]) -> list[Any]:
        if len(counts) <= self.capacity:
            return [lost, dict(counts)]
        least = sorted(counts.values(), reverse=True)[self.capacity]
        kept = {value: count - least for value, count in counts.items() if count > least}
        return [lost + least, kept]


class Distinct(OfColumn, frozen=True):
    """How many different values there are.

    Exact up to 16,384; beyond, with a relative standard error of 0.8 % (2 % in 99 of 100 cases).

    The state is a theta sketch (Apache DataSketches): the 16,384 least hashes and the next one,
    which are the same however the records are grouped. That of HyperLogLog is not: its estimator
    depends on the order in which sketches are merged.
    """

    def fold(self, _rows: int, /, *values: Sequence[Any]) -> bytes:
        """Return the sketch of the values.

        Raises:
            BadRequestError: an integer has more than 64 bits, which the sketch would cut off.
        """
        sketch = _datasketches().update_theta_sketch(THETA_LG_K)
        different = set(present(values[0]))
        if "" in different:
            # The sketch takes no notice of an empty text. A number hashes as no text does.
            different.remove("")
            sketch.update(0)
        update = sketch.update
        for value in different:
            if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
                raise refusal(f"$.{self.column}", f"{value!r} has more than 64 bits")
            update(value)
        sketch.trim()
        state: bytes = sketch.compact().serialize()
        return state

    def merge(self, states: Sequence[bytes], /) -> bytes:
        """Return the sketch of all."""
        library = _datasketches()
        union = library.theta_union(THETA_LG_K)
        for state in states:
            union.update(library.compact_theta_sketch.deserialize(state))
        merged: bytes = union.get_result().serialize()
        return merged

    def show(self, state: bytes, _size_s: float, /) -> int:
        """Return the estimate, as a whole number."""
        sketch = _datasketches().compact_theta_sketch.deserialize(state)
        estimate: float = sketch.get_estimate()
        return round(estimate)


class Quantiles(OfColumn, frozen=True):
    """Values below which given fractions of the values are: the median is that of 0.5.

    Shown by fraction: `{"0.5": 12.5, "0.99": 80.1}`; None where there are none. A quantile is
    within 1 % of the value with the rank ⌊fraction · (n - 1)⌋, from 0 on, for values of 1e-307 to
    1e308 by size; 0 is exact. Floats are taken, since only counts are kept.

    The state is a DDSketch (Masson et al., "DDSketch: a fast and fully-mergeable quantile sketch
    with relative-error guarantees", PVLDB 12(12), 2019) without a bound on its buckets, of which
    there are 71,000 for each sign.

    Raises:
        UsageError: there are no fractions, or one is not 0 to 1.
    """

    kinds = (int, float)

    fractions: tuple[float, ...] = (0.5, 0.95, 0.99)

    def __post_init__(self) -> None:
        if not isinstance(self.fractions, tuple) or not self.fractions:
            raise UsageError(f"quantiles are a tuple of fractions, not {self.fractions!r}")
        for fraction in self.fractions:
            if type(fraction) not in (int, float) or not 0 <= fraction <= 1:
                raise UsageError(f"the quantile {fraction!r}; 0 to 1")

    def fold(self, _rows: int, /, *values: Sequence[float | None]) -> dict[int, int]:
        """Return how many values are in each bucket."""
        counts = Counter[int]()
        for value, count in Counter(present(values[0])).items():
            counts[_bucket(value)] += count
        return dict(counts)

    def merge(self, states: Sequence[dict[int, int]], /) -> dict[int, int]:
        """Return how many of all are in each bucket."""
        counts = Counter[int]()
        for state in states:
            counts.update(state)
        return dict(counts)

    def show(self, state: dict[int, int], _size_s: float, /) -> dict[str, float] | None:
        """Return the quantiles by fraction."""
        if not state:
            return None
        last = sum(state.values()) - 1
        buckets = sorted(state.items())
        return {
            str(fraction): _value(_at_rank(buckets, int(fraction * last)))
            for fraction in self.fractions
        }


def _weighed(values: Sequence[Any], weights: Sequence[int | None]) -> dict[Any, int]:
    """Add up the weights of each value.

    Raises:
        BadRequestError: a weight is below 0.
    """
    sums: dict[Any, int] = {}
    for value, weight in zip(values, weights, strict=True):
        if value is None or weight is None:
            continue
        if weight < 0:
            raise refusal("$", f"the weight of {value!r} is {weight}; 0 or more")
        sums[value] = sums.get(value, 0) + weight
    return sums


def _rank(item: tuple[Any, int]) -> tuple[int, str, Any]:
    """Say how a value is ranked: by its count, then by itself, whatever its type."""
    value, count = item
    return -count, type(value).__name__, value


def _at_rank(buckets: Sequence[tuple[int, int]], rank: int) -> int:
    for bucket, count in buckets:
        rank -= count
        if rank < 0:
            return bucket
    raise AssertionError("a rank is below the number of values")


@lru_cache(16_384)
def _bucket(value: float) -> int:
    """Return in which bucket a value is: 0 has its own, and the others are in their order."""
    mapping, least = _mapping()
    size = abs(value)
    if size <= mapping.min_possible:
        return 0
    bucket: int = mapping.key(min(size, mapping.max_possible)) - least
    return bucket if value > 0 else -bucket


def _value(bucket: int) -> float:
    """Return a value that is within the relative error of all in a bucket."""
    if bucket == 0:
        return 0.0
    mapping, least = _mapping()
    size: float = mapping.value(abs(bucket) + least)
    return size if bucket > 0 else -size


@lru_cache(1)
def _mapping() -> tuple[KeyMapping, int]:
    """Return what gives a positive number a key, and the number below all keys."""
    try:
        from ddsketch.mapping import LogarithmicMapping  # noqa: PLC0415 - an optional library
    except ImportError as error:
        raise UsageError(f"Quantiles need ddsketch: {how_to_install('analytics')}") from error
    mapping = LogarithmicMapping(RELATIVE_ERROR)
    return mapping, mapping.key(mapping.min_possible) - 1


@lru_cache(1)
def _datasketches() -> Any:
    try:
        return import_module("datasketches")  # which tells type checkers nothing
    except ImportError as error:
        raise UsageError(f"Distinct needs datasketches: {how_to_install('analytics')}") from error
