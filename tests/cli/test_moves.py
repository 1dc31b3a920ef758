"""Which records are meant, how they are moved, and when the books of jobs close: without a mesh."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.cli._exits import RefusalError
from agent99.cli._jobs import view_of
from agent99.cli._moves import FAILURES_MAX, Mover, Outcome, Stuck
from agent99.cli._show import moment, size
from agent99.cli._where import parse_age_s, parse_where
from agent99.errors import DisconnectedError, StreamFullError
from agent99.testing import ManualClock
from agent99.work import JobCount, OperationCount, Quarantined

NOW_US = 1_700_000_000_000_000


def record(sequence: int, *, code: str = "BUSY", age_s: float = 0.0) -> Quarantined:
    """Return a record of the quarantine."""
    return Quarantined(
        id="i",
        capability="mail",
        operation="send",
        reason="attempts",
        code=code,
        message="busy",
        attempts=5,
        first_us=0,
        last_us=NOW_US - round(age_s * 1e6),
        trace_id="ab",
        stream="s",
        stream_sequence=1,
        sequence=sequence,
    )


# --- where ----------------------------------------------------------------------------------------


@given(st.sampled_from("smhd"), st.integers(0, 500), st.integers(0, 10**7))
def test_older_and_newer_part_all_records(unit: str, number: int, age_s: int) -> None:
    """Each record is exactly one of them, by how long it has been there."""
    text = f"{number}{unit}"
    border_s = number * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    one = record(1, age_s=age_s)
    assert border_s == parse_age_s(text)
    assert parse_where(f"older={text}", NOW_US)(one) is (age_s >= border_s)
    assert parse_where(f"newer={text}", NOW_US)(one) is (age_s < border_s)


@pytest.mark.parametrize("text", ["", " , ", "code", "code=", "=x", "older=5", "older=-5s", "a=b"])
def test_what_means_nothing_is_refused(text: str) -> None:
    """Never does a slip mean more records than were wanted."""
    with pytest.raises(RefusalError):
        parse_where(text, NOW_US)


def test_a_trace_may_be_written_with_dashes() -> None:
    """As the id of a request is."""
    assert parse_where("trace=a-b", NOW_US)(record(1))


# --- move -----------------------------------------------------------------------------------------


async def test_never_faster_than_the_rate() -> None:
    """One gap between two, also after one that was slow."""
    clock = ManualClock()
    times: list[float] = []

    async def move(_record: Quarantined) -> None:
        times.append(clock.monotonic_s())

    outcome = Outcome(3)
    mover = Mover(move, asyncio.Event(), clock=clock, rate=2.0)
    running = asyncio.ensure_future(mover.run([record(n) for n in (1, 2, 3)], outcome))
    await clock.advance(0.75)
    assert 2 == len(times)
    await clock.advance(0.75)
    await running
    assert [0.5, 0.5] == [later - before for before, later in pairwise(times)]
    assert (3, [], False, 0) == (
        outcome.moved, outcome.stuck, outcome.interrupted, outcome.untried
    )  # fmt: skip
    assert repr(mover) == "Mover(gap_s=0.5)"


async def test_a_stop_is_heard_between_two() -> None:
    """At once, whatever the rate; the one in hand is moved."""
    stop = asyncio.Event()
    told: list[int] = []

    async def move(one: Quarantined) -> None:
        told.append(one.sequence)

    mover = Mover(move, stop, clock=ManualClock(), rate=0.001, tell=stop.set)
    outcome = Outcome(3)
    await mover.run([record(n) for n in (1, 2, 3)], outcome)
    assert ([1], 1, 2, True) == (told, outcome.moved, outcome.untried, outcome.interrupted)


async def test_what_cannot_be_moved_is_named_with_its_reason() -> None:
    """The others go on; after so many in a row, or without a link, nothing else is tried."""
    full = StreamFullError("maximum bytes exceeded")

    async def move(one: Quarantined) -> None:
        if one.code == "BUSY":
            raise full

    outcome = Outcome(FAILURES_MAX + 4)
    records = [record(1), record(2, code="NO"), *(record(n) for n in range(3, FAILURES_MAX + 5))]
    await Mover(move, asyncio.Event(), clock=ManualClock()).run(records, outcome)
    assert Stuck("mail", 1, "STREAM_FULL", str(full)) == outcome.stuck[0]
    assert (1, FAILURES_MAX + 1, 2) == (outcome.moved, len(outcome.stuck), outcome.untried)
    assert 2 == outcome.document()["untried"]

    async def lose(_record: Quarantined) -> None:
        raise DisconnectedError("gone")

    outcome = Outcome(3)
    await Mover(lose, asyncio.Event(), clock=ManualClock()).run(records[:3], outcome)
    assert (0, 1, 2) == (outcome.moved, len(outcome.stuck), outcome.untried)


# --- jobs -----------------------------------------------------------------------------------------


def count(*, left: int, pending: int, unfinished: int, is_follower: bool = False) -> JobCount:
    """Return a count of ten stored, one in quarantine, one taken out."""
    return JobCount(
        capability="mail",
        stored=10,
        left=left,
        quarantined=1,
        taken_out=1,
        is_follower=is_follower,
        operations=(OperationCount("send", pending, unfinished),),
    )


@pytest.mark.parametrize(
    ("given", "in_hand", "is_still", "closes"),
    [
        (count(left=5, pending=2, unfinished=3), 1, True, True),
        (count(left=6, pending=2, unfinished=3), 1, True, True),  # one that nobody has ever begun
        (count(left=4, pending=2, unfinished=3), 1, True, False),  # the consumer is behind
        (count(left=9, pending=9, unfinished=0), 0, True, False),  # moved, and still here
        (count(left=5, pending=2, unfinished=3), 4, True, False),  # done, and still in hand
        (count(left=5, pending=2, unfinished=3), 1, False, False),
        (count(left=5, pending=2, unfinished=3, is_follower=True), 1, True, None),
    ],
)
def test_the_books_close_only_if_they_do(
    given: JobCount, in_hand: int, is_still: bool, closes: bool | None
) -> None:
    """Every message in one column; a figure that cannot be is told, and never negative."""
    view = view_of(given, {("mail", "send"): in_hand}, is_still=is_still)
    assert closes is view.closes
    columns = (view.pending, view.delayed, view.in_flight, view.quarantined, view.taken_out)
    assert min(columns) >= 0
    assert (sum(columns) + (view.done or 0) == view.stored) or closes is not True
    unfinished = sum(one.unfinished for one in given.operations)
    assert unfinished == view.delayed + view.in_flight


# --- show -----------------------------------------------------------------------------------------


def test_sizes_and_moments_are_for_people() -> None:
    """In decimal units, and UTC."""
    told = [size(n) for n in (0, 999, 1_000, 268_435_456, 1_073_741_824)]
    assert ["0 B", "999 B", "1.0 kB", "268.4 MB", "1.1 GB"] == told
    assert "2023-11-14 22:13:20Z" == moment(NOW_US)
