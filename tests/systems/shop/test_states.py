"""The order's state table, against what it must never allow."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.shop import _states
from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._states import (
    ENDS,
    FINAL,
    INITIAL,
    TRANSITIONS,
    OrderEvent,
    OrderState,
    legal_events,
    state_after,
)


@given(st.lists(st.sampled_from(OrderEvent), max_size=12))
def test_any_sequence_of_events_keeps_to_the_rules(events: list[OrderEvent]) -> None:
    """Only legal steps happen, and money and stock come in the order that they must."""
    state = INITIAL
    path = [state]
    for event in events:
        if event not in legal_events(state):
            with pytest.raises(IllegalTransitionError) as caught:
                state_after(state, event)
            assert (state, event) == (caught.value.state, caught.value.event)
            assert legal_events(state) == caught.value.legal
            continue
        after = state_after(state, event)
        assert after is TRANSITIONS[state, event]
        state = after
        path.append(state)
    assert len(path) == len(set(path)), "no state comes twice"
    if OrderState.CONFIRMED in path:
        assert OrderState.PAID in path
    if OrderState.PAID in path:
        assert OrderState.RESERVED in path
        assert OrderState.REJECTED not in path, "what is paid is not thrown away"


def test_an_order_ends_confirmed_or_not() -> None:
    """Every other state can reach one in which an order stays; what is not confirmed is over."""
    assert {OrderState.REJECTED, OrderState.CANCELLED} == FINAL
    assert {OrderState.CONFIRMED} == ENDS - FINAL
    assert (OrderEvent.CANCEL,) == legal_events(OrderState.CONFIRMED)
    reaches = set(ENDS)
    for _ in OrderState:
        reaches |= {before for (before, _), after in TRANSITIONS.items() if after in reaches}
    assert set(OrderState) == reaches


def test_every_state_is_reachable() -> None:
    """No state stands in the list alone."""
    seen = {INITIAL}
    for _ in OrderState:
        seen |= {after for (before, _), after in TRANSITIONS.items() if before in seen}
    assert set(OrderState) == seen


def test_an_illegal_event_says_what_is_legal() -> None:
    """The error names the state, the event and the events that would do."""
    with pytest.raises(IllegalTransitionError, match="it may take confirm"):
        state_after(OrderState.PAID, OrderEvent.DECLINE)
    with pytest.raises(IllegalTransitionError, match="the state is final"):
        state_after(OrderState.CANCELLED, OrderEvent.PAY)


def test_the_document_draws_the_table() -> None:
    """The block in the README is made from the table: run this to see what it must be."""
    lines: list[str] = []
    for state in OrderState:
        events = [
            f"{event} → {after}"
            for (before, event), after in TRANSITIONS.items()
            if before is state
        ]
        lines.append(f"{state:<17}{', '.join(events) or '(final)'}")
    readme = (Path(_states.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert "```\n" + "\n".join(lines) + "\n```" in readme
