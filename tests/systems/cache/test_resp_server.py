"""The listener: whom it lets in, what it bounds, how it ends."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from socket import SO_LINGER, SOL_SOCKET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.errors import UsageError
from agent99.systems.cache._resp_keys import KEYS_MAX
from agent99.systems.cache._resp_parser import RequestBounds
from agent99.systems.cache._resp_protocol import OUTPUT_BYTES_MAX, STALL_S_MAX
from agent99.systems.cache._resp_server import RespListener, RespOptions
from agent99.testing import ManualClock
from tests._wait import eventually

from ._redis import RawClient, request_of
from ._strings import Held, MemoryStrings

NOAUTH = b"-NOAUTH Authentication required.\r\n"
WRONG = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"


class Stage:
    """A listener with its strings and clients."""

    def __init__(
        self, listener: RespListener, strings: MemoryStrings, stack: AsyncExitStack
    ) -> None:
        self.listener = listener
        self.strings = strings
        self._stack = stack

    async def connect(self) -> RawClient:
        """Connect a client; it is closed when the test ends."""
        client = await RawClient.connect(self.listener.port)
        self._stack.push_async_callback(client.close)
        return client

    @property
    def clients(self) -> int:
        """How many are connected, as the listener says."""
        return int(repr(self.listener).partition("clients=")[2][:-1])


Open = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def open_listener() -> AsyncIterator[Open]:
    """Give `open_listener(clock=…, **options)`: a listener on a free port, over a dictionary."""
    async with AsyncExitStack() as stack:

        async def open_one(*, clock: ManualClock | None = None, **options: object) -> Stage:
            strings = MemoryStrings(clock or SystemClock())
            made = RespOptions(port=0, **options)  # type: ignore[arg-type]  # as the test says
            listener = RespListener(strings, made, clock=clock)
            await stack.enter_async_context(listener)
            return Stage(listener, strings, stack)

        yield open_one


async def test_a_password_is_asked_for(open_listener: Open) -> None:
    """Without the password nothing is answered but AUTH, HELLO and QUIT; with it, everything."""
    stage = await open_listener(password="open sesame")
    client = await stage.connect()
    assert await client.ask("GET", "a") == NOAUTH
    assert await client.ask("PING") == NOAUTH
    assert (await client.ask("HELLO", "3")).startswith(b"-NOAUTH HELLO must be called")
    assert await client.ask("AUTH", "wrong") == WRONG
    assert await client.ask("AUTH", "someone", "open sesame") == WRONG
    assert await client.ask("GET", "a") == NOAUTH
    assert await client.ask("AUTH", "default", "open sesame") == b"+OK\r\n"
    assert await client.ask("GET", "a") == b"$-1\r\n"
    assert await client.ask("AUTH", "wrong") == WRONG
    assert await client.ask("GET", "a") == b"$-1\r\n"  # as in Redis
    assert stage.strings.calls == {"get_many": 2}


async def test_the_password_may_come_with_hello(open_listener: Open) -> None:
    """HELLO chooses the protocol, says the password and the name at once."""
    client = await (await open_listener(password="p")).connect()
    assert await client.ask("HELLO", "3", "AUTH", "default", "q") == WRONG
    heard = await client.ask("HELLO", "3", "AUTH", "default", "p", "SETNAME", "me")
    assert heard.startswith(b"%7\r\n")
    assert b"$5\r\nproto\r\n:3\r\n" in heard
    assert await client.ask("CLIENT", "GETNAME") == b"$2\r\nme\r\n"
    assert await client.ask("GET", "a") == b"_\r\n"


async def test_the_password_takes_effect_within_a_pipeline(open_listener: Open) -> None:
    """What stands before AUTH in the same packet is refused, what stands behind it is done."""
    client = await (await open_listener(password="p")).connect()
    value = "x" * 20_000  # more than a stranger may send
    lines = [("GET", "a"), ("AUTH", "p"), ("SET", "a", value), ("STRLEN", "a")]
    client.writer.write(b"".join(request_of(*words) for words in lines))
    heard = [await client.answer() for _ in lines]
    assert heard == [NOAUTH, b"+OK\r\n", b"+OK\r\n", b":20000\r\n"]


async def test_strangers_may_not_send_much(open_listener: Open) -> None:
    """Who has not said the password is sent away with a large request."""
    client = await (await open_listener(password="p")).connect()
    client.send("SET", "a", "x" * 20_000)
    assert await client.rest() == b"-ERR Protocol error: unauthenticated bulk length\r\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "cache.example"])
def test_a_door_to_others_wants_a_password(host: str) -> None:
    """A listener that other machines can reach is not opened without a password."""
    strings = MemoryStrings(SystemClock())
    with pytest.raises(UsageError, match="set a password"):
        RespListener(strings, RespOptions(host=host))
    RespListener(strings, RespOptions(host=host, password="p"))
    assert "p=" not in repr(RespOptions(password="p"))


async def test_clients_are_bounded(open_listener: Open) -> None:
    """One client too many is told so and sent away, and there is room again when one leaves."""
    stage = await open_listener(clients_max=2)
    first, second = await stage.connect(), await stage.connect()
    await first.ask("PING")
    await second.ask("PING")
    third = await stage.connect()
    assert await third.rest() == b"-ERR max number of clients reached\r\n"
    await first.close()
    await eventually(lambda: stage.clients == 1)
    assert await (await stage.connect()).ask("PING") == b"+PONG\r\n"
    told = await second.ask("INFO", "clients", "stats")
    assert b"connected_clients:2\r\n" in told
    assert b"maxclients:2\r\n" in told
    assert b"rejected_connections:1\r\n" in told
    assert b"total_connections_received:4\r\n" in told


async def test_requests_are_bounded(open_listener: Open) -> None:
    """A request over the bounds is answered by a protocol error, and the connection ends."""
    bounds = RequestBounds(arguments_max=3, argument_bytes_max=10, request_bytes_max=20)
    stage = await open_listener(bounds=bounds)
    for words, complaint in (
        (("MGET", "a", "b", "c"), b"invalid multibulk length"),
        (("SET", "a", "x" * 11), b"invalid bulk length"),
        (("SET", "a" * 10, "x" * 10), b"too big request"),
    ):
        client = await stage.connect()
        client.send("PING")
        client.send(*words)
        assert await client.rest() == b"+PONG\r\n-ERR Protocol error: %b\r\n" % complaint


async def test_ten_thousand_commands_in_a_pipeline(open_listener: Open) -> None:
    """A deep pipeline is answered whole and in order, in few rounds."""
    stage = await open_listener()
    client = await stage.connect()
    numbers = range(10_000)
    sets = b"".join(request_of("SET", f"k{number}", f"v{number}") for number in numbers)
    gets = b"".join(request_of("GET", f"k{number}") for number in numbers)
    client.writer.write(sets + gets)
    assert [await client.answer() for _ in numbers] == [b"+OK\r\n"] * len(numbers)
    heard = [await client.answer() for _ in numbers]
    assert heard == [b"$%d\r\nv%d\r\n" % (len(f"v{number}"), number) for number in numbers]
    assert stage.strings.calls["set_many"] + stage.strings.calls["get_many"] < 60


async def test_a_pipeline_sees_its_own_writes(open_listener: Open) -> None:
    """Commands on one key take effect in the order in which they were sent."""
    client = await (await open_listener()).connect()
    lines = [("SET", "a", "1"), ("GET", "a"), ("INCR", "a"), ("APPEND", "a", "0"), ("GET", "a")]
    lines += [("DEL", "a"), ("GET", "a"), ("INCR", "a"), ("INCR", "a"), ("DBSIZE",)]
    client.writer.write(b"".join(request_of(*words) for words in lines))
    heard = [await client.answer() for _ in lines]
    assert b"".join(heard) == (
        b"+OK\r\n$1\r\n1\r\n:2\r\n:2\r\n$2\r\n20\r\n:1\r\n$-1\r\n:1\r\n:2\r\n:1\r\n"
    )


async def test_who_takes_no_answers_is_held_back_and_given_up(open_listener: Open) -> None:
    """A client that does not read its answers stops being served, and ends after a minute."""
    clock = ManualClock()
    stage = await open_listener(clock=clock)
    value = b"x" * OUTPUT_BYTES_MAX
    stage.strings.held["a"] = Held(value)
    client = await stage.connect()
    client.writer.write(request_of("GET", "a") * 5_000)
    asked = stage.strings.calls
    await eventually(lambda: asked["get_many"])
    await clock.advance(STALL_S_MAX / 2)
    rounds = asked["get_many"]
    assert rounds <= 20
    assert stage.clients == 1
    await clock.advance(STALL_S_MAX)
    await eventually(lambda: stage.clients == 0)
    assert asked["get_many"] == rounds


async def test_who_sends_faster_than_it_is_served_is_held_back(open_listener: Open) -> None:
    """While a command is at work, a client's bytes stay in its own buffers, and all are done."""
    stage = await open_listener()
    gate = asyncio.Event()
    flush = stage.strings.flush

    async def slow_flush() -> None:
        await gate.wait()
        await flush()

    stage.strings.flush = slow_flush  # type: ignore[method-assign]  # a slow cluster
    client = await stage.connect()
    count = 500
    client.writer.write(request_of("FLUSHALL") + request_of("SET", "a", "x" * 100_000) * count)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await client.writer.drain()  # 50 MB
    gate.set()
    assert [await client.answer() for _ in range(count + 1)] == [b"+OK\r\n"] * (count + 1)


