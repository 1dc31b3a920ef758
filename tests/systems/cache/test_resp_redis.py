"""What the listener answers is what a real redis-server answers, byte by byte."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence

import pytest

from agent99.clock import SystemClock
from agent99.systems.cache._resp_commands import COMMANDS
from agent99.systems.cache._resp_server import RespListener, RespOptions

from ._redis import RawClient, redis_port, request_of  # noqa: F401 - a fixture
from ._strings import MemoryStrings

SLOW_S_MAX = 60
"""How much one of two servers may lag behind on a busy machine; the times set are 1,000 s."""
BIG = str(2**63 - 1)
LOW = str(-(2**63))

STORIES: dict[str, str] = {
    "ping": "PING; PING hello; ping x y; ECHO a; ECHO; ECHO a b",
    "select": "SELECT 0; SELECT 1; SELECT -1; SELECT x; SELECT; SELECT 0 0",
    "auth": "AUTH x; AUTH default x; AUTH other x; AUTH a b c; AUTH",
    "hello": "HELLO 4; HELLO x; HELLO 2 FOO; HELLO 2 AUTH a; HELLO 2 SETNAME; HELLO 2 AUTH o x",
    "client": "CLIENT; CLIENT FOO; CLIENT GETNAME; CLIENT SETNAME; CLIENT SETNAME me; "
    "CLIENT GETNAME; CLIENT ID x; client setname a\tb; HELLO 3 SETNAME x\ty",
    "command": "COMMAND COUNT x; COMMAND FOO; COMMAND INFO nosuch",
    "unknown": f"FOO; foo a b; FOO {'x' * 300} y; {'foo' * 100} a b; FOO {'y' * 127} b c; "
    f"FOO {'y' * 126} b c; FOO {'y' * 125} b c",
    "get and set": "GET a; SET a 1; GET a; get a; GeT a; SET a 2; GET a; SET a; GET; GET a b",
    "set nx xx": "SET a 1 XX; GET a; SET a 1 NX; SET a 2 NX; GET a; SET a 3 XX; SET a 4 nx xx",
    "set get": "SET a 1 GET; SET a 2 GET; SET a 3 NX GET; SET b 4 NX GET; GET a; GET b; "
    "SET c 5 XX GET; GET c",
    "set with time": "SET a 1 EX 1000; TTL a; SET a 2; TTL a; SET a 3 PX 1000000; TTL a; "
    "SET a 4 KEEPTTL; TTL a; GET a; SET a 5 EXAT 1; GET a; EXISTS a; SET a 6 PXAT 99999999999999; "
    "GET a; SET a 7 EX 1 EX 1000; TTL a",
    "set badly": "SET a 1 EX 0; SET a 1 EX -1; SET a 1 EX x; SET a 1 EX; SET a 1 PX 0; "
    f"SET a 1 EX {BIG}; SET a 1 PX {BIG}; SET a 1 EXAT 0; SET a 1 EX 1 PX 1; SET a 1 EX 1 KEEPTTL; "
    "SET a 1 FOO; SET a 1 NX XX; SET a 1 EX 1.5; SET a 1 PERSIST; SET a 1 EX NX; EXISTS a",
    "setex": "SETEX a 1000 x; TTL a; GET a; PSETEX a 1000000 y; TTL a; GET a; SETEX a 0 x; "
    f"SETEX a x x; PSETEX a -1 x; SETEX a {BIG} x; SETEX a 1; SETNX a z; SETNX b z; GET b",
    "getset getdel": "GETSET a 1; GETSET a 2; GETDEL a; GETDEL a; EXISTS a; SET a 1 EX 1000; "
    "GETSET a 2; TTL a; GETDEL; GETSET a",
    "getex": "GETEX a; GETEX a EX 1; GETEX a EX 0; SET a 1; GETEX a EX 1000; TTL a; "
    "GETEX a; TTL a; GETEX a PERSIST; TTL a; GETEX a PX 1000000; TTL a; GETEX a EX 0; "
    "GETEX a EX x; GETEX a FOO; GETEX a EX; GETEX a EX 1 PERSIST; GETEX a NX; GETEX a EXAT 1; "
    "GET a",
    "mget mset": "MSET a 1 b 2; MGET a b c a; MSET a; MSET a 1 b; MSET; MGET; MSET x 1 x 2; GET x; "
    "SET a 1 EX 1000; MSET a 2; TTL a",
    "del": "MSET a 1 b 2 c 3; DEL a nosuch a; EXISTS a b c; UNLINK b c b; DEL; DEL a; UNLINK",
    "exists": "SET a 1; EXISTS a a b; EXISTS; TOUCH a a b; TOUCH; TYPE a; TYPE b; TYPE",
    "expire": "SET a 1; EXPIRE a 1000; TTL a; PEXPIRE a 2000000; TTL a; PERSIST a; PERSIST a; "
    "TTL a; PTTL a; EXPIRE nosuch 1; TTL nosuch; PTTL nosuch; PERSIST nosuch; EXPIRE a -1; "
    "EXISTS a; SET a 1; EXPIRE a 0; EXISTS a; SET a 1; EXPIREAT a 1; EXISTS a; SET a 1; "
    "PEXPIREAT a 99999999999999; EXISTS a; PEXPIREAT a 1; EXISTS a; EXPIRE nosuch -1",
    "expire badly": f"SET a 1; EXPIRE a x; EXPIRE a {BIG}; EXPIRE a; EXPIRE a 1 FOO; TTL; PERSIST; "
    f"EXPIRE nosuch {BIG}; EXPIREAT a {BIG}; EXPIRE a 1.5; PEXPIRE a ''; EXPIRE a {LOW}; TTL a",
    "incr": "INCR a; INCR a; DECR a; INCRBY a 10; DECRBY a 3; INCRBY a -5; GET a; DECR b; "
    "SET a 1 EX 1000; INCR a; TTL a",
    "incr badly": f"SET a x; INCR a; SET a {BIG}; INCR a; DECR a; INCRBY a x; INCRBY a 1.5; "
    f"DECRBY a {LOW}; SET a {LOW}; DECR a; INCRBY a -1; SET a ''; INCR a; SET a 01; INCR a; "
    f"SET a -0; INCR a; SET a 99999999999999999999; INCR a; INCRBY a 99999999999999999999; INCR; "
    "INCRBY a; INCRBY a +1; INCRBY b 01; DECRBY b -0",
    "append": "APPEND a x; APPEND a yz; GET a; STRLEN a; STRLEN b; APPEND a ''; SET a 1 EX 1000; "
    "APPEND a 2; TTL a; GET a; APPEND a; STRLEN",
    "scan": "SCAN 0; SET a 1; SCAN 0; SCAN 0 MATCH a*; SCAN 0 MATCH b*; SCAN 0 COUNT 100; "
    "SCAN 0 TYPE string; SCAN 0 TYPE list; SCAN 0 COUNT 0; SCAN 0 COUNT -1; SCAN 0 COUNT x; "
    "SCAN 0 FOO; SCAN 0 FOO x; SCAN 0 MATCH; SCAN x; SCAN 18446744073709551616; SCAN; KEYS *; "
    "KEYS b; KEYS",
    "dbsize flush": "DBSIZE; MSET a 1 b 2; DBSIZE; FLUSHDB FOO; FLUSHDB SYNC X; FLUSHDB; DBSIZE; "
    "SET a 1; FLUSHALL ASYNC; DBSIZE; FLUSHALL SYNC; DBSIZE x",
    "info": "INFO nosuch",
}
"""Commands, told in order; words are parted by blanks, and `''` is an empty one."""

INLINE = (
    *(b"PING\r\n", b"PING\n", b'PING "a b"\r\n', b"PING 'x\\'y' \r\n", b'ECHO "a\\x41\\n\\q"\r\n'),
    *(b"\r\n\r\nPING\r\n", b" \r\n  PING  \r\n", b"PING a'b'\r\n", b'PING a"b c"\r\n'),
    *(b"foo bar\r\n", b"SET a ''\r\nGET a\r\n", b"*0\r\nPING\r\n", b"*-5\r\nPING\r\n"),
    *(b"*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nPING\r\n", b"*1\r\n$0\r\n\r\n"),
    b"PING '\t'\r\n",
)
BROKEN = (
    *(b"*1\r\n:1\r\n", b"*1\r\n*1\r\n$4\r\nPING\r\n", b"*2\r\n$-1\r\n", b"*1\r\n$99999999999\r\n"),
    *(b"*2147483648\r\n", b"*a\r\n", b"*\r\n", b"*+1\r\n", b"*1\r\n$04\r\nPING\r\n"),
    *(b"*1\r\n$ 4\r\nPING\r\n", b"*1\r\n$\r\n", b'PING "\r\n', b"PING 'a'b\r\n", b"a" * 65_537),
    *(b"*" + b"1" * 65_536, b"*1\r\n$" + b"1" * 65_536, b"HOST: x\r\nPING\r\n", b"POST / \r\n"),
    *(
        b"*1\r\n$4\r\nPING\r\n*x\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n\x01",
        b"*2\r\n$4\r\nPING\r\n\r\n",
    ),
    *(b"QUIT\r\nPING\r\n", b"QUIT x\r\n"),
)


@pytest.fixture
async def ports(redis_port: int) -> AsyncIterator[tuple[int, int]]:  # noqa: F811 - the fixture
    """Give the port of a listener and that of a real server, both empty."""
    strings = MemoryStrings(SystemClock())
    async with (
        RespListener(strings, RespOptions(port=0)) as listener,
        await RawClient.connect(redis_port) as theirs,
    ):
        await theirs.ask("FLUSHALL")
        yield listener.port, redis_port


@pytest.fixture
async def pair(ports: tuple[int, int]) -> AsyncIterator[tuple[RawClient, RawClient]]:
    """Give a client of the listener and one of the real server."""
    our_port, their_port = ports
    async with (
        await RawClient.connect(our_port) as ours,
        await RawClient.connect(their_port) as theirs,
    ):
        yield ours, theirs


def agree(words: Sequence[str], ours: bytes, theirs: bytes) -> bool:
    """Return whether two answers are the same; a time left may differ by what the test takes."""
    if ours != theirs and words[0] == "TTL":
        lefts_s = sorted((int(ours[1:]), int(theirs[1:])))
        return lefts_s[0] > 0 and lefts_s[1] - lefts_s[0] <= SLOW_S_MAX
    return ours == theirs


@pytest.mark.parametrize("version", ["2", "3"])
@pytest.mark.parametrize("story", STORIES)
async def test_every_command_is_answered_as_redis_does(
    pair: tuple[RawClient, RawClient], story: str, version: str
) -> None:
    """Each command, in each of the protocol's versions, has Redis's own answer."""
    for client in pair:
        await client.ask("HELLO", version)
    for line in STORIES[story].split("; "):
        words = ["" if word == "''" else word for word in line.split(" ")]
        ours, theirs = [await client.ask(*words) for client in pair]
        assert agree(words, ours, theirs), (line, theirs, ours)


@pytest.mark.parametrize("sent", [*INLINE, *BROKEN], ids=lambda sent: repr(sent[:24]))
@pytest.mark.parametrize("is_cut", [False, True])
async def test_every_bad_byte_is_answered_as_redis_does(
    pair: tuple[RawClient, RawClient], sent: bytes, is_cut: bool
) -> None:
    """What people type and what is broken has Redis's own answers, and its own end."""
    heard: list[bytes] = []
    for client in pair:
        for piece in (sent[:3], sent[3:]) if is_cut else (sent,):
            client.writer.write(piece)
            await client.writer.drain()
        client.writer.write_eof()
        heard.append(await client.rest())
    assert heard[1] == heard[0]


