"""The cache as its users see it: what each verb does, on one node and on three."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99 import Agent, Mesh, Settings, operation
from agent99.errors import (
    BadAnswerError,
    Failure,
    InvalidNameError,
    NoAgentError,
    RequestError,
    UsageError,
)
from agent99.systems.cache import (
    BlockingCache,
    Cache,
    CacheCoordinator,
    CacheNodeAgent,
    CacheStats,
    NodeStats,
    _sweep,
)
from agent99.systems.cache._keys import partition_of
from agent99.testing import MemoryEngine

from ._world import World


class Basket(msgspec.Struct, frozen=True):
    """A value of a type of its own."""

    lines: tuple[str, ...]
    total: float


@pytest.fixture(params=[1, 3])
async def cache(request: pytest.FixtureRequest, world: World) -> Cache[Any]:
    """Give a namespace of a cache of one node, and of three."""
    await world.add(request.param)
    return await world.cache()


# --- one key --------------------------------------------------------------------------------------


async def test_one_key(cache: Cache[Any]) -> None:
    """What was set is there until it is deleted; each change has a higher version."""
    assert await cache.get("a") is None
    assert "none" == await cache.get("a", "none")
    assert await cache.fetch("a") is None
    first = await cache.set("a", {"n": 1})
    assert {"n": 1} == await cache.get("a")
    second = await cache.set("a", [1, "two", None])
    assert 0 < first < second
    hit = await cache.fetch("a")
    assert hit is not None
    assert ([1, "two", None], second, None) == (hit.value, hit.version, hit.expires_at)
    assert await cache.delete("a")
    assert not await cache.delete("a")
    assert await cache.get("a") is None


async def test_add_and_cas(cache: Cache[Any]) -> None:
    """`add` sets what is not there, `cas` what nobody changed meanwhile; versions go on growing."""
    assert await cache.add("a", 1)
    assert not await cache.add("a", 2)
    hit = await cache.fetch("a")
    assert hit is not None
    new = await cache.cas("a", 3, version=hit.version)
    assert new is not None
    assert new > hit.version
    assert await cache.cas("a", 4, version=hit.version) is None
    assert 3 == await cache.get("a")
    assert not await cache.delete("a", version=hit.version)
    assert await cache.delete("a", version=new)
    assert await cache.cas("a", 5, version=new) is None, "what is gone is at no version"
    assert await cache.set("a", 6) > new, "not even after it was deleted"


async def test_counters_and_text(cache: Cache[Any]) -> None:
    """Whole numbers are added to, text and bytes grow; what does not fit is refused by code."""
    assert 5 == await cache.incr("n", 5)
    assert 3 == await cache.incr("n", -2)
    assert 3 == await cache.get("n")
    assert 3 == await cache.append("t", "abc")
    assert 5 == await cache.append("t", "é")
    assert "abcé" == await cache.get("t")
    assert 2 == await cache.append("b", b"\0\xff")
    assert b"\0\xff" == await cache.get("b")
    await cache.set("word", "three")
    await cache.set("max", 2**63 - 1)
    for work, code in (
        (cache.incr("word"), "NOT_A_NUMBER"),
        (cache.incr("max"), "OVERFLOW"),
        (cache.append("t", b"x"), "NOT_APPENDABLE"),
        (cache.append("t", 7), "NOT_APPENDABLE"),
    ):
        with pytest.raises(Failure) as failure:
            await work
        assert code == failure.value.code


async def test_concurrent_increments_are_all_counted(cache: Cache[Any]) -> None:
    """Of a hundred at once each gets a sum of its own, and none is lost."""
    sums = await asyncio.gather(*(cache.incr("n") for _ in range(100)))
    assert list(range(1, 101)) == sorted(sums)


async def test_time_to_live(world: World, cache: Cache[Any]) -> None:
    """A key ends at its time and not before, `touch` moves that, and a counter keeps it."""
    began_us = world.clock.wall_us()
    await cache.set("a", 1, ttl_s=10)
    await cache.set("b", 1, ttl_s=10)
    await cache.incr("n", ttl_s=10)
    hit = await cache.fetch("a")
    assert hit is not None
    assert hit.expires_at is not None
    end_us = hit.expires_at.timestamp() * 1e6
    assert abs(began_us + 10e6 - end_us) < 50_000
    assert await cache.touch("b", 20)
    assert not await cache.touch("absent", 20)
    await world.pass_s(9.9)
    assert 2 == await cache.incr("n", ttl_s=100)
    assert 1 == await cache.get("a")
    await world.pass_s(0.2)
    assert await cache.get("a") is None
    assert 1 == await cache.get("b")
    assert 1 == await cache.incr("n"), "the counter has ended, and begins anew"
    assert await cache.add("a", 2), "what has ended is not there"
    assert await cache.touch("b", None)
    await world.pass_s(30)
    assert 1 == await cache.get("b"), "for ever"


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf"), 1e12, True, "10"])
async def test_an_absurd_time_to_live(world: World, ttl_s: Any) -> None:
    """A time to live that is no time is refused before anything is sent."""
    (site,) = await world.add()
    cache = await world.cache()
    with pytest.raises(UsageError):
        await cache.set("a", 1, ttl_s=ttl_s)
    assert not site.agent.asked


@pytest.mark.parametrize("key", ["", "x" * 1_025, "é" * 513, "\ud800", 7, b"bytes"])
async def test_an_absurd_key(world: World, key: Any) -> None:
    """A key that is none is refused before anything is sent, by every verb."""
    (site,) = await world.add()
    cache = await world.cache()
    for work in (
        cache.get(key),
        cache.fetch(key),
        cache.get_many([key]),
        cache.set(key, 1),
        cache.add(key, 1),
        cache.cas(key, 1, version=1),
        cache.delete(key),
        cache.touch(key, 1),
        cache.incr(key),
        cache.append(key, ""),
        cache.set_many({key: 1}),
        cache.delete_many([key]),
    ):
        with pytest.raises(InvalidNameError):
            await work
    assert not site.agent.asked


@pytest.mark.parametrize("key", ["*", "a.b.>", " ", "\n\0", ":", "a:b", "$KV", "é" * 512, "𝒳"])
async def test_a_strange_key(world: World, key: str) -> None:
    """Keys are no subjects: any character may stand in them."""
    await world.add()
    cache = await world.cache()
    await cache.set(key, key)
    assert key == await cache.get(key)
    assert {key: key} == await cache.get_many([key])
    assert [key] == [each async for each in cache.scan(key)]


# --- many keys ------------------------------------------------------------------------------------


async def test_many_keys(cache: Cache[Any]) -> None:
    """Many keys are set, read and deleted as each alone; those that are not there are left out."""
    values = {f"k{number}": number for number in range(300)}
    await cache.set_many(values)
    assert values == await cache.get_many([*values, "absent", "k0"])
    assert 300 == await cache.count()
    assert 100 == await cache.delete_many([f"k{number}" for number in range(200, 400)])
    assert 200 == await cache.count()
    assert {} == await cache.get_many([])
    assert 0 == await cache.delete_many([])
    await cache.set_many({})


async def test_scan(cache: Cache[Any]) -> None:
    """Every key is told once, with all of its letters; by a prefix those alone."""
    await cache.set_many({f"{letter}/{number}": 0 for letter in "ab" for number in range(40)})
    await cache.delete("a/0")
    found = [key async for key in cache.scan()]
    assert len(set(found)) == len(found) == 79
    assert {f"a/{number}" for number in range(1, 40)} == {key async for key in cache.scan("a/")}
    assert [] == [key async for key in cache.scan("c")]


async def test_scan_of_more_than_an_answer_holds(
    cache: Cache[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many keys there are, each is told once: in as many answers as it takes."""
    monkeypatch.setattr(_sweep, "KEYS_BYTES", 40)
    keys = {f"key number {number}" for number in range(400)}
    await cache.set_many(dict.fromkeys(keys, 0))
    found = [key async for key in cache.scan()]
    assert sorted(keys) == sorted(found)


