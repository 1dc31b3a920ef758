"""The memory wire: deterministic, and its link can be cut and restored."""

from __future__ import annotations

import asyncio

import pytest

from agent99.errors import (
    BufferFullError,
    ClosedError,
    DeadlineExceededError,
    DisconnectedError,
    LocalProtocolError,
)
from agent99.ids import SeededIds
from agent99.testing import ManualClock
from agent99.wire import ConnectionState, MemoryBroker, MemoryWire, Message


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands still."""
    return ManualClock()


@pytest.fixture
def broker(clock: ManualClock) -> MemoryBroker:
    """Give a broker."""
    return MemoryBroker(ids=SeededIds(7), clock=clock)


@pytest.fixture
async def wire(broker: MemoryBroker) -> MemoryWire:
    """Give a connected wire."""
    return broker.connect(b"one")


async def _members(seed: int) -> list[int]:
    broker = MemoryBroker(ids=SeededIds(seed), clock=ManualClock())
    got: list[int] = []
    wires = [broker.connect(b"w%d" % number) for number in range(4)]
    for number, wire in enumerate(wires):
        wire.subscribe(b"a", lambda _, number=number: got.append(number), queue=b"q")
    for _ in range(50):
        wires[0].publish(b"a", b"")
    await wires[0].flush()
    return got


async def test_same_seed_same_run() -> None:
    """The same seed gives the same choices, another one others."""
    first = await _members(1)
    assert first == await _members(1)
    assert first != await _members(2)
    assert {0, 1, 2, 3} == set(first)


async def test_delivery_is_the_next_turn(wire: MemoryWire) -> None:
    """Nothing is delivered inside `publish`; one turn of the loop later everything is."""
    got: list[bytes] = []

    def receive(message: Message) -> None:
        got.append(message.payload)
        if message.payload == b"1":
            wire.publish(b"a", b"3")

    wire.subscribe(b"a", receive)
    wire.publish(b"a", b"1")
    wire.publish(b"a", b"2")
    assert [] == got
    await asyncio.sleep(0)
    assert [b"1", b"2"] == got
    await asyncio.sleep(0)
    assert [b"1", b"2", b"3"] == got


async def test_interest_is_settled_when_published(wire: MemoryWire) -> None:
    """A subscription does not get what was published before it."""
    got: list[bytes] = []
    wire.publish(b"a", b"before")
    wire.subscribe(b"a", lambda message: got.append(message.payload))
    wire.publish(b"a", b"after")
    await wire.flush()
    assert [b"after"] == got


async def test_cut_and_restore(broker: MemoryBroker, wire: MemoryWire, clock: ManualClock) -> None:
    """A cut link loses what is on its way, keeps what is sent, and drops what expires."""
    other = broker.connect(b"two")
    got: list[bytes] = []
    states: list[ConnectionState] = []
    wire.on_state(states.append)
    wire.subscribe(b"a", lambda message: got.append(message.payload))
    other.publish(b"a", b"on its way")
    wire.cut()
    wire.cut()
    wire.subscribe(b"b", lambda message: got.append(message.payload))
    other.publish(b"a", b"to nobody")
    wire.publish(b"a", b"kept")
    wire.publish(b"a", b"expired", deadline_s=clock.monotonic_s() + 1)
    wire.publish(b"b", b"kept too", deadline_s=clock.monotonic_s() + 9)
    assert 0 < wire.statistics().pending_bytes
    await clock.advance(2)
    wire.restore()
    wire.restore()
    await wire.flush()
    statistics = wire.statistics()
    assert [b"kept", b"kept too"] == got
    assert [ConnectionState.RECONNECTING, ConnectionState.CONNECTED] == states
    assert (1, 0, 1) == (
        statistics.dropped["expired"],
        statistics.pending_bytes,
        statistics.reconnects,
    )


async def test_request_over_a_cut(
    broker: MemoryBroker, wire: MemoryWire, clock: ManualClock
) -> None:
    """A request ends by its deadline when the link stays away, and is answered when it does not."""
    other = broker.connect(b"two")
    other.subscribe(b"ask", lambda message: other.publish(message.reply, b"answer"))
    wire.cut()
    early = wire.request(b"ask", b"", deadline_s=clock.monotonic_s() + 1)
    late = wire.request(b"ask", b"", deadline_s=clock.monotonic_s() + 9)
    await clock.advance(2)
    with pytest.raises(DeadlineExceededError):
        await early
    wire.restore()
    answer = await late
    assert b"answer" == answer.payload


async def test_no_responders_while_cut(broker: MemoryBroker, wire: MemoryWire) -> None:
    """A wire that is cut listens to nobody: whoever asks it learns so at once."""
    other = broker.connect(b"two")
    wire.subscribe(b"ask", lambda _: None)
    wire.cut()
    got: list[Message] = []
    other.publish(b"ask", b"", reply=other.open_inbox(got.append))
    await other.flush()
    assert 1 == len(got)


async def test_bound(broker: MemoryBroker, clock: ManualClock) -> None:
    """What waits for the link is bounded; what expired makes room."""
    wire = broker.connect(b"one", pending_bytes_max=100)
    wire.cut()
    wire.publish(b"a", bytes(50), deadline_s=clock.monotonic_s() + 1)
    wire.publish(b"a", bytes(30))
    with pytest.raises(BufferFullError):
        wire.request(b"a", bytes(30), deadline_s=clock.monotonic_s() + 9)
    await clock.advance(2)
    wire.publish(b"a", bytes(30))
    assert 1 == wire.statistics().dropped["expired"]
    waiting = asyncio.ensure_future(wire.wait_writable())
    await clock.advance(1)
    assert not waiting.done()
    wire.restore()
    await waiting


async def test_flush_over_a_cut(wire: MemoryWire, clock: ManualClock) -> None:
    """`flush` waits for the link, in bounded time; a cut in between is told."""
    wire.cut()
    waiting = asyncio.ensure_future(wire.flush(timeout_s=1))
    await clock.advance(2)
    with pytest.raises(DeadlineExceededError):
        await waiting
    waiting = asyncio.ensure_future(wire.flush())
    await asyncio.sleep(0)
    wire.restore()
    await waiting
    waiting = asyncio.ensure_future(wire.flush())
    await asyncio.sleep(0)
    wire.cut()
    with pytest.raises(DisconnectedError):
        await waiting


async def test_close_while_cut(wire: MemoryWire, clock: ManualClock) -> None:
    """A wire that is cut can be closed; who waits gets `ClosedError`."""
    subscription = wire.subscribe(b"a", lambda _: None)
    wire.cut()
    await subscription.drain()
    flushing = asyncio.ensure_future(wire.flush())
    pending = wire.request(b"a", b"", deadline_s=clock.monotonic_s() + 9)
    await asyncio.sleep(0)
    await wire.aclose()
    for waiting in (flushing, pending):
        with pytest.raises(ClosedError):
            await waiting
    wire.restore()
    assert "MemoryWire(sender=b'one', closed)" == repr(wire)


async def test_drain_over_a_cut(wire: MemoryWire) -> None:
    """A drain whose link is cut is over."""
    subscription = wire.subscribe(b"a", lambda _: None)
    draining = asyncio.ensure_future(subscription.drain())
    await asyncio.sleep(0)
    wire.cut()
    await draining


@pytest.mark.parametrize("sender", [b"", b"a.b", b"*", b"a b"])
async def test_bad_sender(broker: MemoryBroker, sender: bytes) -> None:
    """A sender is one token."""
    with pytest.raises(LocalProtocolError):
        broker.connect(sender)


async def test_listener_to_drops_that_raises_is_reported(wire: MemoryWire) -> None:
    """A drop is counted and told to the others, whatever one of the listeners does."""
    errors: list[Exception] = []
    told: list[tuple[str, int]] = []
    wire.on_error(errors.append)
    wire.on_drop(lambda _reason, count: told.append((f"{1 // (count - 1)}", count)))
    wire.on_drop(lambda reason, count: told.append((reason, count)))
    inbox = wire.open_inbox(lambda _: None)
    wire.close_inbox(inbox)
    wire.publish(inbox, b"too late")
    await wire.flush()
    assert [("late_answer", 1)] == told
    assert ["ZeroDivisionError"] == [type(error).__name__ for error in errors]
    assert 1 == wire.statistics().dropped["late_answer"]
