"""The moments of rules, against models that count one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.schedules import At, Every
from agent99.schedules._rule import SKIPPED_US, next_after, turn_of

S = 1_000_000
MOMENTS = st.integers(min_value=0, max_value=400 * S)
PERIODS = st.integers(min_value=S, max_value=50 * S)


def counted(rule: Every, after_us: int) -> int:
    """Return the first moment of a period after `after_us`, one by one."""
    moment_us = rule.start_us
    while moment_us <= after_us:
        moment_us += rule.period_us
    return moment_us


@given(MOMENTS, MOMENTS)
def test_one_moment_comes_once(at_us: int, after_us: int) -> None:
    """A single moment is the next one until it has come, and then there is none."""
    assert next_after(At(at_us), after_us) == (at_us if after_us < at_us else None)


@given(PERIODS, MOMENTS, MOMENTS)
def test_a_period_does_not_drift(period_us: int, start_us: int, after_us: int) -> None:
    """The moments of a period are its start and what lies whole periods after it, and no others."""
    rule = Every(period_us, start_us)
    assert counted(rule, after_us) == next_after(rule, after_us)


@given(PERIODS, MOMENTS, st.lists(st.integers(0, 60 * S), max_size=30))
def test_who_looks_now_and_then_fires_all_or_once(
    period_us: int, start_us: int, pauses: list[int]
) -> None:
    """Looking at any times fires each moment once, or one moment for all that a pause went over."""
    rule, due_us, now_us = Every(period_us, start_us), start_us, start_us
    dues: list[int] = []
    for pause_us in pauses:
        now_us += pause_us
        if due_us > now_us:
            continue
        turn = turn_of(rule, "once", due_us, now_us)
        assert turn.is_fired
        dues.append(due_us)
        assert turn.next_us is not None
        assert now_us < turn.next_us <= now_us + period_us
        assert 0 == (turn.next_us - start_us) % period_us
        due_us = turn.next_us
    assert sorted(set(dues)) == dues


@pytest.mark.parametrize(
    ("late_us", "is_fired"), [(0, True), (SKIPPED_US, True), (SKIPPED_US + 1, False)]
)
def test_what_is_skipped(late_us: int, is_fired: bool) -> None:
    """With `skip`, a moment that is more than 10 s past is passed by; the next one is not."""
    rule = Every(3600 * S, 0)
    turn = turn_of(rule, "skip", 3600 * S, 3600 * S + late_us)
    assert (is_fired, 7200 * S) == turn


def test_who_looks_twice_fires_the_same() -> None:
    """Whoever looks later at the same moment goes on with a later one, and fires the same one."""
    rule = Every(10 * S, 0)
    assert (True, 20 * S) == turn_of(rule, "once", 10 * S, 10 * S)
    assert (True, 50 * S) == turn_of(rule, "once", 10 * S, 49 * S)
    assert (True, None) == turn_of(At(10 * S), "once", 10 * S, 99 * S)
