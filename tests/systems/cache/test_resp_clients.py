"""What people use: redis-py in both versions of the protocol, and redis-cli."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from agent99.clock import SystemClock
from agent99.systems.cache._resp_server import RespListener, RespOptions

from ._redis import find_binary
from ._strings import AwayError, MemoryStrings

PASSWORD = "open sesame"
CLI_S_MAX = 20.0


@pytest.fixture
async def strings() -> MemoryStrings:
    """Give the strings behind the listener."""
    return MemoryStrings(SystemClock())


@pytest.fixture
async def listener(strings: MemoryStrings) -> AsyncIterator[RespListener]:
    """Give a listener that asks for a password."""
    async with RespListener(strings, RespOptions(port=0, password=PASSWORD)) as opened:
        yield opened


@pytest.fixture(params=[2, 3])
async def client(
    listener: RespListener, request: pytest.FixtureRequest
) -> AsyncIterator[redis.asyncio.Redis]:
    """Give a client of redis-py, once for each version of the protocol."""
    made = redis.asyncio.Redis(
        port=listener.port, password=PASSWORD, protocol=request.param, client_name="test"
    )
    yield made
    await made.aclose()


async def test_redis_py_reads_and_writes(client: Any) -> None:
    """Strings, counters and times through redis-py's own methods."""
    assert await client.ping() is True
    assert await client.client_getname() in {"test", b"test"}
    assert await client.set("a", "1", ex=timedelta(hours=1)) is True
    assert await client.get("a") == b"1"
    assert 3_599 <= await client.ttl("a") <= 3_600
    assert await client.pttl("nosuch") == -2
    assert await client.set("a", "2", nx=True) is None
    assert await client.set("a", "2", xx=True, get=True, keepttl=True) == b"1"
    assert await client.ttl("a") > 0
    assert await client.persist("a") == 1
    assert await client.ttl("a") == -1
    assert await client.incr("a", 40) == 42
    assert await client.decr("a") == 41
    assert await client.append("a", "x") == 3
    assert await client.strlen("a") == 3
    assert await client.mset({"b": b"\x00\xff", "ä": "ö"}) is True
    assert await client.mget("b", "nosuch", "ä") == [b"\x00\xff", None, "ö".encode()]
    assert await client.getex("b", px=60_000) == b"\x00\xff"
    assert await client.expireat("b", 1) == 1
    assert await client.exists("a", "b", "ä") == 2
    assert await client.getdel("ä") == "ö".encode()
    assert await client.type("a") == b"string"
    assert await client.delete("a", "b") == 1
    assert await client.dbsize() == 0


async def test_redis_py_scans(client: Any) -> None:
    """SCAN through redis-py's iterator finds every key."""
    await client.mset({f"user:{number}": "" for number in range(100)} | {"other": ""})
    found = [key async for key in client.scan_iter(match="user:*", count=7)]
    assert sorted(found) == sorted(b"user:%d" % number for number in range(100))
    assert len(await client.keys("user:1?")) == 10
    assert await client.flushdb() is True
    assert await client.keys() == []


async def test_redis_py_has_a_pipeline(client: Any) -> None:
    """A pipeline without MULTI answers each of its commands, errors among them."""
    pipeline = client.pipeline(transaction=False)
    for number in range(2_000):
        pipeline.set(f"k{number}", number, ex=1_000)
        pipeline.incr(f"k{number}")
    pipeline.lpush("a", "b")
    *heard, problem = await pipeline.execute(raise_on_error=False)
    assert heard == [answer for number in range(2_000) for answer in (True, number + 1)]
    assert isinstance(problem, redis.exceptions.ResponseError)


async def test_redis_py_is_told_what_is_wrong(client: Any, strings: MemoryStrings) -> None:
    """Errors arrive as the exceptions that redis-py has for them."""
    with pytest.raises(redis.exceptions.ResponseError, match="unknown command 'LPUSH'"):
        await client.lpush("a", "b")
    await client.set("a", "x")
    with pytest.raises(redis.exceptions.ResponseError, match="not an integer"):
        await client.incr("a")
    strings.broken["away"] = AwayError("nobody is there")
    with pytest.raises(redis.exceptions.ResponseError, match="nobody is there"):
        await client.get("away")


async def test_redis_py_has_info(client: Any) -> None:
    """INFO is what redis-py can read."""
    told = await client.info()
    assert (told["redis_mode"], told["keyspace_hits"], told["nodes"]) == ("standalone", 3, 2)
    assert (await client.command_count()) == len(await client.command())


async def test_redis_py_needs_the_password(listener: RespListener) -> None:
    """Without it, and with a wrong one, redis-py says so."""
    for password in (None, "wrong"):
        for protocol in (2, 3):
            once = Retry(NoBackoff(), 0)
            client = redis.asyncio.Redis(
                port=listener.port, password=password, protocol=protocol, retry=once
            )
            with pytest.raises(redis.exceptions.AuthenticationError):
                await client.get("a")
            await client.aclose()


async def run_cli(listener: RespListener, *words: str, typed: str = "") -> tuple[str, str]:
    """Return what redis-cli says, and what it complains of."""
    flags = ("-p", str(listener.port), "-a", PASSWORD, "--no-auth-warning")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(find_binary("redis-cli"), *flags, *words), stdin=pipe, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(CLI_S_MAX):
        said, complained = await process.communicate(typed.encode())
    return said.decode(), complained.decode()


@pytest.mark.parametrize("version", ["-2", "-3"])
async def test_redis_cli_speaks_with_it(listener: RespListener, version: str) -> None:
    """redis-cli, in each version of the protocol, is understood and has nothing to complain of."""
    typed = "SET a 'b c' EX 100\nGET a\nTTL a\nMGET a x\nINCR n\nSELECT 0\nNO such\n"
    said, complained = await run_cli(listener, version, typed=typed)
    lines = [line for line in said.split("\n") if line]
    assert lines[:6] == ["OK", "b c", "100", "b c", "1", "OK"]
    assert "unknown command 'NO', with args beginning with: 'such'" in said + complained


async def test_redis_cli_scans_and_loads(listener: RespListener, strings: MemoryStrings) -> None:
    """`redis-cli --scan` and `redis-cli --pipe` work."""
    typed = "".join(f"SET k{number} {number}\r\n" for number in range(1_000))
    said, _ = await run_cli(listener, "--pipe", typed=typed)
    assert "errors: 0, replies: 1000" in said
    assert len(strings.held) == 1_000
    said, _ = await run_cli(listener, "--scan", "--pattern", "k99?")
    assert sorted(said.split()) == [f"k99{number}" for number in range(10)]
