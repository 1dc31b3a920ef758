"""When a member must make sure that it still is one."""

from __future__ import annotations

from agent99.groups._trust import Trust
from agent99.testing import ManualClock


async def test_doubts_after_silence() -> None:
    """Each silence that is too long, and each loss of the link, is one new doubt."""
    clock = ManualClock()
    trust = Trust(clock, 1.0)
    await clock.advance(0.9)
    trust.confirm(clock.monotonic_s())
    await clock.advance(0.9)
    assert 0 == trust.number
    await clock.advance(0.2)
    assert 1 == trust.number
    assert 1 == trust.number
    trust.lose()
    assert 2 == trust.number


async def test_a_late_answer_hides_nothing() -> None:
    """What was asked before a standstill proves nothing of the time of it."""
    clock = ManualClock()
    trust = Trust(clock, 1.0)
    began_s = clock.monotonic_s()
    await clock.advance(5)
    trust.confirm(began_s)
    assert 1 == trust.number
    await clock.advance(0.5)
    trust.confirm(clock.monotonic_s())
    assert 1 == trust.number
    await clock.advance(3)
    trust.confirm(clock.monotonic_s())
    assert 2 == trust.number
