"""So much at once, so much waiting, and no more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent99.dispatch import Admission

actions = st.lists(st.sampled_from(["arrive", "finish"]), max_size=60)


@given(actions, st.integers(1, 4), st.integers(0, 4))
def test_it_agrees_with_a_naive_model(moves: list[str], running: int, waiting: int) -> None:
    """Arrivals run, wait or are refused; each end starts the one that waited longest."""
    admission: Admission[int] = Admission(concurrency_max=running, waiting_max=waiting)
    model_running, model_waiting = 0, []
    for number, move in enumerate(moves):
        if move == "arrive":
            if admission.enter():
                assert model_running < running
                model_running += 1
            elif admission.wait(number):
                assert (model_running, len(model_waiting) < waiting) == (running, True)
                model_waiting.append(number)
            else:
                assert (model_running, len(model_waiting)) == (running, waiting)
        elif model_running:
            admission.leave()
            model_running -= 1
            following = admission.next()
            if model_waiting:
                assert following == model_waiting.pop(0)
                model_running += 1
            else:
                assert following is None
        assert (admission.in_flight, admission.waiting) == (model_running, len(model_waiting))


def test_it_is_readable() -> None:
    """Its representation tells how full it is."""
    admission: Admission[int] = Admission(concurrency_max=2, waiting_max=1)
    admission.enter()
    assert repr(admission) == "Admission(in_flight=1/2, waiting=0/1)"