@pytest.mark.parametrize("is_polite", [True, False])
async def test_a_client_that_goes_leaves_nothing(open_listener: Open, is_polite: bool) -> None:
    """However a client ends, its connection and its task end."""
    stage = await open_listener()
    never = asyncio.Event()

    async def wait_forever() -> None:
        await never.wait()

    stage.strings.flush = wait_forever  # type: ignore[method-assign]  # a cluster that is stuck
    client = await stage.connect()
    client.send("FLUSHALL" if not is_polite else "PING")
    await client.writer.drain()
    await eventually(lambda: stage.clients == 1)
    if is_polite:
        assert await client.answer() == b"+PONG\r\n"
        client.writer.write_eof()
    else:
        linger = struct.pack("ii", 1, 0)  # the system resets the connection
        client.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
        client.writer.transport.abort()
    await eventually(lambda: stage.clients == 0)


async def test_what_was_asked_before_the_end_is_answered(open_listener: Open) -> None:
    """A client that ends its side still hears the answers to all it asked."""
    client = await (await open_listener()).connect()
    client.writer.write(request_of("SET", "a", "1") + request_of("GET", "a") * 2_000 + b"GE")
    client.writer.write_eof()
    assert await client.rest() == b"+OK\r\n" + b"$1\r\n1\r\n" * 2_000