async def test_tags_and_prefixes(cache: Cache[Any]) -> None:
    """What bears a tag, or begins so, is deleted at all nodes, and nothing else is."""
    for number in range(60):
        tags = ["even"] if number % 2 == 0 else ["odd", "strange"]
        await cache.set(f"k/{number}", number, tags=tags)
    await cache.set("other", 1)
    assert 30 == await cache.invalidate_tag("even")
    assert 0 == await cache.invalidate_tag("even")
    assert 31 == await cache.count()
    await cache.set("k/1", "no tag any more")
    assert 29 == await cache.invalidate_tag("strange")
    assert 1 == await cache.invalidate_prefix("k/")
    assert ["other"] == [key async for key in cache.scan()]
    assert 1 == await cache.clear()
    assert 0 == await cache.count()


async def test_namespaces_are_apart(world: World, cache: Cache[Any]) -> None:
    """The same key in another namespace is another key; names that begin alike do not mix."""
    client = await world.client()
    other, longer = await client.cache("s2"), await client.cache("default")
    await cache.set("a", 1, tags=["t"])
    await other.set("a", 2, tags=["t"])
    await longer.set("a", 3)
    assert [1, 2, 3] == [await each.get("a") for each in (cache, other, longer)]
    assert 1 == await cache.clear()
    assert 1 == await other.invalidate_tag("t")
    assert 1 == await longer.count()
    with pytest.raises(InvalidNameError):
        await client.cache("a:b")


