"""Clients of Redis on the real cache: what a dictionary can't get wrong, and a cluster could."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from agent99 import Mesh, Settings
from agent99.errors import DeadlineExceededError, Failure, InvalidNameError
from agent99.systems.cache import Cache, CacheNodeAgent, RespAgent, RespOptions
from agent99.systems.cache import _resp_cache as resp_cache
from agent99.systems.cache import _sweep as sweep_module
from agent99.systems.cache._overview import look_at
from agent99.systems.cache._resp_cache import TTL_US_MAX, CacheStrings
from agent99.systems.cache._sweep import BUCKETS
from agent99.systems.cache._table import PARTITIONS
from agent99.testing import MemoryEngine
from tests._nats_server import NatsServer

from ._nodes import MEMORY_BYTES, Nodes
from ._redis import RawClient, redis_port, request_of  # noqa: F401 - a fixture
from .test_resp_redis import STORIES, agree, any_command

LARGE = bytes(400 * 1024)
"""More than one message holds."""
FREE = RespOptions(port=0)


@asynccontextmanager
async def small_mesh(folder: Path, *, memory_bytes: int = MEMORY_BYTES) -> AsyncGenerator[Mesh]:
    """Give a mesh in memory, with one node of the cache, or without memory with none."""
    settings = Settings(project=folder, state_folder=folder, mesh="t")
    async with Mesh(settings=settings, engine=MemoryEngine()) as opened:
        if memory_bytes:
            await opened.host(CacheNodeAgent(memory_bytes=memory_bytes))
        yield opened


async def strings_of(mesh: Mesh) -> CacheStrings:
    """Return the default namespace as the listener sees it."""

    async def look() -> Any:
        return await look_at(mesh)

    return CacheStrings(await mesh.cache("default", bytes), look)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    """Give a mesh in memory, with one node of the cache."""
    async with small_mesh(tmp_path) as opened:
        yield opened


@pytest.fixture
async def cache(mesh: Mesh) -> Cache[Any]:
    """Give the namespace as others in the mesh see it."""
    return await mesh.cache()


@pytest.fixture
async def strings(mesh: Mesh) -> CacheStrings:
    """Give the namespace as the listener sees it."""
    return await strings_of(mesh)


# --- as Redis -------------------------------------------------------------------------------------


async def tell_stories(our_port: int, their_port: int, versions: str) -> None:
    """Compare every story's answers, in versions of the protocol."""
    for story in STORIES.values():
        for version in versions:
            async with (
                await RawClient.connect(our_port) as ours,
                await RawClient.connect(their_port) as theirs,
            ):
                for client in (ours, theirs):
                    await client.ask("FLUSHALL")
                    await client.ask("HELLO", version)
                for line in story.split("; "):
                    words = ["" if word == "''" else word for word in line.split(" ")]
                    heard = await ours.ask(*words), await theirs.ask(*words)
                    assert agree(words, *heard), (line, *heard)


async def pipe(our_port: int, their_port: int, seed: int, rounds: int) -> None:
    """Compare the answers to random pipelines."""
    chance = random.Random(seed)
    async with (
        await RawClient.connect(our_port) as ours,
        await RawClient.connect(their_port) as theirs,
    ):
        await theirs.ask("FLUSHALL")
        await ours.ask("FLUSHALL")
        for _ in range(rounds):
            commands = [any_command(chance) for _ in range(chance.randrange(1, 60))]
            heard: list[list[bytes]] = []
            for client in (ours, theirs):
                client.writer.write(b"".join(request_of(*words) for words in commands))
                heard.append([await client.answer() for _ in commands])
            for words, our, their in zip(commands, *heard, strict=True):
                assert agree(words, our, their), (words, their, our)


