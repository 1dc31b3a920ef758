"""Rates from two answers to `status`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agent99.cli._rates import Counted, Rates, Said, rates, read_status, sum_rates


def said(uptime_s: float = 10.0, **operations: Any) -> Said:
    """Return an answer of an instance that hears no events."""
    return Said("ready", uptime_s, operations=Counted(**operations))


def test_what_was_done_between_two_answers() -> None:
    """Per second, of requests and events; latency is that of what ended meanwhile."""
    before = Said(
        "ready",
        10.0,
        operations=Counted(100, 10, 5, in_flight=4, processing_ns=1_000_000_000),
        events=Counted(50, 1, processing_ns=100_000_000),
    )
    after = Said(
        "ready",
        12.0,
        operations=Counted(140, 12, 8, in_flight=2, processing_ns=1_900_000_000),
        events=Counted(58, 1, processing_ns=200_000_000),
    )
    found = rates(before, after, 2.0)
    assert Rates(requests=20, events=4, errors=1, refused=1.5, ended=25, busy_s=0.5) == found
    assert (24, 0.02) == (found.taken, found.mean_s)


@pytest.mark.parametrize(
    ("before", "seconds"),
    [(None, 1.0), (said(requests=1), 0.0), (said(requests=1), -3.0)],
    ids=["new", "the same answer", "an older answer"],
)
def test_without_two_answers_there_is_no_rate(before: Said | None, seconds: float) -> None:
    """Of an instance that has just come, or that gave no later answer."""
    assert rates(before, said(requests=7), seconds) is None


def test_a_rate_is_never_negative() -> None:
    """Also of an instance whose counts go back."""
    found = rates(said(requests=9, errors=9, processing_ns=9), said(requests=1), 1.0)
    assert found == Rates()
    assert found.mean_s is None


def test_long_requests_count_when_they_end() -> None:
    """What only began, or still runs, has no latency yet."""
    began = rates(said(requests=0), said(requests=3, in_flight=3), 1.0)
    assert began is not None
    assert (3, 0, None) == (began.requests, began.ended, began.mean_s)


def test_several_instances_together() -> None:
    """Rates add up; the mean is that of all their requests, not of their means."""
    total = sum_rates([Rates(requests=1, ended=1, busy_s=1), Rates(requests=3, ended=3, busy_s=1)])
    assert (4, 0.5) == (total.taken, total.mean_s)
    assert Rates() == sum_rates([])


def test_what_an_instance_has_in_hand_is_summed_over_its_kinds() -> None:
    """Operations and events; drops also of control actions."""
    kinds = [{"in_flight": n, "waiting": n, "dropped": {"stale": n}} for n in (1, 2, 4)]
    kinds[1]["dropped"] = {"overloaded": 2}
    given = dict(zip(("operations", "events", "control"), kinds, strict=True))
    found = read_status({"state": "ready", "uptime_s": 1, **given})
    assert found is not None
    assert (3, 3) == (found.in_flight, found.waiting)
    assert {"stale": 5, "overloaded": 2} == found.dropped


@pytest.mark.parametrize("answer", [None, [], {"state": "ready"}, {"state": 1, "uptime_s": 1}])
def test_an_answer_that_cannot_be_read_is_none(answer: Any) -> None:
    """Whoever answers may be of another release, or of another language."""
    assert read_status(answer) is None


def test_an_answer_of_another_release_is_read() -> None:
    """Fields that are not known are left out, those that are absent are 0."""
    answer = {"state": "ready", "uptime_s": 1.5, "operations": {"requests": 3}, "mood": "fine"}
    assert Said("ready", 1.5, operations=Counted(3)) == read_status(msgspec.to_builtins(answer))
