"""Whether a value is good is decided by its moments alone; early refresh by those and a lot."""

from __future__ import annotations

from math import exp

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent99.systems.cache._fresh import Freshness, freshness, is_due_early

_moments = st.integers(1, 10**16)


@pytest.mark.parametrize(
    ("now_us", "fresh_us", "expires_us", "expected"),
    [
        (10**16, 0, 0, Freshness.FRESH),
        (9, 10, 20, Freshness.FRESH),
        (10, 10, 20, Freshness.STALE),
        (19, 10, 20, Freshness.STALE),
        (20, 10, 20, Freshness.GONE),
        (19, 0, 20, Freshness.FRESH),
        (20, 0, 20, Freshness.GONE),
        (10**16, 10, 0, Freshness.STALE),
        (20, 30, 20, Freshness.GONE),
        (19, 30, 20, Freshness.FRESH),
    ],
)
def test_a_value_is_fresh_then_stale_then_gone(
    now_us: int, fresh_us: int, expires_us: int, expected: Freshness
) -> None:
    """Each state begins at its very moment; 0 means that it does not come; gone beats stale."""
    assert expected is freshness(now_us, fresh_us, expires_us)


@given(_moments, _moments, st.integers(0, 10**16), st.integers(0, 10**16))
def test_a_value_never_gets_better(
    earlier: int, later: int, fresh_us: int, expires_us: int
) -> None:
    """As time goes on, a value goes from fresh to stale to gone, and never back."""
    order = list(Freshness)
    first, second = sorted((earlier, later))
    states = [order.index(freshness(now, fresh_us, expires_us)) for now in (first, second)]
    assert sorted(states) == states


@given(
    gap_us=st.integers(1, 10**8),
    cost_us=st.integers(1, 10**8),
    beta=st.floats(0.1, 10),
    draw=st.floats(0, 1, exclude_min=True),
)
def test_the_chance_falls_exponentially_with_the_distance(
    gap_us: int, cost_us: int, beta: float, draw: float
) -> None:
    """A reader refreshes early with the chance e^(-distance / (cost * beta)): XFetch's rule."""
    chance = exp(-gap_us / (cost_us * beta))
    assume(abs(draw - chance) > 1e-9 * max(draw, chance))
    end_us = 10**15
    assert (draw < chance) is is_due_early(end_us - gap_us, end_us, cost_us, beta, draw)


@given(now_us=_moments, end_us=_moments, draw=st.floats(0, 1, exclude_min=True))
def test_without_a_cost_it_is_due_at_the_end(now_us: int, end_us: int, draw: float) -> None:
    """What costs nothing, or with beta 0, is due when it stops being fresh, not before."""
    assert (now_us >= end_us) is is_due_early(now_us, end_us, 0, 1.0, draw)
    assert (now_us >= end_us) is is_due_early(now_us, end_us, 10**9, 0.0, draw)


@given(now_us=_moments, draw=st.floats(0, 1, exclude_min=True))
def test_what_stays_fresh_is_never_due(now_us: int, draw: float) -> None:
    """A value without an end is never computed anew for its age."""
    assert not is_due_early(now_us, 0, 10**9, 1.0, draw)