async def test_the_cache_answers_as_redis_does(
    mesh: Mesh,
    redis_port: int,  # noqa: F811 - the fixture
    seed: int,
) -> None:
    """On one node in memory, every command and any pipeline has Redis's own answers."""
    agent = RespAgent(FREE)
    await mesh.host(agent)
    await tell_stories(agent.port, redis_port, "2")
    await pipe(agent.port, redis_port, seed, rounds=10)


@pytest.mark.slow
async def test_two_nodes_answer_as_redis_does(
    nats_server: NatsServer,
    redis_port: int,  # noqa: F811 - the fixture
    seed: int,
) -> None:
    """On a real server with two nodes, every command and any pipeline has Redis's own answers."""
    async with Nodes(nats_server.url) as nodes:
        await nodes.add(2)
        agent = RespAgent(FREE)
        await nodes.client.host(agent)
        await tell_stories(agent.port, redis_port, "23")
        await pipe(agent.port, redis_port, seed, rounds=100)


@pytest.mark.slow
async def test_a_long_pipeline_on_two_nodes(nats_server: NatsServer) -> None:
    """10,000 commands in one go are answered in their order, and a scan finds their keys."""
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(Nodes(nats_server.url))
        await nodes.add(2)
        agent = RespAgent(FREE)
        await nodes.client.host(agent)
        client = redis.asyncio.Redis(port=agent.port)
        stack.push_async_callback(client.aclose)
        pipeline = client.pipeline(transaction=False)
        for number in range(5_000):
            pipeline.set(f"k{number}", number)
            pipeline.incr(f"k{number - number % 7}")
        answers = await pipeline.execute()
        assert [True] * 5_000 == answers[::2]
        assert [number + 1 for number in range(0, 5_000, 7)] == answers[1::14]
        found = {key async for key in client.scan_iter(count=500)}
        assert {b"k%d" % number for number in range(5_000)} == found
        assert await client.dbsize() == 5_000


# --- together with others in the mesh -------------------------------------------------------------


async def test_a_value_is_its_bytes_whatever_it_was_stored_as(
    mesh: Mesh, cache: Cache[Any], strings: CacheStrings
) -> None:
    """Text, JSON and what is compressed are read as bytes; what is written is bytes for others."""
    await cache.set("text", "grün")
    await cache.set("json", {"a": 1})
    await (await mesh.cache(compress=True)).set("long", "x" * 5_000)
    wanted = ["grün".encode(), b'{"a":1}', b"x" * 5_000, None, "grün".encode()]
    assert wanted == await strings.get_many(["text", "json", "long", "none", "text"])
    await strings.set("text", b"\xff")
    assert await cache.get("text") == b"\xff"
    assert await strings.set("long", b"", returns_old=True) == (True, b"x" * 5_000)


async def test_what_is_set_anew_has_no_tags(cache: Cache[Any], strings: CacheStrings) -> None:
    """SET takes the tags from a key, as `cache.set` does, and APPEND if it makes bytes of it."""
    for key in ("set", "made bytes", "counted", "touched"):
        await cache.set(key, 1, tags=["tag"])
    await cache.set("grown", b"1", tags=["tag"])
    await strings.set("set", b"2")
    await strings.append("made bytes", b"2")
    await strings.append("grown", b"2")
    await strings.incr("counted", 1)
    await strings.touch("touched", 10**9)
    assert 3 == await cache.invalidate_tag("tag")
    left = await strings.get_many(["set", "made bytes", "grown", "counted", "touched"])
    assert [b"2", b"12", None, None, None] == left


async def test_anything_is_appended_to(
    mesh: Mesh, cache: Cache[Any], strings: CacheStrings
) -> None:
    """Whatever kind it was, it is bytes then, and lasts as long as before."""
    await cache.set("text", "a", ttl_s=1_000)
    await (await mesh.cache(compress=True)).set("long", "x" * 5_000)
    assert await strings.incr("n", 41) == 41
    assert (2, 5_001, 3) == (
        await strings.append("text", b"b"),
        await strings.append("long", b"y"),
        await strings.append("n", b"."),
    )
    assert [b"ab", b"41."] == await strings.get_many(["text", "n"])
    assert 0 < (await strings.ttl_us("text") or 0) <= 1_000_000_000
    assert await strings.ttl_us("n") == 0


