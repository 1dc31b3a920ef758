"""When a server that died is started again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent99.embedded._backoff import DELAY_FIRST_S, DELAY_MAX_S, HEALTHY_S, Backoff


def test_the_first_death_is_answered_at_once() -> None:
    """A server that dies for the first time is started without delay."""
    assert 100.0 == Backoff(0.0).restart_at_s(100.0)


def test_deaths_in_a_row_wait_longer_and_longer() -> None:
    """The delay doubles up to its bound."""
    backoff = Backoff(0.0)
    delays = [backoff.restart_at_s(1.0) - 1.0 for _ in range(9)]
    rounded = [round(delay, 3) for delay in delays]
    assert [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0] == rounded


def test_a_server_that_ran_well_starts_a_new_row() -> None:
    """Ten good seconds forgive what was before."""
    backoff = Backoff(0.0)
    for _ in range(5):
        backoff.restart_at_s(1.0)
    backoff.started(2.0)
    assert 2.0 + HEALTHY_S == backoff.restart_at_s(2.0 + HEALTHY_S)


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 60)), max_size=50))
def test_the_delay_stays_within_its_bounds(steps: list[tuple[float, float]]) -> None:
    """Whatever happens, a restart is never before the death nor later than the bound after it."""
    now_s = 0.0
    backoff = Backoff(now_s)
    for ran_s, away_s in steps:
        now_s += ran_s
        moment_s = backoff.restart_at_s(now_s)
        assert now_s <= moment_s <= now_s + DELAY_MAX_S
        assert DELAY_FIRST_S <= backoff.delay_s <= DELAY_MAX_S
        now_s = moment_s + away_s
        backoff.started(now_s)
