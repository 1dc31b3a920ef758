"""A trace's tree, against a model that knows it from the start."""

from __future__ import annotations

import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.observe import (
    RequestFinished,
    Row,
    draw_trace,
    lay_out_trace,
    sent_trace,
    served_trace,
)
from agent99.observe._tree import DEPTH_MAX
from tests.observe._records import EVENT, Asked, finished, make_trace


def _parents(rows: list[Row]) -> dict[str, str]:
    """Return what each request hangs beneath: another, a missing span, or nothing."""
    path: list[str] = []
    found: dict[str, str] = {}
    for row in rows:
        assert len(path) >= row.depth
        del path[row.depth :]
        name = row.hop.event_id if row.hop is not None else row.span_id
        if row.hop is not None:
            found[name] = path[-1] if path else ""
        path.append(name)
    return found


def _expected(made: list[Asked], kept: set[RequestFinished]) -> dict[str, str]:
    by_id = {asked.event_id: asked for asked in made}
    parents: dict[str, str] = {}
    for asked in made:
        if not kept & {asked.sent, asked.served}:
            continue
        if asked.sent not in kept or not asked.maker:
            parents[asked.event_id] = ""  # nobody knows who made it, or nobody did
        elif by_id[asked.maker].served in kept:
            parents[asked.event_id] = asked.maker
        else:
            parents[asked.event_id] = asked.sent.parent_span_id
    return parents


@given(st.integers(0, 10_000), st.integers(1, 25), st.floats(0, 1))
def test_tree_is_the_one_that_was_made(seed: int, size: int, share: float) -> None:
    """Whatever records are lost, doubled and shuffled, each request hangs where it was made."""
    chance = random.Random(seed)
    made = make_trace(seed, size)
    records = [record for asked in made for record in (asked.sent, asked.served)]
    kept = [record for record in records if chance.random() <= share]
    given_in = [*kept, *chance.choices(kept, k=3)] if kept else []
    chance.shuffle(given_in)
    rows = lay_out_trace(given_in)
    assert _expected(made, set(kept)) == _parents(rows)
    shown = sum(row.hop is not None for row in rows)
    assert shown == len({record.event_id for record in kept})
    assert rows == lay_out_trace(kept)
    lines = draw_trace(given_in).splitlines()
    assert len(rows) == len(lines) - 1
    text = "\n".join(lines)
    for asked in made:
        is_asked, is_served = asked.sent in kept, asked.served in kept
        line = next((one for one in lines if f"{asked.sent.target}.reserve " in one), "")
        assert bool(line) == (is_asked or is_served)
        assert ("? no record of who asked" in line) == (is_served and not is_asked)
        assert ("? no record of who served it" in line) == (is_asked and not is_served)
        missing = asked.sent.parent_span_id
        is_gap = missing and missing in _expected(made, set(kept)).values()
        assert bool(is_gap) == bool(missing and f"? span {missing} is missing" in text)


@given(st.integers(0, 10_000), st.integers(2, 25))
def test_siblings_stand_by_time(seed: int, size: int) -> None:
    """Requests made by one operation are drawn in the order in which they began."""
    made = make_trace(seed, size)
    rows = lay_out_trace([record for asked in made for record in (asked.sent, asked.served)])
    parents = _parents(rows)
    hops = [row.hop for row in rows if row.hop is not None]
    for parent in set(parents.values()):
        children = [hop for hop in hops if parents[hop.event_id] == parent]
        assert all(one.started_us <= other.started_us for one, other in pairwise(children))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_forged_records_are_drawn_once_each(links: list[tuple[int, int]]) -> None:
    """Records whose parents go round in circles lose nothing and never hang."""
    records = []
    for child, parent in links:
        event_id = f"event-{child}"
        above = served_trace(f"event-{parent}", None, "x").span_id
        records.append(finished(side="caller", event_id=event_id, parent_span_id=above))
        records.append(finished(event_id=event_id, instance="x"))
    rows = lay_out_trace(records)
    shown = sorted(row.hop.event_id for row in rows if row.hop is not None)
    assert sorted({record.event_id for record in records}) == shown


