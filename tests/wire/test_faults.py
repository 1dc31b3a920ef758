"""The NATS wire when the server dies, freezes or comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from agent99.clock import SystemClock
from agent99.errors import BufferFullError, ClosedError, DeadlineExceededError
from agent99.wire import ConnectionState, Message, NatsWire, WireOptions
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.wire.conftest import OpenWire

Start = Callable[..., NatsServer]

_now = SystemClock().monotonic_s
_QUICK = WireOptions(reconnect_wait_s_min=0.01, reconnect_wait_s_max=0.05, ping_interval_s=0.1)


async def _away(server: NatsServer, wire: NatsWire) -> None:
    server.kill()
    await eventually(lambda: wire.state is ConnectionState.RECONNECTING)


async def _back(server: NatsServer, *wires: NatsWire) -> None:
    await asyncio.to_thread(server.start)
    for wire in wires:
        await eventually(lambda wire=wire: wire.state is ConnectionState.CONNECTED)


async def _publish_until_full(wire: NatsWire) -> int:
    for sent in range(100_000):
        try:
            wire.publish(b"a", bytes(10_000))
        except BufferFullError:
            return sent
        if sent % 50 == 0:
            await asyncio.sleep(0)
    pytest.fail("the buffer was never full")


async def test_subscriptions_come_back(start_nats_server: Start, connect: OpenWire) -> None:
    """After kill -9 and a restart every subscription is there again, and the inbox too."""
    server = await asyncio.to_thread(start_nats_server)
    wire = await connect(server.url, options=_QUICK)
    other = await connect(server.url, options=_QUICK)
    states: list[ConnectionState] = []
    got: list[bytes] = []
    wire.on_state(states.append)
    wire.subscribe(b"a.*", lambda message: got.append(message.payload))
    wire.subscribe(b"ask", lambda message: wire.publish(message.reply, b"answer"), queue=b"q")
    gone = wire.subscribe(b"gone", lambda message: got.append(message.payload))
    await _away(server, wire)
    gone.unsubscribe()
    wire.subscribe(b"new", lambda message: got.append(message.payload))
    await _back(server, wire, other)
    for subject in (b"a.b", b"new", b"gone"):
        other.publish(subject, subject)
    answer = await other.request(b"ask", b"", deadline_s=_now() + 5)
    await wire.flush()
    assert [b"a.b", b"new"] == got
    assert b"answer" == answer.payload
    assert [ConnectionState.RECONNECTING, ConnectionState.CONNECTED] == states
    assert 1 == wire.statistics().reconnects


async def test_pending_request_ends_in_time(start_nats_server: Start, connect: OpenWire) -> None:
    """A request whose server dies ends by its deadline."""
    server = await asyncio.to_thread(start_nats_server)
    wire = await connect(server.url, options=_QUICK)
    wire.subscribe(b"silent", lambda _: None)
    deadline_s = _now() + 0.3
    pending = wire.request(b"silent", b"", deadline_s=deadline_s)
    await wire.flush()
    await _away(server, wire)
    queued = wire.request(b"silent", b"", deadline_s=deadline_s)
    for request in (pending, queued):
        with pytest.raises(DeadlineExceededError):
            await request
        assert 0 <= _now() - deadline_s < 0.1


async def test_expired_frames_are_dropped(start_nats_server: Start, connect: OpenWire) -> None:
    """What expired while the link was away is dropped and counted, the rest is sent in order."""
    server = await asyncio.to_thread(start_nats_server)
    wire = await connect(server.url, options=_QUICK)
    got: list[bytes] = []
    wire.subscribe(b"a", lambda message: got.append(message.payload))
    await _away(server, wire)
    wire.publish(b"a", b"1")
    wire.publish(b"a", b"expired", deadline_s=_now())
    wire.publish(b"a", b"2", deadline_s=_now() + 60)
    expired = wire.request(b"a", b"expired", deadline_s=_now() + 0.05)
    with pytest.raises(DeadlineExceededError):
        await expired
    assert 0 < wire.statistics().pending_bytes
    await _back(server, wire)
    await wire.flush()
    assert [b"1", b"2"] == got
    assert 2 == wire.statistics().dropped["expired"]
    assert 2 == wire.statistics().messages_out


async def test_buffer_is_bounded(start_nats_server: Start, connect: OpenWire) -> None:
    """While the link is away the buffer fills to its bound; what expired makes room."""
    server = await asyncio.to_thread(start_nats_server)
    options = WireOptions(
        reconnect_wait_s_min=0.01, reconnect_wait_s_max=0.05, pending_bytes_max=10_000
    )
    wire = await connect(server.url, options=options)
    await _away(server, wire)
    wire.publish(b"a", bytes(5_000), deadline_s=_now())
    wire.publish(b"a", bytes(4_000))
    wire.publish(b"a", bytes(4_000))
    with pytest.raises(BufferFullError) as caught:
        wire.request(b"a", bytes(4_000), deadline_s=_now() + 5)
    assert 10_000 == caught.value.pending_bytes_max
    assert 1 == wire.statistics().dropped["expired"]
    waiting = asyncio.ensure_future(wire.wait_writable())
    await asyncio.wait([waiting], timeout=0.02)
    assert not waiting.done()
    await _back(server, wire)
    await asyncio.wait_for(waiting, 5)
    assert 0 == wire.statistics().pending_bytes


async def test_frozen_server_is_noticed(start_nats_server: Start, connect: OpenWire) -> None:
    """A server that answers no ping is given up after three intervals, and found again."""
    server = await asyncio.to_thread(start_nats_server)
    wire = await connect(server.url, options=_QUICK)
    await wire.flush()
    server.stop()
    started = time.monotonic()
    await eventually(lambda: wire.state is ConnectionState.RECONNECTING)
    took_s = time.monotonic() - started
    assert took_s < 4 * _QUICK.ping_interval_s
    server.cont()
    await eventually(lambda: wire.state is ConnectionState.CONNECTED)
    await wire.flush()


async def test_slow_server_pushes_back(start_nats_server: Start, connect: OpenWire) -> None:
    """A server that reads nothing fills the buffer; when it reads again, everything arrives."""
    server = await asyncio.to_thread(start_nats_server)
    options = WireOptions(pending_bytes_max=2_000_000)
    wire, other = await connect(server.url, options=options), await connect(server.url)
    got: list[Message] = []
    other.subscribe(b"a", got.append)
    await other.flush()
    server.stop()
    sent = await _publish_until_full(wire)
    assert wire.statistics().pending_bytes < 2_600_000
    waiting = asyncio.ensure_future(wire.wait_writable())
    with pytest.raises(DeadlineExceededError):
        await wire.flush(timeout_s=0.05)
    assert not waiting.done()
    server.cont()
    await asyncio.wait_for(waiting, 5)
    await wire.flush()
    await eventually(lambda: len(got) == sent)
    assert ConnectionState.CONNECTED is wire.state


async def test_close_while_away(start_nats_server: Start, connect: OpenWire) -> None:
    """`aclose` ends a wire that is reconnecting; who waits gets `ClosedError`."""
    server = await asyncio.to_thread(start_nats_server)
    wire = await connect(server.url, options=_QUICK)
    subscription = wire.subscribe(b"a", lambda _: None)
    await _away(server, wire)
    await subscription.drain()
    flushing = asyncio.ensure_future(wire.flush())
    pending = wire.request(b"a", b"", deadline_s=_now() + 60)
    await asyncio.wait([flushing], timeout=0.01)
    await wire.aclose()
    for waiting in (flushing, pending):
        with pytest.raises(ClosedError):
            await waiting
    assert ConnectionState.CLOSED is wire.state


async def test_close_with_frozen_server(start_nats_server: Start, connect: OpenWire) -> None:
    """`aclose` does not wait longer than 2 s for a server that does not answer."""
    server = await asyncio.to_thread(start_nats_server)
    wire = await connect(server.url)
    server.stop()
    wire.publish(b"a", bytes(1_000_000))
    started = time.monotonic()
    await wire.aclose()
    took_s = time.monotonic() - started
    server.cont()
    assert 1.9 < took_s < 2.5


async def test_requests_cancelled_by_the_thousand(wire: NatsWire, subject: bytes) -> None:
    """Cancelled requests leave nothing behind, long before their deadline."""
    wire.subscribe(subject, lambda _: None)
    await wire.flush()
    for _ in range(100):
        requests = [wire.request(subject, b"", deadline_s=_now() + 60) for _ in range(1_000)]
        for request in requests:
            request.cancel()
        await wire.flush()
    assert 2_100 > len(wire._inbox)
