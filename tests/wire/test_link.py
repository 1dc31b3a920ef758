"""What the NATS wire makes of a server that behaves strangely: never a connection that is deaf."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent99.clock import SystemClock
from agent99.errors import (
    AuthenticationError,
    DeadlineExceededError,
    DisconnectedError,
    LocalProtocolError,
    PayloadTooLargeError,
    PermissionDeniedError,
    ServerUnavailableError,
    ServerVersionError,
    TransportError,
    UsageError,
)
from agent99.ids import SystemIds
from agent99.wire import ConnectionState, NatsWire, WireOptions, open_wire
from tests._wait import eventually
from tests.wire._puppet import INFO, Puppet, puppet

_QUICK = WireOptions(
    connect_timeout_s=0.5,
    reconnect_wait_s_min=0.01,
    reconnect_wait_s_max=0.02,
    ping_interval_s=5.0,
)


async def _open(url: str | list[str], options: WireOptions = _QUICK) -> NatsWire:
    return await open_wire(
        url, sender=b"tester", clock=SystemClock(), ids=SystemIds(), options=options
    )


@asynccontextmanager
async def _connected(options: WireOptions = _QUICK) -> AsyncIterator[tuple[Puppet, NatsWire]]:
    async with puppet() as server:
        wire = await _open(server.url, options)
        try:
            yield server, wire
        finally:
            server.answers_pings = True
            await wire.aclose()


async def test_late_pong_harms_nobody() -> None:
    """A PONG whose flush was given up is taken, and the next ones find theirs."""
    async with _connected() as (server, wire):
        server.answers_pings = False
        with pytest.raises(DeadlineExceededError):
            await wire.flush(timeout_s=0.01)
        given_up = asyncio.ensure_future(wire.flush())
        await asyncio.wait([given_up], timeout=0.01)
        given_up.cancel()
        server.answers_pings = True
        server.say(b"PONG\r\nPONG\r\n")
        await wire.flush()
        assert (ConnectionState.CONNECTED, 1) == (wire.state, server.connections)


async def test_pong_nobody_waits_for() -> None:
    """More PONGs than PINGs harm nobody, nor does +OK."""
    async with _connected() as (server, wire):
        server.say(b"PONG\r\n+OK\r\nPONG\r\n")
        await wire.flush()
        await wire.flush()
        assert 1 == server.connections


async def test_ping_is_answered() -> None:
    """The server's PING gets a PONG."""
    async with _connected() as (server, _):
        server.say(b"PING\r\n")
        await server.wait_heard(b"PONG\r\n")


@pytest.mark.parametrize(
    "words", [b"HELLO\r\n", b"MSG a 1 x\r\n", b"INFO {]\r\n", b"INFO []\r\n", b"\x00\x01"]
)
async def test_unreadable_stream(words: bytes) -> None:
    """A stream that cannot be read ends the link, and a new one is made."""
    async with _connected() as (server, wire):
        server.say(words)
        await server.wait_connection(2)
        await wire.flush()
        assert 1 == wire.statistics().reconnects


async def test_hang_up() -> None:
    """A server that hangs up is called again, and what was subscribed is asked for again."""
    async with _connected() as (server, wire):
        wire.subscribe(b"some.subject", lambda _: None, queue=b"group")
        await wire.flush()
        server.heard = b""
        server.hang_up()
        await server.wait_heard(b"SUB some.subject group 2\r\n")
        await wire.flush()
        assert 1 == wire.statistics().reconnects


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (b"-ERR 'Stale Connection'\r\n", TransportError),
        (b"-ERR no quotes\r\n", TransportError),
        (b"-ERR\r\n", TransportError),
        (b"-ERR 'Invalid Subject'\r\n", LocalProtocolError),
        (b"-ERR 'Maximum Payload Violation'\r\n", LocalProtocolError),
        (b"-ERR 'User Authentication Expired'\r\n", AuthenticationError),
    ],
)
async def test_complaint(words: bytes, kind: type[Exception]) -> None:
    """Every complaint is reported, however it is written, and the link lives on."""
    async with _connected() as (server, wire):
        errors: list[Exception] = []
        wire.on_error(errors.append)
        server.say(words)
        await wire.flush()
        assert [kind] == [type(error) for error in errors]
        assert 1 == server.connections


