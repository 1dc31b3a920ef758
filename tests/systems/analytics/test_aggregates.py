"""Figures: exact, or within an error that is stated; the same for any grouping of the records."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.errors import BadRequestError, UsageError
from agent99.systems.analytics import (
    Aggregate,
    Count,
    Distinct,
    Max,
    Mean,
    Min,
    Quantiles,
    Rate,
    Sum,
    TopK,
    Variance,
)

INTEGERS = st.integers(-(2**63), 2**63 - 1)
ORDER_FREE: tuple[Aggregate, ...] = (
    *(Count(), Rate(), Sum("a"), Min("a"), Max("a"), Mean("a"), Variance("a")),
    *(Distinct("a"), Quantiles("a")),
)
"""Whose states are the same for any grouping. That of TopK is, while it is within its capacity."""


def _state(aggregate: Aggregate, values: Sequence[Any]) -> Any:
    return aggregate.fold(len(values), *([values] if aggregate.columns else []))


@given(
    st.sampled_from((*ORDER_FREE, TopK("a"))),
    st.lists(st.none() | INTEGERS, min_size=1),
    st.randoms(use_true_random=False),
)
def test_a_state_does_not_depend_on_the_grouping(
    aggregate: Aggregate, values: list[int | None], order: Any
) -> None:
    """Whatever the parts and the order in which they merge, the state is that of all at once."""
    whole = _state(aggregate, values)
    order.shuffle(values)
    parts = [_state(aggregate, [value]) for value in values]
    assert aggregate.merge(parts) == whole
    while len(parts) > 1:  # and so on, by pairs
        one, other = parts.pop(order.randrange(len(parts))), parts.pop()
        parts.append(aggregate.merge([one, other]))
    assert parts == [whole]


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 60_000), st.integers(2, 9), st.integers(0, 2**32))
def test_distinct_is_the_same_for_any_grouping(different: int, parts: int, salt: int) -> None:
    """Also when a sketch is full, merging in any grouping makes the same bytes; within 4 %."""
    distinct = Distinct("a")
    values = [f"{salt}.{n}" for n in range(different)]
    whole = _state(distinct, values)
    states = [_state(distinct, values[n::parts]) for n in range(min(parts, different))]
    left, right = states[: len(states) // 2], states[len(states) // 2 :]
    assert distinct.merge(states) == distinct.merge(states[::-1]) == whole
    if left:
        assert distinct.merge([distinct.merge(right), distinct.merge(left)]) == whole
    shown = distinct.show(whole, 1.0)
    # Five times the standard error: once in two million cases it is more.
    assert shown == different if different <= 16_384 else abs(shown / different - 1) < 0.04


@pytest.mark.parametrize(
    "values",
    [
        ["", "a", "", "\0"],
        [0, -(2**63), 2**63 - 1, 0],
        [0.0, -0.0, 1.5, 1e308],
        [True, False, True],
        [None, "a", None],
    ],
)
def test_distinct_tells_all_scalars_apart(values: list[Any]) -> None:
    """An empty text is a value as others are; None is none."""
    distinct = Distinct("a")
    shown = distinct.show(_state(distinct, values), 1.0)
    assert shown == len(set(values) - {None})


def test_distinct_takes_no_integer_that_it_would_cut_off() -> None:
    """An integer of more than 64 bits is refused: the sketch would take several for one."""
    with pytest.raises(BadRequestError, match="64 bits"):
        _state(Distinct("a"), [2**63])


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1), min_size=1, max_size=6),
    st.integers(1, 5),
)
def test_what_topk_gives_up_is_bounded(batches: list[list[str]], capacity: int) -> None:
    """Beyond its capacity a count is too low by at most the total / (capacity + 1), never high."""
    top = TopK("a", 1, capacity=capacity)
    state = _state(top, batches[0])
    for batch in batches[1:]:
        state = top.merge([state, _state(top, batch)])
    lost, counts = state
    exact = Counter(value for batch in batches for value in batch)
    assert len(counts) <= capacity
    assert lost <= exact.total() / (capacity + 1)
    for value, count in exact.items():
        assert 0 <= count - counts.get(value, 0) <= lost
    if len(exact) <= capacity:
        assert state == [0, dict(exact)]


def test_topk_ranks_by_weight_then_by_value() -> None:
    """The greatest sums come first, equal ones in the order of the values; None has no part."""
    top = TopK("a", 3, weight="b")
    state = top.fold(6, ["c", "b", "a", None, "a", "d"], [4, 5, 2, 9, 3, None])
    assert top.show(state, 1.0) == [["a", 5], ["b", 5], ["c", 4]]
    with pytest.raises(BadRequestError, match="'a' is -1"):
        top.fold(1, ["a"], [-1])


FLOATS = st.floats(-1e308, 1e308).filter(lambda value: value == 0 or abs(value) > 1e-307)


@given(st.lists(FLOATS | st.integers(-1000, 1000), min_size=1), st.floats(0, 1))
def test_a_quantile_is_within_a_hundredth(values: list[float], fraction: float) -> None:
    """A quantile is within 1 % of the value that has its rank, whatever its sign and size."""
    quantiles = Quantiles("a", (fraction,))
    shown = quantiles.show(_state(quantiles, values), 1.0)
    assert shown is not None
    at_rank = sorted(values)[int(fraction * (len(values) - 1))]
    assert math.isclose(shown[str(fraction)], at_rank, rel_tol=0.010_000_1)


def test_quantiles_bear_the_smallest_and_the_largest() -> None:
    """What is too small for a bucket of its own is 0, what is too large is in the last one."""
    quantiles = Quantiles("a", (0, 0.5, 1))
    shown = quantiles.show(_state(quantiles, [-sys.float_info.max, 5e-324, 10**400]), 1.0)
    assert shown is not None
    assert shown == {"0": -shown["1"], "0.5": 0.0, "1": pytest.approx(1.75e308, rel=0.03)}
    assert quantiles.show(_state(quantiles, [None]), 1.0) is None


def test_sums_are_exact_however_large() -> None:
    """Mean and variance come from integers without a bound, and are rounded once."""
    values = [2**62 + 1, 2**62 + 3, None]
    assert Sum("a").show(_state(Sum("a"), values), 1.0) == 2**63 + 4
    assert Mean("a").show(_state(Mean("a"), values), 1.0) == float(2**62 + 2)
    assert Variance("a").show(_state(Variance("a"), values), 1.0) == 1.0
    for empty in (Mean("a"), Variance("a"), Min("a"), Max("a")):
        assert empty.show(_state(empty, [None]), 1.0) is None
    assert Sum("a").show(_state(Sum("a"), [None]), 1.0) == 0


def test_a_rate_is_per_second_of_the_window() -> None:
    """The number of records, by the window's length in seconds."""
    assert Rate().show(Rate().merge([3, 4]), 2.0) == 3.5


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (TopK, {"k": 0}),
        (TopK, {"k": 1.5}),
        (TopK, {"k": 10, "capacity": 9}),
        (Quantiles, {"fractions": ()}),
        (Quantiles, {"fractions": 0.5}),
        (Quantiles, {"fractions": (0.5, 1.1)}),
        (Quantiles, {"fractions": ("0.5",)}),
        (Quantiles, {"fractions": (float("nan"),)}),
    ],
)
def test_a_figure_that_cannot_be_is_refused(kind: Any, wrong: dict[str, Any]) -> None:
    """A figure's options are checked where it is written."""
    with pytest.raises(UsageError):
        kind("a", **wrong)