KEYS = ("a", "b", "ä")
VALUES = ("", "1", "-7", "x", "two words", BIG)
TIMES = ("1000", "0", "-1", "x")


def any_command(chance: random.Random) -> Sequence[str]:
    """Return a command that is mostly well-formed."""
    key, other, value = chance.choice(KEYS), chance.choice(KEYS), chance.choice(VALUES)
    options = chance.sample(("NX", "XX", "GET", "KEEPTTL", "EX"), chance.choice((0, 0, 1, 1, 2)))
    times = [
        word for one in options for word in ((one, chance.choice(TIMES)) if one == "EX" else (one,))
    ]
    return chance.choice(
        (
            *(("GET", key), ("MGET", key, other, key), ("STRLEN", key), ("EXISTS", key, other)),
            *(("SET", key, value, *times), ("MSET", key, value, other, "2"), ("SETNX", key, value)),
            *(("APPEND", key, value), ("INCR", key), ("DECRBY", key, value), ("TTL", key)),
            *(("DEL", key, other), ("GETDEL", key), ("GETSET", key, value), ("TYPE", key)),
            *(("EXPIRE", key, chance.choice(TIMES)), ("PERSIST", key), ("TOUCH", key), ("PING",)),
            *(
                ("SETEX", key, chance.choice(TIMES), value),
                ("DBSIZE",),
                ("ECHO", value),
                ("NO", key),
            ),
            *(("GETEX", key, *times[:2]), ("FLUSHALL",), ("SELECT", "0"), ("GET",)),
        )
    )


async def test_any_pipeline_is_answered_as_redis_does(
    pair: tuple[RawClient, RawClient], seed: int
) -> None:
    """Random commands on three keys, in pipelines of random length, have Redis's own answers."""
    chance = random.Random(seed)
    for _ in range(100):
        commands = [any_command(chance) for _ in range(chance.randrange(1, 60))]
        heard: list[list[bytes]] = []
        for client in pair:
            client.writer.write(b"".join(request_of(*words) for words in commands))
            heard.append([await client.answer() for _ in commands])
        for words, ours, theirs in zip(commands, *heard, strict=True):
            assert agree(words, ours, theirs), (words, theirs, ours)


async def test_arities_are_those_of_redis(ports: tuple[int, int]) -> None:
    """The table's arities, and the places of its keys, are those of Redis."""
    async with await RawClient.connect(ports[1]) as client:
        for command in COMMANDS:
            described = await client.ask("COMMAND", "INFO", command.name)
            numbers = [int(line[1:]) for line in described.split(b"\r\n") if line[:1] == b":"]
            assert [command.arity, *command.keys] == numbers[:4], command.name