async def test_an_old_value_may_be_too_large_for_the_answer(strings: CacheStrings) -> None:
    """It is read then, and the change goes by the version that was read."""
    await strings.set("a", LARGE, ttl_us=10**9)
    assert await strings.set("a", b"", only="new", returns_old=True) == (False, LARGE)
    assert await strings.set("a", LARGE + b"1", keep_ttl=True, returns_old=True) == (True, LARGE)
    assert await strings.ttl_us("a")
    replaced = await strings.set("a", LARGE, only="known", returns_old=True)
    assert replaced == (True, LARGE + b"1")
    assert await strings.ttl_us("a") == 0
    assert await strings.take("a") == LARGE
    assert await strings.take("a") is None


async def test_of_two_that_take_a_large_value_one_gets_it(strings: CacheStrings) -> None:
    """GETDEL is one step, and so is GETSET: what one has written another gets."""
    await strings.set("a", LARGE)
    taken = await asyncio.gather(*(strings.take("a") for _ in range(4)))
    assert sorted(taken, key=bool) == [None, None, None, LARGE]
    values = [LARGE + b"%d" % number for number in range(5)]
    await strings.set("a", values[0])
    swapped = await asyncio.gather(
        *(strings.set("a", value, returns_old=True) for value in values[1:])
    )
    (last,) = await strings.get_many(["a"])
    assert sorted(values) == sorted([*(old for _, old in swapped if old is not None), last or b""])


