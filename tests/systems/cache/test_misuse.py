"""What is asked for wrongly is refused where it is asked, and harms nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent99.errors import Failure, InvalidNameError, RemoteError, UsageError
from agent99.systems.cache import Cache, CacheCoordinator, CacheNodeAgent, RespOptions

from ._world import World


@pytest.fixture
async def cache(world: World) -> Cache[Any]:
    """Give a namespace of a cache of one node."""
    await world.add(1)
    return await world.cache()


async def test_a_wrong_number_spoils_nobody_elses_change(cache: Cache[Any]) -> None:
    """What others change in the same turn goes in the same message, and is made all the same."""
    wrong: Any
    for wrong in (1.5, "1", None, True, 2**63, 10**5_000):
        for asked in (
            cache.incr("n", wrong),
            cache.cas("n", 1, version=wrong),
            cache.delete("n", version=wrong),
        ):
            before, failed, after = await asyncio.gather(
                cache.set("a", 1), asked, cache.incr("b"), return_exceptions=True
            )
            assert isinstance(failed, UsageError), (wrong, failed)
            assert isinstance(before, int), before
            assert isinstance(after, int), after
    assert 18 == await cache.get("b")


async def test_one_text_is_not_several_keys(cache: Cache[Any]) -> None:
    """Of many keys one text is refused: its letters are keys, too, of somebody else perhaps."""
    await cache.set("a", 1)
    with pytest.raises(UsageError):
        await cache.delete_many("abc")
    with pytest.raises(UsageError):
        await cache.get_many("abc")
    with pytest.raises(UsageError):
        await cache.reading(near_s=1).get_many("abc")
    number: Any = 5
    with pytest.raises(UsageError):
        await cache.get_many(number)
    with pytest.raises(UsageError):
        await cache.set("a", 2, tags=number)
    assert 1 == await cache.get("a")
    assert 1 == await cache.delete_many(key for key in "abc")


@pytest.mark.parametrize(
    "given",
    [
        *({"memory_bytes": each} for each in (10, -1, "64MB", 1.5e9, float("nan"), True)),
        *({"weight": each} for each in (0, 0.06, 16.1, float("nan"), "2", True)),
        *({"replicas": each} for each in (-1, 4, 5, 1.5, "1", True)),
    ],
    ids=str,
)
def test_a_node_is_refused_what_it_cannot_be(given: dict[str, Any]) -> None:
    """A node is not even made with what no table could say: every other node would have to read it.

    As it is not by a class whose attributes say so.
    """
    with pytest.raises(UsageError):
        CacheNodeAgent(**given)
    with pytest.raises(UsageError):
        type("Mine", (CacheNodeAgent,), given)()


async def test_agents_are_told_what_is_wrong_with_what_they_ask(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Node and coordinator refuse a wrong key, time or namespace as such: they did not break."""
    (site,) = await world.add()
    await world.do(site.mesh.host(CacheCoordinator()))
    mesh = await world.client()
    asked: list[tuple[str, str, Any]] = [("cache_node", "clear", {"namespace": "A B"})]
    codes = set[str]()
    for who in ("cache_node", "cache_coordinator"):
        for key in ("", "k" * 1_025):
            asked += [(who, "get", {"key": key}), (who, "delete", {"key": key})]
            asked.append((who, "set", {"key": key, "value": 1}))
        asked += [(who, "set", {"key": "k", "value": 1, "ttl": ttl}) for ttl in (0, -1, 1e12)]
    for who, operation, payload in asked:
        with pytest.raises(RemoteError) as failure:
            await world.do(mesh.request(who, operation, payload))
        codes.add(failure.value.code)
    assert {"INVALID_NAME", "USAGE"} == codes
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


async def test_a_lock_that_nobody_can_have_is_not_said_to_be_taken(cache: Cache[Any]) -> None:
    """A name that is too long, and room that is missing, are called that; nobody waits for them."""
    room = 1_024 - len(f"{cache.namespace}:")
    async with cache.lock("n" * room, wait_s=0):
        pass
    for name in ("", "n" * (room + 1), "n" * 1_024):
        with pytest.raises(InvalidNameError):
            await cache.acquire(name, lease_s=1, wait_s=60)
    never: Any = None
    for lease_s, wait_s in ((never, 1), (1, never), (0, 1), (1, -1), (1, float("nan"))):
        with pytest.raises(UsageError):
            await cache.acquire("lock", lease_s=lease_s, wait_s=wait_s)


async def test_a_lock_without_room_is_refused_as_such(world: World, cache: Cache[Any]) -> None:
    """Where its namespace may take nothing, who asks is told so, and waits for nobody."""
    locks = await world.cache("a99-locks")
    await locks.configure(quota_bytes=1)
    await world.pass_s(1)
    with pytest.raises(Failure) as failure:
        await world.do(cache.acquire("lock", lease_s=1, wait_s=60))
    assert "VALUE_TOO_LARGE" == failure.value.code


@pytest.mark.parametrize(
    "given",
    [
        *({"port": each} for each in (-1, 65_536, "6379", None)),
        *({"clients_max": each} for each in (0, -1, "many", None)),
    ],
    ids=str,
)
def test_a_listener_that_nobody_could_reach_is_refused(given: dict[str, Any]) -> None:
    """It is said where it is written, not by whatever the system makes of it later."""
    with pytest.raises(UsageError):
        RespOptions(**given)
