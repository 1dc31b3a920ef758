"""What is in one consumer's hands."""

from __future__ import annotations

import asyncio

import pytest

from agent99.errors import UsageError
from agent99.journal import ConsumerConfig, Record
from agent99.journal._hands import Hands, Taken, Verdict, resumed
from agent99.testing import ManualClock


class _Settler:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Verdict] = []
        self.kept = 0
        self.fails = False

    async def settle(self, _delivery: Taken, verdict: Verdict) -> None:
        if self.fails:
            raise OSError
        self.told.append(verdict)

    def keep(self, _delivery: Taken) -> None:
        self.kept += 1


def _taken(sequence: int, settler: _Settler | None = None, payload: bytes = b"") -> Taken:
    record = Record("s.a", sequence, payload, 0)
    return Taken(settler or _Settler(), record, b"", epoch=1, attempt=1, message_id="")


def _hands(clock: ManualClock, held_max: int = 4) -> Hands:
    return Hands(clock, held_max=held_max, ack_wait_s=10)


async def test_read_in_order() -> None:
    """Deliveries are read once each, in the order in which they came, and stay in hand."""
    hands = _hands(ManualClock())
    first, second = _taken(1), _taken(2)
    hands.take(first)
    hands.take(second)
    assert [first, second, None] == [hands.read() for _ in range(3)]
    assert 2 == hands.room
    hands.drop(first)
    hands.drop(first)
    assert 3 == hands.room


async def test_time_runs_out() -> None:
    """What nobody finished or kept in time makes room; what nobody read is not read any more."""
    clock = ManualClock()
    hands = _hands(clock)
    kept, lost, unread = _taken(1), _taken(2), _taken(3)
    for each in (kept, lost, unread):
        hands.take(each)
    assert [kept, lost] == [hands.read(), hands.read()]
    await clock.advance(6)
    hands.keep(kept)
    await clock.advance(4)
    late = _taken(4)
    hands.take(late)
    assert late is hands.read()
    hands.lapse()
    assert 2 == hands.room
    hands.interrupted("silence")
    statistics = hands.statistics()
    assert (2, 0, 2, {"silence": 1}) == (
        statistics.held,
        statistics.unread,
        statistics.lapsed,
        statistics.interruptions,
    )
    hands.keep(lost)
    assert 2 == hands.room


async def test_bytes() -> None:
    """The bytes in hand are counted, whichever way they leave."""
    clock = ManualClock()
    hands = _hands(clock)
    deliveries = [_taken(number, payload=bytes(10)) for number in range(4)]
    for each in deliveries:
        hands.take(each)
    assert 40 == hands.bytes
    hands.drop(hands.read() or deliveries[3])
    assert 30 == hands.bytes
    assert deliveries[1:] == hands.give_back()
    assert (0, 4) == (hands.bytes, hands.room)
    hands.take(deliveries[0])
    await clock.advance(11)
    hands.lapse()
    assert 0 == hands.bytes
    hands.take(deliveries[1])
    hands.clear()
    assert (0, None) == (hands.bytes, hands.read())


async def test_a_reader_is_woken() -> None:
    """Who waits is woken by what comes, and by whoever says so; only one may wait."""
    hands = _hands(ManualClock())
    waiting = asyncio.ensure_future(hands.wait())
    await asyncio.sleep(0)
    with pytest.raises(UsageError):
        await hands.wait()
    hands.take(_taken(1))
    await asyncio.wait_for(waiting, 1)
    waiting = asyncio.ensure_future(hands.wait())
    await asyncio.sleep(0)
    hands.wake()
    await asyncio.wait_for(waiting, 1)
    waiting = asyncio.ensure_future(hands.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    hands.wake()
    assert "Hands(held=1, held_max=4)" == repr(hands)


async def test_verdicts() -> None:
    """A delivery is finished when its settler has returned, and not before."""
    settler = _Settler()
    delivery = _taken(1, settler)
    delivery.progress()
    settler.fails = True
    with pytest.raises(OSError):  # noqa: PT011 - it has no words
        await delivery.ack()
    settler.fails = False
    await delivery.retry(1.5)
    delivery.progress()
    with pytest.raises(UsageError, match="by retry"):
        await delivery.ack()
    assert ([Verdict("retry", delay_s=1.5)], 1) == (settler.told, settler.kept)


_CONFIG = ConsumerConfig(stream="s", name="c", from_us=7)


@pytest.mark.parametrize(
    ("is_same", "is_work", "start", "expected"),
    [
        (True, False, "first", 5),
        (True, False, "new", 5),
        (True, True, "first", None),
        (False, False, "new", 1),
        (False, False, "first", None),
        (False, True, "first", None),
    ],
)
def test_resumed(*, is_same: bool, is_work: bool, start: str, expected: int | None) -> None:
    """A consumer that was deleted begins behind what was done; in another stream as it would."""
    config = ConsumerConfig(stream="s", name="c", start=start)  # type: ignore[arg-type] - from a table
    found = resumed(config, 5, is_same=is_same, is_work=is_work)
    assert expected == found.from_sequence
    assert ("first", None) == (found.start, found.from_us) or expected is None
    timed = resumed(_CONFIG, 5, is_same=is_same, is_work=is_work)
    assert (timed.from_us is None) == (is_same and not is_work)
