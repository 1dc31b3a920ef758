"""The bench of the cache: it runs, every comparison has its row, and a miss is called one."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType

import pytest

from tests.benches._rows import BENCHES, check_budgets, rows_of

Load = Callable[[str], ModuleType]
REMOTE = {
    "remote get, 64 at once, to redis-py": 2.0,
    "get_many of 1,000 keys, to redis-py's MGET": 0.5,
}
BARE = "remote get, one at a time, p50, to a bare request"
TTL_CACHE = "near hit by get_nowait, to cachetools' TTLCache"
BUDGETS = REMOTE | {
    BARE: 1.3,
    TTL_CACHE: 2.0,
    "near hit, awaited": 1_000,
    "look-up of a key's owner": 300,
    "look-up of a key's owner, to uhashring": 6.0,
    "hit ratio above LRU's, popularity that stays": 0.03,
    "hit ratio below LRU's, popularity that changes": 0.01,
    "growth of a full node less 8 MiB, to its budget": 1.1,
}
OURS = {
    "get_64": [40.0, 20.0, 20.0],
    "set_64": [4.0, 2.0, 2.0],
    "many": [4.0, 2.0, 2.0],
    "get_1": [12.0, 10.0, 9.0],
    "plain_1": [10.0, 10.0, 10.0],
}
THEIRS = {"get_64": [10.0, 10.0, 20.0], "set_64": [1.0] * 3, "many": [8.0] * 3, "get_1": [5.0] * 3}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Give what imports a module of the bench, as the bench does."""
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module


@pytest.mark.slow
def test_every_promise_is_measured_or_says_why_not() -> None:
    """Standard output is a JSON array, and each row of it has a figure or a reason."""
    by_name = rows_of("cache")
    check_budgets(by_name, BUDGETS)


def test_redis_is_compared_round_by_round(load: Load) -> None:
    """The ratio is the median of those of each round, against its budget where it has one."""
    rows = {row.name: row for row in load("_cache_remotes").rows_of(OURS, THEIRS)}
    get, many = (rows[name] for name in REMOTE)
    assert (2.0, 2.0, True) == (get.value, get.budget, get.met)
    assert (0.25, 0.5, False) == (many.value, many.budget, many.met)
    assert (1.0, 1.3, True) == (rows[BARE].value, rows[BARE].budget, rows[BARE].met)
    assert 14 == len(rows)


def test_absent_peers_keep_their_rows(load: Load) -> None:
    """What is not installed has no figure of its own, and the ratios to it say why."""
    rows = {row.name: row for row in load("_cache_remotes").rows_of(OURS, {}, "it is not there")}
    assert {"it is not there"} == {rows[name].why for name in REMOTE}
    assert rows[BARE].met is True
    near = load("_cache_locals").near_rows_of({"awaited": [900.0], "nowait": [700.0]})
    assert {TTL_CACHE} == {row.name for row in near if row.value is None}


def test_memory_has_no_tolerance(load: Load) -> None:
    """A budget of bytes is one: 8 MiB and a tenth more are allowed, and nothing beyond."""
    part, budget = load("_cache_locals"), 100 << 20
    for grown, is_met in ((118 << 20, True), (119 << 20, False)):
        row, each = part.memory_rows_of(grown, 1_024, budget)
        assert row.met is is_met
        assert grown / 1_024 == each.value


async def test_the_load_is_counted(load: Load) -> None:
    """So many are in flight as is said, all keys have their turn, and a missing one ends it."""
    part = load("_cache_load")
    asked: list[str] = []
    most = 0
    in_flight = 0

    async def get(key: str) -> None:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        asked.append(key)
        await asyncio.sleep(0)
        in_flight -= 1

    assert await part.per_s(get, 0.02) > 0
    assert part.IN_FLIGHT == most
    assert part.keys()[: part.IN_FLIGHT] == asked[: part.IN_FLIGHT]
    one, other = await part.p50_us([get, get], 0.01)
    assert min(one, other) > 0

    async def get_many(wanted: Sequence[str]) -> int:
        return len(wanted) - (wanted[0] != part.keys()[0])

    with pytest.raises(SystemExit, match="1 keys are not there"):
        await part.values_per_s(get_many, 10.0)
