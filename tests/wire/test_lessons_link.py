"""What other clients got wrong on a connection, and ours must not: `test_lessons` has the list."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest

from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.errors import (
    Agent99Error,
    BufferFullError,
    DeadlineExceededError,
    LocalProtocolError,
    PayloadTooLargeError,
    ServerUnavailableError,
    TransportError,
)
from agent99.ids import SystemIds
from agent99.testing import ChaosProxy
from agent99.wire import ConnectionState, Message, NatsWire, WireOptions, open_wire
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.wire._puppet import INFO, Puppet, puppet
from tests.wire.conftest import OpenWire

Start = Callable[..., NatsServer]

_now = SystemClock().monotonic_s
_QUICK = WireOptions(
    connect_timeout_s=0.3, reconnect_wait_s_min=0.01, reconnect_wait_s_max=0.02, ping_interval_s=5.0
)
_TLS = INFO.replace(b"{", b'{"tls_required":true,')


async def test_late_pongs_of_what_was_given_up_harm_nobody(
    start_nats_server: Start, connect: OpenWire
) -> None:
    """Flushes and drains end early while the server is frozen; after that all is as before."""
    server = await asyncio.to_thread(start_nats_server)
    wire = await connect(server.url)
    wire.subscribe(b"ask", lambda message: wire.publish(message.reply, message.payload))
    drained = [wire.subscribe(b"a.%d" % number, lambda _: None) for number in range(4)]
    await wire.flush()
    server.stop()
    for giving_up in (wire.flush(0.02), drained[0].drain(0.02)):
        with pytest.raises(DeadlineExceededError):
            await giving_up
    tasks = [asyncio.ensure_future(one.drain()) for one in drained[1:]]
    tasks.append(asyncio.ensure_future(wire.flush()))
    await asyncio.wait(tasks, timeout=0.02)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    server.cont()
    for number in range(20):
        answer = await wire.request(b"ask", b"%d" % number, deadline_s=_now() + 5)
        assert b"%d" % number == answer.payload
    await wire.flush()
    assert 0 == wire.statistics().reconnects


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, new_event_loop])
def test_whatever_breaks_the_reader_ends_the_link(
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Not even a bug of ours leaves a connection that is open and deaf, on any event loop."""

    async def run() -> None:
        async with puppet() as server:
            wire = await _open(server)
            told: list[object] = []
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: told.append(type(context["exception"]))
            )
            link = wire._keeper.link
            assert link is not None
            link.parser._control = _divide_by_zero
            server.say(b"PING\r\n")
            await server.wait_connection(2)
            await wire.flush()
            assert (1, [ZeroDivisionError]) == (wire.statistics().reconnects, told)
            await wire.aclose()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def _divide_by_zero(_operation: bytes, _argument: bytes) -> None:
    _ = 1 // 0


async def _open(server: Puppet, options: WireOptions = _QUICK) -> NatsWire:
    return await open_wire(
        server.url, sender=b"tester", clock=SystemClock(), ids=SystemIds(), options=options
    )


async def test_a_message_over_the_servers_limit_does_not_end_the_wire(
    start_nats_server: Start, connect: OpenWire
) -> None:
    """Should the bound be passed all the same, it is reported, and a new link is made."""
    server = await asyncio.to_thread(start_nats_server, config="max_payload: 1000")
    wire = await connect(server.url, options=_QUICK)
    errors: list[Exception] = []
    wire.on_error(errors.append)
    wire._keeper.payload_bytes_max = 1_000_000  # as if our own check were not there
    wire.publish(b"a", bytes(900), headers=b"NATS/1.0\r\nA: " + b"b" * 100 + b"\r\n\r\n")
    await eventually(lambda: wire.statistics().reconnects == 1)
    await wire.flush()
    assert [LocalProtocolError] == [type(error) for error in errors]
    assert "Maximum Payload Violation" in str(errors[0])


async def test_too_many_subscriptions_do_not_end_the_wire(
    start_nats_server: Start, connect: OpenWire
) -> None:
    """Each beyond the server's bound is reported; those that are there live on."""
    server = await asyncio.to_thread(start_nats_server, config="max_subscriptions: 3")
    wire = await connect(server.url, options=_QUICK)
    errors: list[Exception] = []
    wire.on_error(errors.append)
    got: list[bytes] = []
    for number in range(5):  # the inbox is the first of the three
        wire.subscribe(b"s.%d" % number, lambda message: got.append(message.subject))
    for number in range(5):
        wire.publish(b"s.%d" % number, b"")
    await wire.flush()
    assert [b"s.0", b"s.1"] == got
    assert [TransportError] * 3 == [type(error) for error in errors]
    assert 0 == wire.statistics().reconnects


async def test_requests_that_cannot_be_sent_leave_nothing(
    connect: OpenWire, nats_server: NatsServer, subject: bytes
) -> None:
    """Too large, a bad subject, a full buffer: the caller is told, and no place is taken."""
    async with ChaosProxy(nats_server.port) as proxy:
        options = WireOptions(pending_bytes_max=1_000_000)
        wire = await connect(f"nats://127.0.0.1:{proxy.port}", options=options)
        refused = (
            (subject, bytes(wire.payload_bytes_max + 1), PayloadTooLargeError),
            (b"a b", b"", LocalProtocolError),
            (subject, bytes(500_000), BufferFullError),
        )
        proxy.stall("to_server")
        await _fill(wire, subject)
        for where, payload, error in refused:
            for _ in range(100):
                with pytest.raises(error):
                    await wire.request(where, payload, deadline_s=_now() + 60)
        assert 0 == len(wire._inbox)
        proxy.heal()