def test_deep_trace_is_drawn() -> None:
    """A trace of any depth is laid out; beneath the deepest level drawn the rest hangs together."""
    records = []
    above = None
    for place in range(DEPTH_MAX * 4):
        event_id = f"event-{place:04}"
        sent = sent_trace(event_id, above)
        common = {"event_id": event_id, "traceparent": sent.traceparent}
        parent = above.span_id if above is not None else ""
        records.append(finished(side="caller", parent_span_id=parent, **common))
        records.append(finished(instance="x", **common))
        above = served_trace(event_id, sent.traceparent, "x")
    rows = lay_out_trace(records)
    assert DEPTH_MAX * 4 == len(rows)
    assert DEPTH_MAX == max(row.depth for row in rows)


@pytest.mark.parametrize("code", ["NO_AGENT", "OVERLOADED", "PAUSED"])
def test_what_did_not_run_misses_nothing(code: str) -> None:
    """Of a request that provably did not run, nobody's record is missing."""
    drawn = draw_trace([finished(side="caller", agent="", code=code)])
    assert f"inventory.reserve  {code} 2.0 ms" in drawn
    assert "?" not in drawn


def test_event_hangs_beneath_the_operation_that_published_it() -> None:
    """An event has no record of its publisher: those who heard it hang beneath the operation."""
    served = finished(instance="a")
    span = served_trace(EVENT, None, "a")
    heard = [
        finished(
            event_id="event",
            instance=name,
            target="order.placed",
            kind="event",
            traceparent=span.traceparent,
            code="HANDLER_ERROR" if name == "c" else "OK",
        )
        for name in ("b", "c")
    ]
    rows = lay_out_trace([*heard, served])
    assert {EVENT: "", "event": EVENT} == _parents(rows)
    drawn = draw_trace([served, *heard])
    assert "event order.placed.reserve  served by stock b in 2.0 ms OK" in drawn
    assert "served by stock c in 2.0 ms HANDLER_ERROR" in drawn
    alone = msgspec.structs.replace(heard[0], traceparent=None)
    assert {"event": ""} == _parents(lay_out_trace([alone]))


def test_a_job_hangs_beneath_the_operation_that_posted_it() -> None:
    """Of posting nobody keeps a record, so that none is missing."""
    served = finished(instance="a")
    span = served_trace(EVENT, None, "a").traceparent
    job = finished(event_id="job", instance="b", kind="job", traceparent=span)
    assert {EVENT: "", "job": EVENT} == _parents(lay_out_trace([job, served]))
    (_, _, line) = draw_trace([served, job]).splitlines()
    assert "job inventory.reserve  served by stock b in 2.0 ms OK" in line
    assert "?" not in line
    alone = msgspec.structs.replace(job, traceparent=None)
    assert {"job": ""} == _parents(lay_out_trace([alone]))


def test_drawing_says_everything() -> None:
    """A drawing names the trace, each request's outcome and who served it, and who was silent."""
    above = served_trace(EVENT, None, "2222-orders")
    nested = sent_trace("b" * 32, above).traceparent
    start = 1_700_000_000_000_000
    common = {"target": "orders", "operation": "place", "ended_us": start + 40_000}
    inner = {"event_id": "b" * 32, "traceparent": nested, "ended_us": start + 30_000}
    records = [
        finished(side="caller", agent="", instance="cli", duration_s=0.04, **common),
        finished(agent="orders", instance="2222-orders", duration_s=0.038, **common),
        finished(
            side="caller",
            agent="orders",
            instance="2222-orders",
            parent_span_id=above.span_id,
            code="SOLD_OUT",
            duration_s=0.01,
            attempt=2,
            **inner,
        ),
        finished(code="SOLD_OUT", duration_s=0.009, attempt=2, **inner),
    ]
    assert draw_trace(records, silent=["payment 3f2a"]).splitlines() == [
        "trace 6f1d2c3b12344abc8def0123456789ab: 2 requests of 3 instances, 40.0 ms",
        "orders.place  ok 40.0 ms  served by orders 2222-ord in 38.0 ms",
        (
            "└─ inventory.reserve  SOLD_OUT 10.0 ms  attempt 2  asked by orders 2222-ord"
            "  served by stock 11112222 in 9.0 ms SOLD_OUT, attempt 2"
        ),
        "no answer from: payment 3f2a",
    ]
    assert "nobody has a record of this trace" == draw_trace([])
    assert "1 request of 1 instance, 9.0 ms" in draw_trace(records[-1:])
