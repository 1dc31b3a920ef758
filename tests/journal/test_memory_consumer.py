"""Consumers in memory, where the contract does not reach: who has no room, and who has left."""

from __future__ import annotations

import msgspec

from agent99.journal import ConsumerConfig, MemoryJournal, StreamConfig
from agent99.journal._hands import Verdict
from agent99.journal._memory_consumer import Kept, MemoryConsumer
from agent99.journal._memory_stream import Append, MemoryStream
from agent99.testing import ManualClock

_CONFIG = ConsumerConfig(stream="s", name="c", ack_wait_s=10)


class _Taker:
    """Takes as many as it is told to."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.taken: list[tuple[int, int]] = []
        self.is_lost = False

    def room(self) -> int:
        return self.places - len(self.taken)

    def take(self, kept: Kept, attempt: int) -> None:
        self.taken.append((kept.record.sequence, attempt))

    def lose(self) -> None:
        self.is_lost = True


def _consumer(
    clock: ManualClock, count: int, *, inactive_s: float = 0
) -> tuple[MemoryStream, MemoryConsumer]:
    stream = MemoryStream(StreamConfig(name="s", subjects=("s.>",)), clock)
    for _ in range(count):
        stream.append(Append("s.a", b"", "", None, "s.a"))
    config = msgspec.structs.replace(_CONFIG, inactive_s=inactive_s)
    return stream, stream.ensure_consumer(config)


async def test_put_off_while_it_waits() -> None:
    """What waits for somebody with room and is then put off does not come before its time."""
    clock = ManualClock()
    _, consumer = _consumer(clock, 1)
    taker = _Taker(1)
    consumer.join(taker)
    await clock.advance(11)
    consumer.settle(1, Verdict("retry", delay_s=30))
    taker.places = 2
    consumer.offer()
    assert [(1, 1)] == taker.taken
    await clock.advance(31)
    assert [(1, 1), (1, 2)] == taker.taken


async def test_finished_while_it_waits() -> None:
    """What waits for somebody with room and is then acknowledged does not come again."""
    clock = ManualClock()
    _, consumer = _consumer(clock, 2)
    taker = _Taker(1)
    consumer.join(taker)
    await clock.advance(11)
    consumer.keep(1)
    consumer.settle(1, Verdict("ack"))
    consumer.settle(1, Verdict("ack"))
    taker.places = 9
    consumer.offer()
    assert [(1, 1), (2, 1)] == taker.taken


async def test_deleted_while_it_waits() -> None:
    """What was deleted from the stream does not come again, and is not in flight."""
    clock = ManualClock()
    stream, consumer = _consumer(clock, 1)
    taker = _Taker(1)
    consumer.join(taker)
    stream.delete(1)
    taker.places = 2
    await clock.advance(11)
    assert [(1, 1)] == taker.taken
    assert 0 == consumer.state().in_flight


async def test_kept() -> None:
    """What is kept comes `ack_wait_s` after it was kept last."""
    clock = ManualClock()
    _, consumer = _consumer(clock, 1)
    taker = _Taker(2)
    consumer.join(taker)
    await clock.advance(6)
    consumer.keep(1)
    await clock.advance(9)
    assert [(1, 1)] == taker.taken
    await clock.advance(1.5)
    assert [(1, 1), (1, 2)] == taker.taken


async def test_inactive_with_work_in_flight() -> None:
    """A consumer that nobody uses stays while something of it is in flight."""
    clock = ManualClock()
    stream, consumer = _consumer(clock, 1, inactive_s=3)
    taker = _Taker(1)
    consumer.join(taker)
    consumer.leave(taker)
    consumer.leave(taker)
    await clock.advance(9)
    assert {"c": consumer} == stream.consumers
    consumer.settle(1, Verdict("ack"))
    await clock.advance(4)
    assert {} == stream.consumers
    stream.forget(consumer)
    assert not taker.is_lost


async def test_turns() -> None:
    """Those who have room take turns."""
    clock = ManualClock()
    stream, consumer = _consumer(clock, 0)
    takers = [_Taker(9), _Taker(0), _Taker(9)]
    for taker in takers:
        consumer.join(taker)
    for _ in range(6):
        stream.append(Append("s.a", b"", "", None, "s.a"))
    assert [3, 0, 3] == [len(taker.taken) for taker in takers]
    assert "MemoryConsumer('c', in_flight=6)" == repr(consumer)


async def test_shown() -> None:
    """What a test looks at says what it is."""
    journal = MemoryJournal(clock=ManualClock())
    await journal.ensure_stream(StreamConfig(name="s", subjects=("s.>",)))
    async with journal.consume(_CONFIG, prefetch_max=2) as deliveries:
        assert "MemoryDeliveries('c', Hands(held=0, held_max=2))" == repr(deliveries)
