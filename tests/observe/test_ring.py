"""The ring keeps the newest records and finds a trace by any name of it."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent99.observe import Hooks, RequestFinished, Ring
from tests.observe._records import finished, make_trace


def _tell(hooks: Hooks, *records: RequestFinished) -> None:
    for record in records:
        assert hooks.finished is not None
        hooks.finished(record)


@given(st.integers(1, 8), st.integers(0, 20))
def test_newest_records_are_kept(size_max: int, count: int) -> None:
    """A ring holds as many as it may, the newest."""
    hooks = Hooks()
    ring = Ring(hooks, size_max=size_max)
    traces = [make_trace(place, 1)[0].served for place in range(count)]
    _tell(hooks, *traces)
    assert f"Ring({min(size_max, count)}/{size_max})" == repr(ring)
    assert min(size_max, count) == len(ring)
    found = [ring.find(record.trace_id) for record in traces]
    kept = traces[-size_max:] if count else []
    assert [[record] if record in kept else [] for record in traces] == found


@given(st.integers(0, 1_000), st.integers(1, 6))
def test_trace_is_found_by_its_id_and_by_every_request_in_it(seed: int, size: int) -> None:
    """A trace's own id, in either form, and each request's id name the whole trace and no other."""
    hooks = Hooks()
    ring = Ring(hooks)
    made, other = make_trace(seed, size), make_trace(seed + 5_000, 3)
    records = [record for asked in made for record in (asked.sent, asked.served)]
    _tell(hooks, *records, *(asked.served for asked in other))
    trace_id = made[0].served.trace_id
    for name in (trace_id, trace_id.upper(), *(asked.event_id for asked in made)):
        assert records == ring.find(name)
    assert [] == ring.find("nobody")


def test_closed_ring_keeps_what_it_has() -> None:
    """A ring that is closed listens no longer."""
    hooks = Hooks()
    ring = Ring(hooks)
    _tell(hooks, finished())
    ring.close()
    ring.close()
    assert hooks.finished is None
    assert 1 == len(ring)


def test_records_travel() -> None:
    """A record comes back whole from JSON: other processes are asked for theirs."""
    record = finished(side="caller", parent_span_id="1" * 16, code="NO_AGENT", attempt=3)
    assert record == msgspec.json.decode(msgspec.json.encode(record), type=RequestFinished)
