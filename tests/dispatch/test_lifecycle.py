"""An instance's life goes along one table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.dispatch import Lifecycle, LifecycleEvent, State
from agent99.dispatch._lifecycle import TRANSITIONS
from agent99.errors import UsageError


@given(st.lists(st.sampled_from(LifecycleEvent), max_size=30))
def test_only_transitions_of_the_table_happen(events: list[LifecycleEvent]) -> None:
    """Whatever is fired, the state moves along the table or stays; listeners hear each change."""
    lifecycle, heard = Lifecycle(), []
    lifecycle.on_change(heard.append)
    expected, changes = State.CREATED, []
    for event in events:
        target = TRANSITIONS[expected].get(event)
        if target is None:
            with pytest.raises(UsageError):
                lifecycle.fire(event)
            continue
        assert lifecycle.fire(event) == (target is not expected)
        if target is not expected:
            changes.append(target)
        expected = target
    assert lifecycle.state is expected
    assert heard == changes


def test_nothing_leaves_the_end() -> None:
    """A stopped instance stays stopped."""
    assert set(TRANSITIONS[State.STOPPED].values()) == {State.STOPPED}


def test_every_state_has_its_row() -> None:
    """The table is whole, and every state but the first can be reached."""
    assert set(TRANSITIONS) == set(State)
    reached = {target for row in TRANSITIONS.values() for target in row.values()}
    assert reached == set(State) - {State.CREATED}


@pytest.mark.parametrize("event", [LifecycleEvent.PAUSE, LifecycleEvent.RESUME])
def test_pausing_and_resuming_are_idempotent(event: LifecycleEvent) -> None:
    """The second time changes nothing and is no error."""
    lifecycle = Lifecycle()
    lifecycle.fire(LifecycleEvent.START)
    lifecycle.fire(LifecycleEvent.STARTED)
    lifecycle.fire(event)
    assert lifecycle.fire(event) is False


def test_what_cannot_happen_is_said() -> None:
    """The error names the state and the event."""
    with pytest.raises(UsageError, match="created cannot pause"):
        Lifecycle().fire(LifecycleEvent.PAUSE)
    assert repr(Lifecycle()) == "Lifecycle(created)"