# --- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "value"),
    [
        (Basket, Basket(("tea", "milk"), 3.5)),
        (bytes, b"\0\xff" * 100),
        (str, "é" * 100),
        (dict[str, int], {"a": 1}),
        (datetime, datetime(2020, 2, 29, tzinfo=UTC)),
        (Any, None),
        (Any, b"bytes"),
        (Any, "text"),
        (Any, [1, {"a": None}]),
    ],
    ids=str,
)
@pytest.mark.parametrize("compress", [False, True])
async def test_types(world: World, of: Any, value: Any, *, compress: bool) -> None:
    """A value comes back as what it was, of the type of the cache."""
    await world.add()
    cache = await world.cache("s", of, compress=compress)
    await cache.set("a", value)
    assert value == await cache.get("a", "nothing")
    assert {"a": value} == await cache.get_many(["a"])


async def test_what_is_of_another_type(world: World) -> None:
    """A value that is not of the cache's type is named, not handed over."""
    await world.add()
    client = await world.client()
    await (await client.cache("s")).set("a", {"lines": 7})
    with pytest.raises(BadAnswerError, match="lines"):
        await (await client.cache("s", Basket)).get("a")


# --- who is asked ---------------------------------------------------------------------------------


def asked(world: World) -> Callable[[], Counter[str]]:
    """Return what tells the messages of clients since the last time."""
    before = Counter[str]()

    def since() -> Counter[str]:
        now = Counter[str]()
        for site in world.sites:
            now.update({key: site.agent.asked[key] for key in ("read", "write", "sweep")})
        new = now - before
        before.update(new)
        return new

    return since


async def test_a_key_is_asked_of_its_owner_alone(world: World) -> None:
    """One key is one message, to its owner, without a hop; a thousand are one for each owner."""
    await world.add(3)
    cache = await world.cache()
    await cache.set("a", 1)
    since = asked(world)
    since()
    await cache.get("a")
    assert {"read": 1} == since()
    await cache.set("a", 2)
    assert {"write": 1} == since()
    assert world.owner("s:a").agent.instance == cache.owner("a")
    keys = [f"k{number}" for number in range(1_000)]
    await cache.set_many(dict.fromkeys(keys, 0))
    assert {"write": 3} == since()
    assert 1_000 == len(await cache.get_many(keys))
    assert {"read": 3} == since()
    await asyncio.gather(*(cache.get(key) for key in keys))
    assert {"read": 3} == since(), "what is asked in one turn of the loop goes together"


async def test_a_stale_table_heals_in_one_retry(world: World) -> None:
    """Who asks the wrong owner is told the new table by it, and asks the right one next."""
    await world.add(2)
    site = await world.site()
    cache = await site.mesh.cache("s")
    await cache.set("a", 1)
    stale = cache.table
    site.doors.shut()  # it hears of no table but by its answers
    await world.add(2)
    since = asked(world)
    since()
    moved = [
        key
        for key in (f"k{number}" for number in range(200))
        if stale.parts[partition_of(f"s:{key}")].owner != world.owner(f"s:{key}").id
    ]
    assert stale is cache.table
    assert await cache.get(moved[0]) is None
    assert {"read": 2} == since(), "the wrong one, then the right one"
    assert world.table.epoch == cache.table.epoch
    await asyncio.gather(*(cache.get(key) for key in moved[1:]))
    assert since()["read"] <= 4, "from then on nobody else is asked in vain"


