"""The NATS wire over a link that breaks in every way: it comes back, and half a message never does.

The campaigns are F16 to F18 of the fault list and the half of its client defects that need a link.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256

import pytest

from agent99.clock import SystemClock
from agent99.errors import (
    Agent99Error,
    DeadlineExceededError,
    DisconnectedError,
    NoRespondersError,
)
from agent99.testing import ChaosProxy
from agent99.wire import ConnectionState, Message, NatsWire, WireOptions
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.wire.conftest import OpenWire

_now = SystemClock().monotonic_s
_QUICK = WireOptions(reconnect_wait_s_min=0.01, reconnect_wait_s_max=0.05, ping_interval_s=0.1)
_STALE_S = 3 * _QUICK.ping_interval_s


@pytest.fixture
async def proxy(nats_server: NatsServer) -> AsyncIterator[ChaosProxy]:
    """Give a proxy in front of the shared server."""
    async with ChaosProxy(nats_server.port) as made:
        yield made


@pytest.fixture
async def broken(connect: OpenWire, proxy: ChaosProxy) -> NatsWire:
    """Give a wire through the proxy that notices a dead link soon."""
    return await connect(f"nats://127.0.0.1:{proxy.port}", options=_QUICK)


def _whole(number: int, size: int) -> bytes:
    """Return a payload that proves that it is whole."""
    body = b"%d:" % number + random.Random(number).randbytes(size)
    return sha256(body).digest() + body


def _is_whole(payload: bytes) -> bool:
    return sha256(payload[32:]).digest() == payload[:32]


async def _is_usable(wire: NatsWire, subject: bytes) -> None:
    """Return once a message goes out and comes back."""
    got: list[Message] = []
    subscription = wire.subscribe(subject, got.append)

    def is_heard() -> bool:
        if not got:  # what went out just before a link broke is lost
            wire.publish(subject, b"still here")
        return bool(got)

    await eventually(is_heard)
    subscription.unsubscribe()
    assert wire.state is ConnectionState.CONNECTED


@pytest.mark.parametrize("fault", ["stall", "lose"])
async def test_a_half_open_link_is_noticed(
    broken: NatsWire, proxy: ChaosProxy, subject: bytes, fault: str
) -> None:
    """Nobody said that the far end is gone: three pings without an answer do (F17)."""
    began_s = time.monotonic()
    getattr(proxy, fault)()
    await eventually(lambda: broken.state is ConnectionState.RECONNECTING)
    assert time.monotonic() - began_s < _STALE_S + 0.5
    with pytest.raises(DeadlineExceededError):
        await broken.request(subject, b"", deadline_s=_now() + 0.05)
    proxy.heal()
    proxy.reset()
    await _is_usable(broken, subject)


@pytest.mark.slow
@pytest.mark.fault("F17", "a half-open link: nothing comes through, and nobody hangs up")
async def test_a_half_open_link_is_noticed_within_15_s_by_default(
    connect: OpenWire, proxy: ChaosProxy, subject: bytes, fault: Fault
) -> None:
    """As above, with the periods that users have."""
    wire = await connect(f"nats://127.0.0.1:{proxy.port}")
    began_s = time.monotonic()
    proxy.lose()
    late_s = await _lateness_of(wire, subject, 0.5)
    await eventually(lambda: wire.state is ConnectionState.RECONNECTING)
    noticed_s = time.monotonic() - began_s
    proxy.heal()
    proxy.reset()
    await _is_usable(wire, subject)
    fault.report(
        Figure("noticed after", noticed_s, "s", at_most=15.5),
        Figure("a request that ran meanwhile, beyond its deadline", late_s, "s", at_most=0.1),
    )


async def _lateness_of(wire: NatsWire, subject: bytes, timeout_s: float) -> float:
    """Make a request that ends at its deadline; returns by how much later it did."""
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        await wire.request(subject, b"", deadline_s=_now() + timeout_s)
    return time.monotonic() - began_s - timeout_s


@pytest.mark.fault("F18", "garbage, and frames that say they are too long, from the server's side")
@pytest.mark.parametrize(
    "words",
    [
        b"what is this\r\n",
        b"MSG\r\n",
        b"MSG a 1 -5\r\n",
        b"MSG a 1 99999999999\r\n",
        b"MSG a 1 10\r\nhalf",
        b"HMSG a 1 12 5\r\nNATS/1.0\r\n\r\n",
        b"HMSG a 1 30 40\r\nNATS/1.0\r\n",
        b"INFO {not json\r\n",
        b"-ERR without quotes\r\n",
        b"-ERR 'Something new'\r\n",
        b"\x00" * 5_000,
        b"P" * 70_000,
        b"PON",
        b"\r\n\r\n",
    ],
)
async def test_nonsense_from_the_server_is_survived(
    broken: NatsWire, proxy: ChaosProxy, subject: bytes, fault: Fault, words: bytes
) -> None:
    """Whatever comes, the wire is usable soon after; nobody hears anything of it (F18)."""
    got: list[Message] = []
    broken.subscribe(subject + b".other", got.append)
    await broken.flush()
    tasks, began_s = len(asyncio.all_tasks()), time.monotonic()
    proxy.inject(words, "to_client")
    answered = await _outcome_of(broken, subject + b".nobody", 0.3)
    assert answered in {"NoRespondersError", "DeadlineExceededError"}
    await _is_usable(broken, subject)
    fault.report(
        Figure("usable again after", time.monotonic() - began_s, "s", at_most=2),
        Figure("messages made of it", len(got), at_most=0, at_least=0),
        Figure("tasks left behind", await _more_tasks(tasks), at_most=0),
    )


async def _more_tasks(before: int) -> int:
    """Return how many tasks there are in addition, once those of an old link have ended."""
    with suppress(AssertionError):
        await eventually(lambda: len(asyncio.all_tasks()) <= before, timeout_s=2)
    return max(0, len(asyncio.all_tasks()) - before)


async def _outcome_of(wire: NatsWire, subject: bytes, timeout_s: float) -> str:
    began_s = time.monotonic()
    try:
        await wire.request(subject, b"", deadline_s=_now() + timeout_s)
    except Agent99Error as error:
        assert time.monotonic() - began_s <= timeout_s + 0.1
        return type(error).__name__
    return "answered"


@pytest.mark.fault("F18", "links that end in the middle of frames, one after the other")
async def test_a_frame_that_is_cut_is_never_delivered(
    broken: NatsWire,
    connect: OpenWire,
    nats_server: NatsServer,
    proxy: ChaosProxy,
    fault: Fault,
    seed: int,
) -> None:
    """Links end in the middle of messages: each message that arrives is whole (F18)."""
    luck = random.Random(seed)
    sender = await connect(nats_server.url)
    subject, got = b"cut.%d" % seed, list[bytes]()
    broken.subscribe(subject, lambda message: got.append(message.payload))
    await broken.flush()
    links, tasks = broken.statistics().reconnects, len(asyncio.all_tasks())
    for round_number in range(30):
        proxy.cut_after(luck.randrange(1, 20_000), "to_client")
        for number in range(20):
            sender.publish(subject, _whole(round_number * 100 + number, luck.randrange(4_000)))
        await sender.flush()
        with suppress(DisconnectedError):  # cut just now
            await broken.flush()
        await eventually(lambda: broken.state is ConnectionState.CONNECTED)
    proxy.heal()
    fault.report(
        Figure("links that were cut", broken.statistics().reconnects - links, at_least=11),
        Figure("messages that arrived", len(got), at_least=31),
        Figure("of these not whole", sum(not _is_whole(payload) for payload in got), at_most=0),
        Figure("tasks left behind", await _more_tasks(tasks), at_most=0),
    )


async def test_requests_over_a_link_that_is_reset_all_the_time(
    broken: NatsWire, proxy: ChaosProxy, connect: OpenWire, nats_server: NatsServer, seed: int
) -> None:
    """Each ends by its deadline, with its own answer or an error; nothing stays behind."""
    subject, luck = b"reset.%d" % seed, random.Random(seed)
    server = await connect(nats_server.url)
    server.subscribe(subject, lambda m: server.publish(m.reply, m.payload))
    await server.flush()
    outcomes: dict[str, int] = {}

    async def ask(number: int) -> None:
        began_s, payload = time.monotonic(), b"%d" % number
        try:
            answer = await broken.request(subject, payload, deadline_s=_now() + 0.5)
            assert answer.payload == payload
            outcome = "answered"
        except (DeadlineExceededError, NoRespondersError) as error:
            outcome = type(error).__name__
        assert time.monotonic() - began_s <= 0.6
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    for start in range(0, 2_000, 100):
        asking = [asyncio.ensure_future(ask(number)) for number in range(start, start + 100)]
        wanted = proxy.bytes["to_client"] + luck.randrange(5_000)  # of some 8,000 of all answers
        await eventually(lambda wanted=wanted: proxy.bytes["to_client"] >= wanted)
        proxy.reset()
        await asyncio.gather(*asking)
    assert sum(outcomes.values()) == 2_000
    assert outcomes["answered"] > 0
    await _is_usable(broken, subject + b".after")
    broken._inbox._look_ahead(_now())
    assert len(broken._inbox) == 0


async def test_a_slow_link_costs_time_and_nothing_else(
    connect: OpenWire, proxy: ChaosProxy, subject: bytes
) -> None:
    """Answers come after the delay, deadlines hold, the order stays."""
    wire = await connect(f"nats://127.0.0.1:{proxy.port}")
    got: list[bytes] = []
    wire.subscribe(subject, lambda message: got.append(message.payload))
    await wire.flush()
    proxy.delay_s = 0.05
    began_s = time.monotonic()
    for number in range(100):
        wire.publish(subject, b"%d" % number)
    await wire.flush()
    assert time.monotonic() - began_s >= 0.1
    await eventually(lambda: len(got) == 100)
    assert got == [b"%d" % number for number in range(100)]
    assert await _outcome_of(wire, subject + b".nobody", 0.02) == "DeadlineExceededError"
    assert await _outcome_of(wire, subject + b".nobody", 2.0) == "NoRespondersError"


@pytest.mark.fault("F16", "a server that reads nothing any more, until every buffer is full")
async def test_a_stalled_server_holds_up_nothing_but_answers(
    connect: OpenWire, proxy: ChaosProxy, subject: bytes, fault: Fault
) -> None:
    """With full buffers every call returns in time, and a cancelled task ends at once (F16)."""
    options = WireOptions(pending_bytes_max=1_000_000)
    wire = await connect(f"nats://127.0.0.1:{proxy.port}", options=options)
    proxy.stall("to_server")
    payload = bytes(100_000)
    outcomes: list[tuple[str, float]] = []
    while not outcomes or outcomes[-1][0] != "BufferFullError":
        outcomes.append(await _outcome_of_full(wire, subject, payload))
    assert {name for name, _ in outcomes} == {"DeadlineExceededError", "BufferFullError"}
    pending_bytes = wire.statistics().pending_bytes
    cancelled_s: list[float] = []
    for waiting in (wire.wait_writable(), wire.flush(60)):
        task = asyncio.ensure_future(waiting)
        await asyncio.sleep(0)
        began_s = time.monotonic()
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()
        cancelled_s.append(time.monotonic() - began_s)
    proxy.heal()
    await _is_usable(wire, subject)
    fault.report(
        Figure("requests until the buffer was full", len(outcomes)),
        Figure("the latest beyond its deadline", max(s for _, s in outcomes), "s", at_most=0.1),
        Figure("a cancelled wait ended after", max(cancelled_s), "s", at_most=0.05),
        # The buffer's own bound is 1 MB; the transport has a piece, too.
        Figure("waiting to be written", pending_bytes / 1e6, "MB", at_most=1.4),
    )


async def _outcome_of_full(wire: NatsWire, subject: bytes, payload: bytes) -> tuple[str, float]:
    """Make a request of 10 ms; returns how it ended, and by how much after its deadline."""
    began_s = time.monotonic()
    try:
        await wire.request(subject, payload, deadline_s=_now() + 0.01)
    except Agent99Error as error:
        return type(error).__name__, time.monotonic() - began_s - 0.01
    return "answered", 0.0
