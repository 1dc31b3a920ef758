"""How often what died is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent99.cli._budget import RestartBudget


@given(st.lists(st.floats(0.0, 40.0), max_size=60))
def test_never_more_in_any_window_than_granted(gaps: list[float]) -> None:
    """The model: count the grants of the last window; the delay doubles with each of them."""
    budget = RestartBudget(restarts_max=4, window_s=30.0, delay_s_min=0.5, delay_s_max=3.0)
    now_s = 0.0
    granted: list[float] = []
    for gap in gaps:
        now_s += gap
        recent = [moment for moment in granted if moment > now_s - 30.0]
        delay_s = budget.next_delay_s(now_s)
        if len(recent) >= 4:
            assert delay_s is None
        else:
            assert delay_s == min(0.5 * 2.0 ** len(recent), 3.0)
            granted.append(now_s)


def test_its_repr_says_how_much_is_used() -> None:
    """For logs."""
    budget = RestartBudget()
    budget.next_delay_s(0.0)
    assert repr(budget) == "RestartBudget(1 of 5 in 60 s)"