async def test_a_key_that_never_rests_is_given_up(
    strings: CacheStrings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing behind the port is tried for ever."""
    monkeypatch.setattr(resp_cache, "ROUNDS_MAX", 0)
    with pytest.raises(DeadlineExceededError, match="others change 's*"):
        await strings.take("a")


async def test_what_is_wrong_with_one_key_is_said_of_that_key(tmp_path: Path) -> None:
    """Of several that are written together all others are written."""
    async with small_mesh(tmp_path, memory_bytes=1024 * 1024) as mesh:
        strings = await strings_of(mesh)
        items = {"a": b"1", "k" * 1_025: b"2", "huge": LARGE[: 380 * 1024], "b": b"3"}
        failed = await strings.set_many(items)
        assert ["INVALID_NAME", "VALUE_TOO_LARGE"] == sorted(e.code for e in failed.values())
        assert {"k" * 1_025, "huge"} == failed.keys()
        assert [b"1", None, b"3"] == await strings.get_many(["a", "huge", "b"])
        with pytest.raises(InvalidNameError):
            await strings.get_many(["a", ""])


@pytest.mark.parametrize("stored", [b"9223372036854775808", b"-9223372036854775809", b"01", b""])
async def test_what_64_bits_do_not_hold_is_no_number(strings: CacheStrings, stored: bytes) -> None:
    """Nothing is added to it, and it is not the sum that is too large."""
    await strings.set("a", stored)
    with pytest.raises(Failure) as refused:
        await strings.incr("a", 1)
    assert refused.value.code == "NOT_A_NUMBER"


async def test_no_time_is_beyond_ten_years(strings: CacheStrings) -> None:
    """Redis takes longer ones: they last ten years."""
    await strings.set("a", b"", ttl_us=10**18)
    assert TTL_US_MAX - 10**9 < (await strings.ttl_us("a") or 0) <= TTL_US_MAX
    assert await strings.touch("a", 10**18)


# --- all keys -------------------------------------------------------------------------------------


async def scan_all(strings: CacheStrings, match: str, count: int) -> tuple[list[str], int]:
    """Return what a whole scan finds, and in how many rounds."""
    found: list[str] = []
    cursor, rounds = 0, 0
    while cursor or not rounds:
        cursor, keys = await strings.scan(cursor, match, count)
        found += keys
        rounds += 1
    return found, rounds


async def test_a_scan_tells_every_key(strings: CacheStrings) -> None:
    """Each once where nothing moves, in about as many rounds as are asked for; of no other name."""
    keys = {f"k{number}" for number in range(1_000)}
    await strings.set_many(dict.fromkeys(keys, b""))
    found, rounds = await scan_all(strings, "", 100)
    assert sorted(keys) == sorted(found)
    assert 3 < rounds <= 10
    found, _ = await scan_all(strings, "k99?", 10_000)
    assert [f"k99{number}" for number in range(10)] == sorted(found)
    assert await strings.scan(PARTITIONS * BUCKETS, "", 10) == (0, [])
    assert await strings.scan(2**64 - 1, "", 10) == (0, [])


async def test_a_scan_of_nothing_is_one_round(strings: CacheStrings) -> None:
    """However few are asked for."""
    assert await scan_all(strings, "", 1) == ([], 1)


async def test_partitions_too_large_for_an_answer_are_told_in_parts(
    strings: CacheStrings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each key is told all the same."""
    keys = {f"k{number}" for number in range(1_000)}
    await strings.set_many(dict.fromkeys(keys, b""))
    monkeypatch.setattr(sweep_module, "KEYS_BYTES", 100)
    found, _ = await scan_all(strings, "", 100)
    assert keys == set(found)


async def test_one_namespace_is_the_listeners(mesh: Mesh, strings: CacheStrings) -> None:
    """Others are neither counted nor deleted."""
    other = await mesh.cache("other")
    await other.set("a", 1)
    await strings.set("b", b"")
    assert (1, ["b"]) == (await strings.count(), (await scan_all(strings, "", 10))[0])
    await strings.flush()
    assert (0, 1) == (await strings.count(), await other.get("a"))


async def test_info_is_of_the_whole_cache(strings: CacheStrings) -> None:
    """Hits and memory by Redis's names, nodes and copies by ours."""
    await strings.set("a", b"")
    await strings.get_many(["a", "b"])
    told = await strings.info()
    assert (1, 1, 1) == (told["nodes"], told["keyspace_hits"], told["keyspace_misses"])
    assert 0 < int(told["used_memory"]) < int(told["maxmemory"])


# --- the agent ------------------------------------------------------------------------------------


async def test_the_agent_listens_while_it_runs(mesh: Mesh) -> None:
    """Two may serve two namespaces; when the mesh closes, clients are closed too."""
    agents = [RespAgent(FREE), RespAgent(FREE, namespace="Other")]
    for agent in agents:
        assert agent.port == 0
        await mesh.host(agent)
    clients = [await RawClient.connect(agent.port) for agent in agents]
    for number, client in enumerate(clients):
        assert await client.ask("SET", "a", str(number)) == b"+OK\r\n"
    assert b"$1\r\n0\r\n" == await clients[0].ask("GET", "a")
    assert b"namespace:other\r\n" in await clients[1].ask("INFO", "cache")
    await mesh.aclose()
    assert [b"", b""] == [await client.rest() for client in clients]
    assert [0, 0] == [agent.port for agent in agents]
    for client in clients:
        await client.close()


async def test_without_nodes_the_client_is_told_to_try_again(tmp_path: Path) -> None:
    """The listener needs no node to listen."""
    async with small_mesh(tmp_path, memory_bytes=0) as mesh:
        agent = RespAgent(FREE)
        await mesh.host(agent)
        async with await RawClient.connect(agent.port) as client:
            assert (await client.ask("GET", "a")).startswith(b"-TRYAGAIN NO_AGENT: no cache node")
            assert (await client.ask("SET", "a", "1")).startswith(b"-TRYAGAIN NO_AGENT: ")