async def test_complaint_in_the_handshake() -> None:
    """A complaint instead of a welcome says why there is no connection."""
    async with puppet(greeting=INFO + b"-ERR 'maximum connections exceeded'\r\n") as server:
        server.answers_pings = False
        waiting = asyncio.ensure_future(_open(server.url))
        await server.wait_heard(b"CONNECT")
        server.hang_up()
        with pytest.raises(ServerUnavailableError, match="maximum connections exceeded"):
            await waiting


async def test_refused_credential() -> None:
    """A refused credential is an AuthenticationError that does not show it."""
    async with puppet(greeting=INFO + b"-ERR 'Authorization Violation'\r\n") as server:
        server.answers_pings = False
        url = server.url.replace("://", "://someone:secret@")
        waiting = asyncio.ensure_future(_open(url))
        await server.wait_heard(b"CONNECT")
        server.hang_up()
        with pytest.raises(AuthenticationError) as caught:
            await waiting
        assert "secret" not in str(caught.value)
        assert b'"user":"someone","pass":"secret"' in server.heard


@pytest.mark.parametrize("version", [b"2.14.2", b"2.9.10", b"", b"nonsense"])
async def test_old_server(version: bytes) -> None:
    """A server that is too old is refused with a sentence."""
    async with puppet(greeting=INFO.replace(b"2.15.1", version)) as server:
        with pytest.raises(ServerVersionError, match=r"agent99 needs 2\.14\.3 or later"):
            await _open(server.url)
        assert b"CONNECT" not in server.heard


async def test_silent_server() -> None:
    """A server that never says INFO is given up in time."""
    async with puppet(greeting=b"") as server:
        options = WireOptions(connect_timeout_s=0.05)
        with pytest.raises(ServerUnavailableError, match=r"no answer within 0\.05 s"):
            await _open(server.url, options)


async def test_other_protocol() -> None:
    """A server that speaks something else is no NATS server."""
    async with puppet(greeting=b"SSH-2.0-OpenSSH_9.6\r\n") as server:
        with pytest.raises(ServerUnavailableError):
            await _open(server.url)


async def test_nobody_there() -> None:
    """A closed port gives one helpful sentence."""
    async with puppet() as server:
        url = server.url
    with pytest.raises(ServerUnavailableError, match=r"agent99 server status"):
        await _open(url.replace("://", "://u:secret@"))


async def test_worst_reason_wins() -> None:
    """Of servers that all refuse, the one that came furthest says why; one good one is enough."""
    async with puppet() as good, puppet(greeting=INFO.replace(b"2.15.1", b"2.9.0")) as old:
        with pytest.raises(ServerVersionError):
            await _open([old.url, "nats://127.0.0.1:1"])
        wire = await _open(["nats://127.0.0.1:1", old.url, good.url])
        assert ConnectionState.CONNECTED is wire.state
        await wire.aclose()


async def test_limits_change() -> None:
    """A new INFO changes the limit of the payload at once."""
    async with _connected() as (server, wire):
        server.say(INFO.replace(b"1048576", b"100"))
        await eventually(lambda: wire.payload_bytes_max == 100)
        with pytest.raises(PayloadTooLargeError):
            wire.publish(b"a", bytes(101))
        assert "2.15.1" == wire.server.version


async def test_lame_duck() -> None:
    """A server that is about to stop is left for another one before it does; alone, it is kept."""
    async with puppet() as one, puppet() as two:
        wire = await _open([one.url, two.url])
        wire.subscribe(b"a", lambda _: None)
        one.say(INFO.replace(b"{", b'{"ldm":true,'))
        await two.wait_heard(b"SUB a 2\r\n")
        await eventually(lambda: not one.links)
        await wire.flush()
        two.say(INFO.replace(b"{", b'{"ldm":true,'))
        await wire.flush()
        await wire.aclose()
        assert 1 <= wire.statistics().reconnects


_LEAVING = INFO.replace(b"{", b'{"ldm":true,')