async def test_closing_answers_what_is_at_work(open_listener: Open) -> None:
    """A listener that closes answers the command at work, and ends every connection."""
    stage = await open_listener()
    gate = asyncio.Event()
    is_in = asyncio.Event()

    async def slow_flush() -> None:
        is_in.set()
        await gate.wait()

    stage.strings.flush = slow_flush  # type: ignore[method-assign]  # a slow cluster
    busy, idle = await stage.connect(), await stage.connect()
    await idle.ask("PING")
    busy.send("FLUSHALL")
    await is_in.wait()
    closing = asyncio.ensure_future(stage.listener.aclose())
    assert await idle.rest() == b""
    gate.set()
    assert await busy.rest() == b"+OK\r\n"
    await closing
    assert stage.clients == 0
    await stage.listener.aclose()
    with pytest.raises(OSError, match="refused|failed"):
        await stage.connect()


async def test_closing_does_not_wait_forever(open_listener: Open) -> None:
    """A command that does not end is given up when the listener closes."""
    clock = ManualClock()
    stage = await open_listener(clock=clock)
    is_in = asyncio.Event()

    async def stuck() -> None:
        is_in.set()
        await asyncio.Event().wait()

    stage.strings.flush = stuck  # type: ignore[method-assign]  # a cluster that is stuck
    client = await stage.connect()
    client.send("FLUSHALL")
    await is_in.wait()
    closing = asyncio.ensure_future(stage.listener.aclose())
    await eventually(lambda: not closing.done())
    await clock.advance(10.0)
    await closing
    assert (stage.clients, await client.rest()) == (0, b"")


async def test_a_listener_opens_once(open_listener: Open) -> None:
    """One that listens, or did, can't be opened again."""
    stage = await open_listener()
    with pytest.raises(UsageError, match="already"):
        await stage.listener.__aenter__()
    assert f":{stage.listener.port}, clients=0" in repr(stage.listener)
    await (await stage.connect()).ask("PING")
    assert [repr(connection) for connection in stage.listener._connections] == ["Connection(1)"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("GET", b"\xff"), b"-ERR key is not UTF-8 text\r\n"),
        (("MSET", "a", "1", b"\xff", "2"), b"-ERR key is not UTF-8 text\r\n"),
        (("SET", "a", b"\xff"), b"+OK\r\n"),
        (("GET", ""), b"-ERR USAGE: a key has 1 to 1,024 bytes\r\n"),
        (("GET", "x" * 10_240), b"-ERR USAGE: a key has 1 to 1,024 bytes\r\n"),
        (("SCAN", "0", "MATCH", b"\xff"), b"-ERR pattern is not UTF-8 text\r\n"),
        (("KEYS", "*" * 5_000), b"-ERR pattern of more than 4096 bytes\r\n"),
        (("SELECT", "1"), b"-ERR DB index is out of range\r\n"),
        (("EXPIRE", "a", "1", "NX"), b"-ERR Unsupported option NX\r\n"),
        (
            ("SET", "a", "1", "EX", "9223372036854"),
            b"-ERR invalid expire time in 'set' command\r\n",
        ),
        (("CLIENT", "SETINFO", "lib-name", "redis-py"), b"+OK\r\n"),
        (("CLIENT", "SETINFO", "x", "y"), b"-ERR Unrecognized option 'x'\r\n"),
        (
            ("COMMAND", "DOCS", "get"),
            b"-ERR unknown subcommand 'DOCS'. Try COMMAND HELP.\r\n",
        ),
        (("COMMAND", "COUNT"), b":42\r\n"),
        (
            ("LPUSH", "a", "1"),
            b"-ERR unknown command 'LPUSH', with args beginning with: 'a' '1' \r\n",
        ),
    ],
    ids=repr,
)
async def test_where_we_differ_from_redis(
    open_listener: Open, words: tuple[str | bytes, ...], answer: bytes
) -> None:
    """Keys are text of 1 to 1,024 bytes, there is one database, time ends in 294247."""
    client = await (await open_listener()).connect()
    assert await client.ask(*words) == answer


