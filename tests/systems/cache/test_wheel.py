"""The timing wheel: everything ends, nothing too early, and no call does more than it may."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent99.systems.cache._entry import Entry
from agent99.systems.cache._wheel import TICK_US, Wheel

NOW_US = 1_800_000_000_000_000
YEAR_US = 365 * 86_400 * 1_000_000


def make_entry(key: str, expires_us: int) -> Entry:
    """Make an entry of which only the end matters."""
    return Entry(
        key=key,
        partition=0,
        version=1,
        value=b"",
        kind=0,
        expires_us=expires_us,
        fresh_us=0,
        cost_us=0,
        tags=(),
        is_deleted=False,
    )


def spans(until_us: int) -> st.SearchStrategy[int]:
    """Draw spans of every magnitude: each level of the wheel is met."""
    magnitudes = [10**power for power in range(3, 20) if 10**power <= until_us]
    return st.sampled_from(magnitudes).flatmap(lambda top: st.integers(0, top))


class WheelMachine(RuleBasedStateMachine):
    """The wheel beside a dict of ends."""

    def __init__(self) -> None:
        super().__init__()
        self.wheel = Wheel()
        self.now_us = NOW_US
        self.entries: dict[str, Entry] = {}
        self.count = 0

    @rule(span_us=spans(20 * YEAR_US))
    def add(self, span_us: int) -> None:
        self.count += 1
        entry = make_entry(f"ns:{self.count}", self.now_us + span_us)
        self.wheel.add(entry, self.now_us)
        self.entries[entry.key] = entry

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.entries:
            key = data.draw(st.sampled_from(sorted(self.entries)))
            self.wheel.remove(self.entries.pop(key))

    @rule(span_us=spans(15 * YEAR_US), limit=st.integers(1, 20))
    def advance(self, span_us: int, limit: int) -> None:
        self.now_us += span_us
        due = self.wheel.advance(self.now_us, limit)
        assert len(due) <= limit
        for entry in due:
            assert self.entries.pop(entry.key).expires_us <= self.now_us

    @rule()
    def catch_up(self) -> None:
        while self.wheel.is_behind(self.now_us):
            for entry in self.wheel.advance(self.now_us, 1_000):
                assert self.entries.pop(entry.key).expires_us <= self.now_us
        late = [one for one in self.entries.values() if one.expires_us <= self.now_us - TICK_US]
        assert late == []

    @invariant()
    def holds_what_is_left(self) -> None:
        assert len(self.entries) == len(self.wheel)
        assert all(entry in (entry.slot or ()) for entry in self.entries.values())


TestWheelMachine = WheelMachine.TestCase


def test_a_clock_that_goes_back_ends_nothing() -> None:
    """What is due by an earlier moment than before was taken down before."""
    wheel = Wheel()
    wheel.add(make_entry("ns:a", NOW_US + TICK_US), NOW_US)
    assert wheel.advance(NOW_US - YEAR_US, 1_000) == []
    assert not wheel.is_behind(NOW_US - YEAR_US)
    assert len(wheel.advance(NOW_US + 2 * TICK_US, 1_000)) == 1


def test_what_has_ended_already_is_due_at_the_next_tick() -> None:
    """An entry may be hung up after its end: it is taken down a tick later."""
    wheel = Wheel()
    wheel.add(make_entry("ns:a", NOW_US - YEAR_US), NOW_US)
    assert len(wheel.advance(NOW_US + TICK_US, 1_000)) == 1


def test_years_of_nothing_are_leapt_over() -> None:
    """A clock that leaps by years costs few steps: rounds in which nothing hangs are skipped."""
    wheel = Wheel()
    wheel.add(make_entry("ns:a", NOW_US + 10 * YEAR_US), NOW_US)
    assert len(wheel.advance(NOW_US + 11 * YEAR_US, 1_000)) == 1


def test_a_closed_wheel_lets_go() -> None:
    """Slots hold entries and entries their slots: closing cuts both."""
    wheel = Wheel()
    entry = make_entry("ns:a", NOW_US)
    wheel.add(entry, NOW_US)
    wheel.close()
    assert entry.slot is None
    assert len(wheel) == 0


@pytest.mark.slow
def test_a_million_that_end_at_once_are_taken_in_slices() -> None:
    """No call takes down more than its limit, however many are due."""
    wheel = Wheel()
    for number in range(1_000_000):
        wheel.add(make_entry(f"ns:{number}", NOW_US + 30_000_000), NOW_US)
    now_us, slices, ended = NOW_US + 30_000_000, 0, 0
    while wheel.is_behind(now_us):
        due = len(wheel.advance(now_us, 1_000))
        assert due <= 1_000
        ended += due
        slices += 1
    assert ended == 1_000_000
    assert slices <= 2_500
