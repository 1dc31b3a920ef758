"""What decides about stored work decides without a server."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.envelope import ENVELOPE_BYTES
from agent99.errors import (
    BadRequestError,
    DeadlineExceededError,
    Failure,
    HandlerError,
    RequestCancelledError,
    RequestError,
    UnknownOperationError,
    UsageError,
)
from agent99.work import Curve, Quarantined, checked_curve
from agent99.work._quarantine import _write
from agent99.work._turns import Turns
from agent99.work._verdict import Again, Dead, Done, judge

CURVE = Curve(attempts_max=3, delay_s=2.0, delay_s_max=10.0)


@given(
    st.integers(1, 1_000),
    st.floats(0.001, 1_000),
    st.floats(0.001, 10_000),
    st.floats(0, 1, exclude_max=True),
)
def test_waits_double_up_to_their_bound(
    attempt: int, delay_s: float, most_s: float, fraction: float
) -> None:
    """Each is within a tenth of its place on the curve, however often it failed."""
    curve = Curve(delay_s=delay_s, delay_s_max=most_s)
    plain_s = min(delay_s * 2.0 ** min(attempt - 1, 64), most_s)
    assert 0.9 * plain_s <= curve.wait_s(attempt, fraction) <= 1.1 * plain_s


@pytest.mark.parametrize(
    ("attempts_max", "delay_s", "delay_s_max"),
    [(0, 1, 1), (1_001, 1, 1), (5, 0, 1), (5, 1, 0), (5, float("nan"), 1)],
)
def test_curve_without_sense_is_refused(
    attempts_max: int, delay_s: float, delay_s_max: float
) -> None:
    """Before anything is stored, and it names the figure."""
    with pytest.raises(UsageError, match="attempts_max|delay_s"):
        checked_curve(attempts_max=attempts_max, delay_s=delay_s, delay_s_max=delay_s_max)


@pytest.mark.parametrize(
    ("error", "attempt", "verdict"),
    [
        (None, 1, Done()),
        (None, 9, Done()),
        (HandlerError("broke"), 1, Again(2.0)),
        (HandlerError("broke"), 2, Again(4.0)),
        (HandlerError("broke"), 3, Dead("attempts")),
        (HandlerError("broke"), 4, Dead("attempts")),
        (DeadlineExceededError("late"), 1, Again(2.0)),
        (RequestCancelledError("stopped"), 1, Again(2.0)),
        (Failure("later", retryable=True), 2, Again(4.0)),
        (Failure("later", retryable=True), 3, Dead("attempts")),
        (Failure("never"), 1, Dead("not_retryable")),
        (BadRequestError("$: no"), 1, Dead("unreadable")),
        (UnknownOperationError("what?"), 1, Dead("unreadable")),
    ],
)
def test_outcome_decides(
    error: RequestError | None, attempt: int, verdict: Done | Again | Dead
) -> None:
    """Done, tried again on its curve, or into quarantine: at once where no attempt can help."""
    assert verdict == judge(error, attempt, CURVE, 0.5)


async def test_one_key_after_the_other_others_beside() -> None:
    """Who shares a key comes in the order of asking; nobody else waits; nothing is left behind."""
    turns, order = Turns(), list[str]()
    gates = {key: asyncio.Event() for key in "ab"}

    async def use(key: str, name: str) -> None:
        async with turns.take(key):
            order.append(name)
            await gates[key].wait()

    using = [asyncio.ensure_future(use(name[0], name)) for name in ("a1", "a2", "b1", "a3")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ["a1", "b1"] == order
    using[1].cancel()
    gates["a"].set()
    gates["b"].set()
    await asyncio.gather(*using, return_exceptions=True)
    assert ["a1", "b1", "a3"] == order
    assert 0 == len(turns)


LETTERS = st.sampled_from(["x", "é", "错", "😀", "\0", '"', "\ud800"])


@given(LETTERS, LETTERS, LETTERS, st.integers(0, 10_000))
def test_a_record_leaves_room_for_its_body(
    code: str, message: str, traceback: str, size: int
) -> None:
    """Whatever an error says, its line fits beside the largest body; what is short stays whole."""
    record = Quarantined(
        id="0" * 128,
        capability="c" * 64,
        operation="o" * 64,
        topic="t" * 256,
        reason="attempts",
        code=code * size,
        message=f"begins {message * size}",
        traceback=f"{traceback * size} ends",
        attempts=1_000,
        first_us=2**62,
        last_us=2**62,
        key="k" * 384,
        stream="s" * 128,
        stream_sequence=2**62,
        body=b"the body",
    )
    line, _, body = _write(record).partition(b"\n")
    kept = msgspec.json.decode(line, type=Quarantined)
    assert len(line) < ENVELOPE_BYTES - 1024
    assert (b"the body", "begins", " ends") == (body, kept.message[:6], kept.traceback[-5:])
    if size < 50 and "\ud800" not in code + message + traceback:
        assert msgspec.structs.replace(record, body=b"") == kept