# --- the sample's operations ----------------------------------------------------------------------


async def test_what_a_node_answers_to_people(world: World) -> None:
    """A node has the operations and answers of the sample, whichever node owns the key."""
    await world.add(2)
    mesh = await world.client()

    async def ask(what: str, payload: Any = None) -> Any:
        return await world.do(mesh.request("cache_node", what, payload))

    assert {"found": False} == await ask("get", {"key": "a"})
    stored = await ask("set", {"key": "a", "value": {"n": 1}, "ttl": 60})
    assert stored["stored"]
    assert stored["expires_at"] is not None
    assert {"stored": True, "expires_at": None} == await ask("set", {"key": "b", "value": 2})
    for _ in range(4):  # by both, in turn
        got = await ask("get", {"key": "a"})
        assert (True, {"n": 1}) == (got["found"], got["value"])
        assert "expires_at" in got
    assert {"deleted": True} == await ask("delete", {"key": "a"})
    assert {"deleted": False} == await ask("delete", {"key": "a"})
    assert {"cleared": True, "entries_removed": 1} == await ask("clear")


async def test_what_a_node_tells_of_itself(world: World) -> None:
    """The counts of a node are of what clients asked it; its size is what it owns."""
    await world.add(2)
    cache = await world.cache()
    await cache.set_many({f"k{number}": number for number in range(50)})
    await cache.get_many([f"k{number}" for number in range(60)])
    await cache.delete("k0")
    mesh = await world.client()
    answers = await world.do(mesh.survey("cache_node", "stats", returns=NodeStats, timeout_s=1))
    found = [each.result for each in answers.answers]
    assert {site.agent.instance for site in world.sites} == {each.node_id for each in found}
    stats = [each.stats for each in found]
    assert (60, 50, 10) == tuple(
        sum(getattr(each, name) for each in stats) for name in ("gets", "hits", "misses")
    )
    assert (50, 1) == (sum(each.sets for each in stats), sum(each.deletes for each in stats))
    assert 49 == sum(each.cache_size for each in found) == sum(each.copies for each in found)
    assert 256 == sum(each.partitions for each in found)
    assert all(0 < each.memory_usage <= each.memory_max for each in found)


@pytest.mark.parametrize("operation", ["fly", "get_all", ""])
async def test_an_unknown_operation(world: World, operation: str) -> None:
    """What is none of the operations is refused with the sample's code, by node and coordinator."""
    (site,) = await world.add()
    await world.do(site.mesh.host(CacheCoordinator()))
    mesh = await world.client()
    for who in ("cache_node", "cache_coordinator"):
        with pytest.raises(RequestError) as failure:
            await world.do(mesh.request(who, payload={"operation": operation}))
        assert "INVALID_OPERATION" == failure.value.code


async def test_the_coordinator(world: World) -> None:
    """It answers for all nodes, and names the one that has the key."""
    sites = await world.add(2)
    await world.do(sites[0].mesh.host(CacheCoordinator()))
    mesh = await world.client()

    async def ask(what: str, payload: Any = None, **how: Any) -> Any:
        return await world.do(mesh.request("cache_coordinator", what, payload, **how))

    owner = world.owner("default:a").agent.instance
    assert {"found": False, "node": owner} == await ask("get", {"key": "a"})
    assert {"stored": True, "node": owner} == await ask("set", {"key": "a", "value": 7, "ttl": 9})
    assert {"found": True, "value": 7, "node": owner} == await ask("get", {"key": "a"})
    stats: CacheStats = await ask("stats", returns=CacheStats)
    assert 2 == stats.total_nodes == len(stats.node_stats)
    assert 1 == sum(each.cache_size for each in stats.node_stats.values())
    assert {"deleted": True, "node": owner} == await ask("delete", {"key": "a"})