async def _fill(wire: NatsWire, subject: bytes) -> None:
    """Publish until the wire takes no more."""
    for _ in range(10_000):
        try:
            wire.publish(subject, bytes(400_000))
        except BufferFullError:
            if wire._outbox.is_paused:
                return
        await asyncio.sleep(0)
    pytest.fail("the buffer was never full")


async def test_unanswered_requests_leave_nothing(wire: NatsWire, subject: bytes) -> None:
    """Ten thousand that nobody answers are gone with their deadlines, table and timer too."""
    wire.subscribe(subject, lambda _: None)
    await wire.flush()
    for _ in range(5):
        asked = [wire.request(subject, b"", deadline_s=_now() + 0.02) for _ in range(2_000)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
        assert {DeadlineExceededError} == {type(one) for one in ended}
    inbox = wire._inbox
    await eventually(lambda: inbox._timer is None)
    assert (0, []) == (len(inbox), inbox._soon)


class _Notebook(SystemClock):
    """Notes how long it was asked to sleep, and gives a turn instead."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        await super().sleep(0)


async def test_reconnecting_goes_on_for_ever_and_out_of_step(start_nats_server: Start) -> None:
    """Hundreds of failures end nothing; every wait is random, within a bound that doubles."""
    server = await asyncio.to_thread(start_nats_server)
    clocks = _Notebook(), _Notebook()
    wires = [
        await open_wire(server.url, sender=b"t", clock=clock, ids=SystemIds()) for clock in clocks
    ]
    server.kill()
    await eventually(lambda: min(len(clock.slept) for clock in clocks) > 200)
    assert {ConnectionState.RECONNECTING} == {wire.state for wire in wires}
    await asyncio.to_thread(server.start)
    for wire, clock in zip(wires, clocks, strict=True):
        await wire.flush()
        bounds = [min(0.05 * 2.0**number, 2.0) for number in range(len(clock.slept))]
        assert all(0 <= wait <= bound for wait, bound in zip(clock.slept, bounds, strict=True))
        assert max(clock.slept) > 1.5
        await wire.aclose()
    every = [wait for clock in clocks for wait in clock.slept]
    assert len(every) == len(set(every))


async def test_a_tls_handshake_that_never_ends_is_given_up() -> None:
    """Whether at first or at a reconnect: no link stays open, and closing waits for nothing."""
    options = WireOptions(connect_timeout_s=0.1, reconnect_wait_s_max=0.02)
    async with puppet(greeting=_TLS) as server:
        began_s = _now()
        with pytest.raises(ServerUnavailableError, match=r"no answer within 0\.1 s"):
            await _open(server, options)
        assert _now() - began_s < 1
        await eventually(lambda: not server.links)
        server.greeting = INFO
        wire = await _open(server, options)
        server.greeting = _TLS
        server.hang_up()
        await server.wait_connection(4)  # the first, the good one, and two that never end
        began_s = _now()
        await wire.aclose()
        assert _now() - began_s < 0.1
        await eventually(lambda: not server.links)


async def test_no_answer_can_be_forged_from_those_before(
    wire: NatsWire, connect: OpenWire, nats_server: NatsServer, subject: bytes
) -> None:
    """Each request has 128 random bits of its own; an answer to another place harms nobody."""
    other = await connect(nats_server.url)
    replies: list[bytes] = []

    def answer(message: Message) -> None:
        replies.append(message.reply)
        forged = message.reply[:-1] + (b"0" if message.reply[-1:] != b"0" else b"1")
        other.publish(forged, b"forged")
        other.publish(message.reply, b"true")

    other.subscribe(subject, answer)
    await other.flush()
    asked = [wire.request(subject, b"", deadline_s=_now() + 5) for _ in range(100)]
    assert {b"true"} == {message.payload for message in await asyncio.gather(*asked)}
    assert 100 == wire.statistics().dropped["late_answer"]
    tokens = {reply.rpartition(b".")[2] for reply in replies}
    assert 100 == len(tokens)
    assert all(re.fullmatch(rb"[0-9a-f]{32}", token) for token in tokens)
    bits = [int(token, 16) for token in tokens]
    # Of 128 fair coins 64 differ, give or take 6; of two numbers in a row only a few.
    assert min((a ^ b).bit_count() for a in bits for b in bits if a != b) > 20


async def test_a_drain_leaves_the_answers_alone(
    wire: NatsWire, connect: OpenWire, nats_server: NatsServer, subject: bytes
) -> None:
    """What is asked while a subscription drains, and because of it, is answered."""
    other = await connect(nats_server.url)
    other.subscribe(subject + b".ask", lambda m: other.publish(m.reply, m.payload))
    await other.flush()
    asked: list[asyncio.Future[Message]] = []
    subscription = wire.subscribe(
        subject,
        lambda m: asked.append(wire.request(subject + b".ask", m.payload, deadline_s=_now() + 5)),
    )
    await wire.flush()
    for number in range(100):
        other.publish(subject, b"%d" % number)
    await other.flush()
    await subscription.drain()
    answers = await asyncio.gather(*asked)
    assert [b"%d" % number for number in range(100)] == [m.payload for m in answers]


async def test_a_refused_call_is_a_typed_error(wire: NatsWire, subject: bytes) -> None:
    """Each class says whose fault it was and whether to try again; none is a bare text."""
    kinds: dict[str, bool] = {}
    for call in (
        lambda: wire.request(subject, b"", deadline_s=_now() + 5),
        lambda: wire.request(b">", b"", deadline_s=_now() + 5),
        lambda: wire.request(subject, bytes(2_000_000), deadline_s=_now() + 5),
    ):
        with pytest.raises(Agent99Error) as caught:
            await call()
        kinds[caught.value.code] = caught.value.retryable
    assert {"NO_RESPONDERS": True, "LOCAL_PROTOCOL": False, "PAYLOAD_TOO_LARGE": False} == kinds
