"""The meter counts every record, within its bounds."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent99.observe import (
    LATENCY_BOUNDS_S,
    ConnectionChanged,
    HandlerBroke,
    Hooks,
    InstanceEjected,
    Load,
    LoopBlocked,
    MessageDropped,
    Meter,
    RequestFinished,
    RequestRetried,
)
from agent99.observe._meter import MORE, SERIES_MAX
from tests.observe._records import EVENT, INSTANCE, finished, one_of_each

records = st.builds(
    finished,
    side=st.sampled_from(["caller", "callee"]),
    agent=st.sampled_from("ab"),
    target=st.sampled_from("cd"),
    operation=st.sampled_from("ef"),
    code=st.sampled_from(["OK", "NO_AGENT"]),
    kind=st.sampled_from(["request", "event", "control"]),
    duration_s=st.sampled_from(LATENCY_BOUNDS_S) | st.floats(0, 100),
)


def _tell(hooks: Hooks, record: Any) -> None:
    for slot, kind in _TYPES.items():
        tell = getattr(hooks, slot)
        if tell is not None and type(record) is kind:
            tell(record)


_TYPES = {
    "finished": RequestFinished,
    "dropped": MessageDropped,
    "retried": RequestRetried,
    "ejected": InstanceEjected,
    "broke": HandlerBroke,
    "connection": ConnectionChanged,
    "blocked": LoopBlocked,
}


@given(st.lists(records, max_size=30))
def test_counts_are_those_of_a_plain_count(told: list[RequestFinished]) -> None:
    """Counts, buckets and sums of every label are what counting the records one by one gives."""
    hooks = Hooks()
    meter = Meter(hooks)
    for record in told:
        _tell(hooks, record)
    labels = {
        "callee": lambda one: (one.kind, one.agent, one.operation, one.code),
        "caller": lambda one: (one.target, one.operation, one.code),
    }
    for side, series in (("callee", meter.served()), ("caller", meter.asked())):
        expected: Counter[tuple[tuple[str, ...], int]] = Counter()
        seconds: Counter[tuple[str, ...]] = Counter()
        for record in told:
            if record.side == side:
                key = labels[side](record)
                expected[key, bisect_left(LATENCY_BOUNDS_S, record.duration_s)] += 1
                seconds[key] += record.duration_s
        found = {
            (one.labels, place): count
            for one in series
            for place, count in enumerate(one.buckets)
            if count
        }
        assert expected == found
        assert {one.labels: one.seconds for one in series} == seconds
        assert sum(expected.values()) == sum(one.count for one in series)


def test_everything_else_is_counted() -> None:
    """Drops, retries, ejections, broken operations, reconnects, loads, blocks are counted."""
    hooks = Hooks()
    meter = Meter(hooks)
    assert meter.is_connected is None
    for record in (*one_of_each(), MessageDropped("late_answer", count=3)):
        _tell(hooks, record)
    _tell(hooks, InstanceEjected("stock", INSTANCE, "it answers", is_back=True))
    assert {("stock", "stale"): 1, ("", "late_answer"): 3} == meter.dropped()
    assert {("inventory", "reserve", "OVERLOADED"): 1} == meter.retried()
    assert {("stock",): 1} == meter.ejected()
    assert {("stock", "reserve"): 1} == meter.broke()
    assert (1, False) == (meter.reconnects, meter.is_connected)
    _tell(hooks, LoopBlocked(1.5, ""))
    assert (2, 4.0) == (meter.blocks, meter.blocked_s)
    _tell(hooks, ConnectionChanged("connected", reconnects=2))
    assert (2, True) == (meter.reconnects, meter.is_connected)
    load = Load("stock", INSTANCE, 2, 1)
    hooks.add_load(lambda: load)
    assert [load] == meter.loads()
    assert "Meter(served=1, asked=0)" == repr(meter)


def test_labels_are_bounded_and_no_record_is_lost() -> None:
    """Whoever makes up names fills one row for the rest, not the memory."""
    hooks = Hooks()
    meter = Meter(hooks)
    for place in range(SERIES_MAX + 50):
        _tell(hooks, finished(operation=f"made-up-{place}"))
        _tell(hooks, MessageDropped(f"made-up-{place}"))
    served = {one.labels: one.count for one in meter.served()}
    assert SERIES_MAX + 1 == len(served) == len(meter.dropped())
    assert 50 == served[MORE, MORE, MORE, MORE] == meter.dropped()[MORE, MORE]


def test_closed_meter_hears_nothing() -> None:
    """A meter that is closed leaves the hooks as they were, and keeps its counts."""
    hooks = Hooks()
    meter = Meter(hooks)
    _tell(hooks, finished(event_id=EVENT))
    meter.close()
    meter.close()
    assert "Hooks()" == repr(hooks)
    assert [1] == [one.count for one in meter.served()]