async def test_a_coordinator_without_nodes(world: World) -> None:
    """Where no node is, it says so by the sample's code, and a client by `NoAgentError`."""
    site = await world.site()
    await world.do(site.mesh.host(CacheCoordinator()))
    mesh = await world.client()
    for what, payload in (
        ("get", {"key": "a"}),
        ("set", {"key": "a", "value": 1}),
        ("delete", {"key": "a"}),
    ):
        with pytest.raises(RequestError) as failure:
            await world.do(mesh.request("cache_coordinator", what, payload))
        assert "NO_CACHE_NODES" == failure.value.code
    stats = await world.do(mesh.request("cache_coordinator", "stats", returns=CacheStats))
    assert (0, {}) == (stats.total_nodes, stats.node_stats)
    cache = await mesh.cache("s")
    for work in (cache.get("a"), cache.set("a", 1), cache.count(), cache.get_many(["a"])):
        with pytest.raises(NoAgentError):
            await world.do(work)


@pytest.mark.parametrize(
    "how",
    [
        {"memory_bytes": 1_000},
        {"weight": 0},
        {"weight": float("nan")},
        {"weight": 17},
        {"replicas": 4},
        {"replicas": -1},
    ],
    ids=str,
)
def test_an_absurd_node(how: dict[str, Any]) -> None:
    """A node that cannot be is refused when it is made."""
    with pytest.raises(UsageError):
        CacheNodeAgent(**how)


# --- agents and threads ---------------------------------------------------------------------------


class Shop(Agent):
    """Uses the cache of its mesh."""

    capabilities = ("shop",)

    @operation
    async def price(self, item: str) -> int:
        """Return a price, and count who asks."""
        cache = await self.cache("prices", int)
        return await cache.incr(item)

    @operation
    def plain(self, item: str) -> int:
        """Do the same without `await`."""
        return int(self.blocking.cache("prices", int).incr(item))


async def test_an_agent_uses_it(world: World) -> None:
    """An agent reaches the cache by `self.cache`."""
    await world.add()
    mesh = await world.client()
    await world.do(mesh.host(Shop()))
    assert 1 == await world.do(mesh.request("shop", "price", {"item": "tea"}))
    assert 2 == await world.do(mesh.request("shop", "price", {"item": "tea"}))


async def test_the_blocking_form(tmp_path: Path) -> None:
    """Every verb has a blocking form, for plain operations and for threads."""
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="t")
    async with Mesh(settings=settings, engine=MemoryEngine()) as mesh:
        await mesh.host(CacheNodeAgent())
        await mesh.host(Shop())
        assert 1 == await mesh.request("shop", "plain", {"item": "tea"})
        blocking = mesh.blocking()

        def use() -> None:
            cache = blocking.cache("s")
            assert cache.get("a", 7) == 7
            version = cache.set("a", 1, ttl_s=60, tags=["t"])
            assert not cache.add("a", 2)
            hit = cache.fetch("a")
            assert hit is not None
            assert (1, version) == (hit.value, hit.version)
            assert cache.cas("a", 2, version=version) is not None
            assert cache.touch("a", None)
            assert 3 == cache.incr("a")
            assert 2 == cache.append("b", "xy")
            cache.set_many({"c": 1, "d": 2})
            assert {"c": 1, "d": 2} == cache.get_many(["c", "d", "e"])
            assert cache.delete("a")
            assert 1 == cache.delete_many(["c", "e"])
            cache.set("t", 1, tags=["t"])
            assert 1 == cache.invalidate_tag("t")
            assert 1 == cache.invalidate_prefix("b")
            assert 1 == cache.count()
            assert 1 == cache.clear()

        await asyncio.to_thread(use)


def test_the_blocking_form_lacks_what_its_page_says() -> None:
    """It has all methods but those that the API page names, and what is for the room alone."""
    lacking = "get_nowait reading near_statistics get_and_lock scan moment owner table known_table"
    private = {"acquire", "client"}
    assert {*lacking.split(), *private} == _public(Cache) - _public(BlockingCache)
    page = Path(__file__).parents[3] / "docs" / "reference" / "api.md"
    assert "but for " + " ".join(f"`{name}`" for name in lacking.split()) in page.read_text("utf-8")


def _public(of: type) -> set[str]:
    return {name for name in dir(of) if not name.startswith("_")}
