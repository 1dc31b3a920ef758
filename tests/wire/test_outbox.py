"""The outbox: one write per turn, bounds, deadlines, and a transport that is full."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.errors import BufferFullError, ClosedError
from agent99.testing import ManualClock
from agent99.wire import ConnectionState
from agent99.wire._events import Events
from agent99.wire._outbox import Outbox

_FOREVER = float("inf")


class _Sink(asyncio.Transport):
    """Takes bytes, and says that it is full after so many writes."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.writes_to_full = 1_000_000
        self._outbox = outbox

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        self.writes_to_full -= 1
        if self.writes_to_full == 0:
            self._outbox.pause(self)

    def get_write_buffer_size(self) -> int:
        return 0


class _World:
    def __init__(self, bytes_max: int = 100) -> None:
        loop = asyncio.get_running_loop()
        self.clock = ManualClock()
        self.events = Events(loop, ConnectionState.CONNECTED)
        self.outbox = Outbox(loop=loop, clock=self.clock, events=self.events, bytes_max=bytes_max)
        self.sink = _Sink(self.outbox)

    def attach(self, first: bytes = b"") -> None:
        self.outbox.attach(self.sink, first)


async def test_one_write_per_turn() -> None:
    """What is queued in one turn of the loop leaves in one write."""
    world = _World()
    world.attach(b"SUB ")
    world.outbox.push(b"1", _FOREVER)
    world.outbox.push_control(b"PING")
    world.outbox.push(b"2", _FOREVER)
    await asyncio.sleep(0)
    world.outbox.push(b"3", _FOREVER)
    await asyncio.sleep(0)
    assert [b"SUB ", b"1PING2", b"3"] == world.sink.writes
    assert 3 == world.outbox.messages
    assert 11 == world.outbox.bytes_written


async def test_controls_belong_to_their_link() -> None:
    """SUB, PING and the like die with their link, messages do not."""
    world = _World()
    world.outbox.push_control(b"PING")
    world.attach()
    world.outbox.push(b"1", _FOREVER)
    world.outbox.push_control(b"PING")
    world.outbox.detach()
    world.outbox.push_control(b"PING")
    other = _Sink(world.outbox)
    world.outbox.attach(other, b"SUB ")
    assert [b"SUB ", b"1"] == other.writes
    assert 1 == world.outbox.messages


async def test_expired_is_dropped() -> None:
    """What has expired when the link is there is dropped, and counted."""
    world = _World()
    world.outbox.push(b"1", 1.0)
    world.outbox.push(b"2", 3.0)
    await world.clock.advance(2.0)
    world.attach()
    assert [b"", b"2"] == world.sink.writes
    assert 1 == world.events.dropped["expired"]


async def test_bound() -> None:
    """More than the bound is refused, nothing of it queued; an attached outbox drops nothing."""
    world = _World(bytes_max=10)
    world.attach()
    world.outbox.push(bytes(6), 0.0)
    with pytest.raises(BufferFullError) as caught:
        world.outbox.push(bytes(5), _FOREVER)
    assert (6, 10) == (caught.value.pending_bytes, caught.value.pending_bytes_max)
    assert 0 == world.events.dropped["expired"]
    await asyncio.sleep(0)
    world.outbox.push(bytes(10), _FOREVER)
    assert 10 == world.outbox.pending_bytes


async def test_full_transport() -> None:
    """A full transport gets nothing until it has room; most of a backlog stays ours."""
    world = _World(bytes_max=10_000_000)
    world.attach()
    world.sink.writes_to_full = 2
    for number in range(30):
        world.outbox.push(b"%02d" % number + bytes(99_998), _FOREVER)
    await asyncio.sleep(0)
    assert 3 == len(world.sink.writes)
    assert world.outbox.is_paused
    assert 2_400_000 == world.outbox.pending_bytes
    world.outbox.resume(None)
    assert 3 == len(world.sink.writes)
    world.outbox.resume(world.sink)
    assert 0 == world.outbox.pending_bytes
    sent = b"".join(world.sink.writes)
    assert [b"%02d" % number for number in range(30)] == [
        sent[at : at + 2] for at in range(0, len(sent), 100_000)
    ]
    assert 30 == world.outbox.messages


async def test_wait_writable() -> None:
    """Waiting ends below half of the bound, may be cancelled, and ends with the outbox."""
    world = _World()
    await world.outbox.wait_writable()
    world.outbox.push(bytes(60), _FOREVER)
    first, second = (asyncio.ensure_future(world.outbox.wait_writable()) for _ in range(2))
    await asyncio.wait([first], timeout=0)
    first.cancel()
    world.attach()
    await second
    world.outbox.detach()
    world.outbox.push(bytes(60), _FOREVER)
    third = asyncio.ensure_future(world.outbox.wait_writable())
    await asyncio.wait([third], timeout=0)
    world.outbox.close()
    with pytest.raises(ClosedError):
        await third
    assert "Outbox(pending_bytes=0, attached=False)" == repr(world.outbox)


_steps = st.lists(
    st.tuples(st.just("push"), st.integers(min_value=1, max_value=400_000))
    | st.tuples(st.sampled_from(["turn", "full", "room", "cut", "link", "ping"]), st.just(0)),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(_steps)
def test_any_order(steps: list[tuple[str, int]]) -> None:
    """Whatever happens to the link, every message leaves once and in order."""
    asyncio.run(_run(steps))


async def _run(steps: list[tuple[str, int]]) -> None:
    world = _World(bytes_max=100_000_000)
    sinks, sent = [world.sink], b""
    world.attach()
    for step, size in steps:
        if step == "push":
            frame = b"%08d" % len(sent) + bytes(size)
            sent += frame
            world.outbox.push(frame, _FOREVER)
        elif step == "turn":
            await asyncio.sleep(0)
        elif step == "full":
            sinks[-1].writes_to_full = 1
        elif step == "room":
            world.outbox.resume(sinks[-1])
        elif step == "cut":
            world.outbox.detach()
        elif step == "ping":
            world.outbox.push_control(b"")
        else:
            world.outbox.detach()
            sinks.append(_Sink(world.outbox))
            world.outbox.attach(sinks[-1], b"")
    world.outbox.detach()
    sinks.append(_Sink(world.outbox))
    world.outbox.attach(sinks[-1], b"")
    assert sent == b"".join(data for sink in sinks for data in sink.writes)
    assert sum(step == "push" for step, _ in steps) == world.outbox.messages
    assert 0 == world.outbox.pending_bytes