async def test_lame_duck_with_nowhere_to_go() -> None:
    """Where the others do not answer, the server is kept to its end, and the search goes on."""
    async with puppet() as one, puppet(greeting=INFO.replace(b"2.15.1", b"2.9.0")) as old:
        wire = await _open([one.url, old.url])
        errors: list[Exception] = []
        wire.on_error(errors.append)
        one.say(_LEAVING)
        await eventually(lambda: errors)
        assert ConnectionState.CONNECTED is wire.state
        await wire.flush()
        one.say(_LEAVING)
        await old.wait_connection(2)
        one.hang_up()
        await one.wait_connection(2)
        await wire.flush()
        await wire.aclose()


async def test_lame_duck_that_dies_early() -> None:
    """A server that stops while another one is looked for does no harm."""
    async with puppet() as one, puppet() as two:
        wire = await _open([one.url, two.url])
        two.answers_pings = False
        one.say(_LEAVING)
        await two.wait_heard(b"CONNECT")
        one.hang_up()
        await eventually(lambda: wire.state is ConnectionState.RECONNECTING)
        two.answers_pings = True
        two.say(b"PONG\r\n")
        await wire.flush()
        assert [1, 1] == [one.connections, two.connections]
        await wire.aclose()


async def test_new_link_that_dies_early() -> None:
    """A new link that goes away before it is confirmed is one more failure, and no more."""
    async with puppet() as one, puppet() as two:
        wire = await _open([one.url, two.url])
        wire.subscribe(b"a", lambda _: None)
        two.pongs_left = 1
        one.say(_LEAVING)
        await two.wait_heard(b"SUB a 2\r\n")
        two.hang_up()
        two.pongs_left = 1_000
        await wire.flush()
        assert ConnectionState.CONNECTED is wire.state
        await wire.aclose()


async def test_forbidden_reply() -> None:
    """A request whose inbox the server does not allow fails at once."""
    async with _connected() as (server, wire):
        errors: list[Exception] = []
        wire.on_error(errors.append)
        request = wire.request(b"a", b"", deadline_s=SystemClock().monotonic_s() + 5)
        await server.wait_heard(b"PUB a ")
        inbox = server.heard.split(b"PUB a ")[1].split(b" ")[0]
        words = b"-ERR 'Permissions Violation for Publish with Reply of \"%b\"'\r\n"
        server.say(words % inbox + words % b"other")
        with pytest.raises(PermissionDeniedError):
            await request
        await wire.flush()
        assert [PermissionDeniedError] == [type(error) for error in errors]


async def test_siblings_are_learnt() -> None:
    """The servers that INFO names are called when the one given is gone."""
    async with puppet() as two:
        named = f'"connect_urls":["127.0.0.1:{two.port}","bad:port"],'.encode()
        async with puppet(greeting=INFO.replace(b"{", b"{" + named)) as one:
            wire = await _open(one.url)
            one.say(INFO.replace(b"{", b"{" + named))
            await wire.flush()
        await two.wait_connection(1)
        await wire.flush()
        assert f"NatsWire('{two.url}', sender=b'tester', connected)" == repr(wire)
        await wire.aclose()


async def test_credential_lost_later() -> None:
    """A credential that is refused at a reconnect is reported once, and tried for ever."""
    async with _connected() as (server, wire):
        errors: list[Exception] = []
        wire.on_error(errors.append)
        server.greeting = INFO + b"-ERR 'Authorization Violation'\r\n"
        server.answers_pings = False
        server.hang_up()
        for number in (2, 3, 4):
            await server.wait_connection(number)
            await eventually(lambda: server.links)
            server.hang_up()
        assert [AuthenticationError] == [type(error) for error in errors]
        server.greeting, server.answers_pings = INFO, True
        await eventually(lambda: wire.state is ConnectionState.CONNECTED)


async def test_stale_link() -> None:
    """A link on which nothing comes for three intervals is given up."""
    options = WireOptions(
        connect_timeout_s=0.1,
        ping_interval_s=0.03,
        reconnect_wait_s_min=0.01,
        reconnect_wait_s_max=0.01,
    )
    async with _connected(options) as (server, wire):
        await server.wait_heard(b"PING\r\n")
        server.answers_pings = False
        flushing = asyncio.ensure_future(wire.flush())
        await eventually(lambda: wire.state is ConnectionState.RECONNECTING)
        with pytest.raises(DisconnectedError):
            await flushing
        server.answers_pings = True
        await eventually(lambda: wire.state is ConnectionState.CONNECTED)