async def test_keys_is_bounded(open_listener: Open) -> None:
    """KEYS answers up to its bound, and beyond that says what to use instead; SCAN finds all."""
    stage = await open_listener()
    client = await stage.connect()
    stage.strings.held.update({f"k{number:05}": Held(b"") for number in range(KEYS_MAX)})
    assert (await client.ask("KEYS", "k*")).startswith(b"*10000\r\n")
    stage.strings.held["k"] = Held(b"")
    assert await client.ask("KEYS", "*") == b"-ERR more than 10000 keys match: use SCAN\r\n"
    assert await client.ask("KEYS", "k0000[12]") == b"*2\r\n$6\r\nk00001\r\n$6\r\nk00002\r\n"
    cursor, found = b"0", 0
    while True:
        parts = (await client.ask("SCAN", cursor, "COUNT", "999999999")).split(b"\r\n")
        cursor = parts[2]
        found += int(parts[3][1:])
        if cursor == b"0":
            break
    assert found == KEYS_MAX + 1


async def test_info_tells_the_cache_figures(open_listener: Open) -> None:
    """INFO has Redis's sections, with the cache's figures where Redis has them."""
    stage = await open_listener()
    stage.strings.held["a"] = Held(b"1")
    client = await stage.connect()
    told = (await client.ask("INFO")).decode().split("\r\n")
    assert {"# Server", "# Clients", "# Memory", "# Stats", "# Cache", "# Keyspace"} <= {*told}
    assert {"used_memory:1000", "keyspace_hits:3", "nodes:2"} <= {*told}
    assert f"tcp_port:{stage.listener.port}" in told
    assert "db0:keys=1,expires=0,avg_ttl=0" in told
    assert (await client.ask("INFO", "memory")) == b"$28\r\n# Memory\r\nused_memory:1000\r\n\r\n"


@settings(max_examples=50)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from([b"*1\r\n$4\r\nPING\r\n", b"PING\r\n", b"*2\r\n", b"$3\r\nGET\r\n"]),
            st.sampled_from(
                [b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", b"$1\r\na\r\n", b"\r\n"]
            ),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_any_bytes_end_well(pieces: list[bytes], is_polite: bool) -> None:
    """Whatever a client sends, in whatever pieces: nothing breaks, hangs or stays behind."""
    asyncio.run(_send_anything(pieces, is_polite=is_polite))


async def _send_anything(pieces: list[bytes], *, is_polite: bool) -> None:
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    strings = MemoryStrings(SystemClock())
    async with RespListener(strings, RespOptions(port=0)) as listener:
        client = await RawClient.connect(listener.port)
        for piece in pieces:
            client.writer.write(piece)
            await asyncio.sleep(0)
        if is_polite:
            with suppress(OSError):  # it may have been sent away already
                client.writer.write_eof()
            heard = await client.rest()
            assert not heard or heard.endswith(b"\r\n")
            assert b"internal error" not in heard
        await client.close()
        await eventually(lambda: "clients=0" in repr(listener))
        assert len(asyncio.all_tasks()) == 1
        assert not problems, problems


def test_it_listens_on_the_loop_that_agents_run_on() -> None:
    """uvloop's transports are not asyncio's: they are taken all the same, and sent away as well."""

    async def talk() -> tuple[bytes, bytes]:
        options = RespOptions(port=0, clients_max=1)
        async with (
            RespListener(MemoryStrings(SystemClock()), options) as listener,
            await RawClient.connect(listener.port) as first,
        ):
            answer = await first.ask("PING")
            async with await RawClient.connect(listener.port) as second:
                return answer, await second.rest()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        answer, refusal = runner.run(talk())
    assert (b"+PONG\r\n", b"-ERR max number of clients reached\r\n") == (answer, refusal)