async def test_drain_over_a_lost_link() -> None:
    """A drain whose link goes away is over: nothing more can come."""
    async with _connected() as (server, wire):
        one, two = (wire.subscribe(subject, lambda _: None) for subject in (b"a", b"b"))
        server.answers_pings = False
        with pytest.raises(DeadlineExceededError):
            await one.drain(timeout_s=0.01)
        draining = asyncio.ensure_future(two.drain())
        await server.wait_heard(b"UNSUB 3\r\n")
        server.answers_pings = True
        server.hang_up()
        await draining
        await wire.flush()
        assert "OwnedSubscription(b'a')" == repr(one)


class _BrokenClock(SystemClock):
    """Fails once when it is asked to sleep."""

    def __init__(self) -> None:
        self.failures_left = 1

    async def sleep(self, delay_s: float) -> None:
        self.failures_left -= 1
        if self.failures_left >= 0:
            raise ZeroDivisionError
        await super().sleep(delay_s)


async def test_reconnecting_that_fails() -> None:
    """Not even a bug in what reconnects leaves a wire that is deaf for ever."""
    async with puppet() as server:
        wire = await open_wire(
            server.url, sender=b"t", clock=_BrokenClock(), ids=SystemIds(), options=_QUICK
        )
        errors: list[Exception] = []
        wire.on_error(errors.append)
        server.hang_up()
        await server.wait_connection(2)
        await wire.flush()
        assert ["reconnecting failed: ZeroDivisionError()"] == [str(error) for error in errors]
        await wire.aclose()


async def test_errors_nobody_listens_to() -> None:
    """Without a listener the event loop's exception handler is told."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: told.append(context["exception"])
    )
    async with _connected() as (server, wire):
        server.say(b"-ERR 'Slow Consumer'\r\n")
        await wire.flush()
        wire.on_error(lambda _: 1 // 0)
        server.say(b"-ERR 'Slow Consumer'\r\n")
        await wire.flush()
    assert ["TransportError", "ZeroDivisionError"] == [type(one).__name__ for one in told]


@pytest.mark.parametrize(
    "fields", [{"ping_interval_s": 0}, {"pending_bytes_max": -1}, {"connect_timeout_s": math.inf}]
)
def test_bad_options(fields: dict[str, float]) -> None:
    """Options that make no sense are refused where they are made."""
    with pytest.raises(UsageError, match=next(iter(fields))):
        WireOptions(**fields)


async def test_bad_host() -> None:
    """A host name that cannot be is an address at which nobody answers."""
    with pytest.raises(ServerUnavailableError):
        await _open(f"nats://{'x' * 70}.example:1")


async def test_collected_while_open() -> None:
    """A wire that is collected while it is open warns, and its link ends."""
    async with puppet() as server:
        forgotten = [await _open(server.url)]
        with pytest.warns(ResourceWarning, match="unclosed NatsWire"):
            forgotten.clear()
        await eventually(lambda: not server.links)


@pytest.mark.parametrize("sender", [b"", b"a.b", b"*", b"a b", b"a\r\n"])
async def test_bad_sender(sender: bytes) -> None:
    """A sender is one token."""
    with pytest.raises(LocalProtocolError):
        await open_wire("x", sender=sender, clock=SystemClock(), ids=SystemIds())


class _NoLuck(SystemIds):
    """Draws the lowest number each time."""

    def fraction(self) -> float:
        return 0.0


class _NotedClock(SystemClock):
    """Remembers the waits."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, delay_s: float) -> None:
        self.slept.append(delay_s)
        await super().sleep(delay_s)


async def test_attempts_are_apart() -> None:
    """Bad luck makes the first attempt early, but brings no two of them close to each other."""
    clock = _NotedClock()
    async with puppet() as server:
        wire = await open_wire(server.url, sender=b"t", clock=clock, ids=_NoLuck(), options=_QUICK)
        server.greeting = b"-ERR 'maximum connections exceeded'\r\n"
        server.hang_up()
        await server.wait_connection(5)
        assert [0.0, 0.01, 0.01, 0.01] == clock.slept[:4]
        await wire.aclose()
