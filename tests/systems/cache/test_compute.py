"""`get_or_compute`: one load for all, on meshes in memory and a clock that the test lets run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agent99.dispatch import new_event_loop
from agent99.errors import (
    DeadlineExceededError,
    Failure,
    PayloadTooLargeError,
    RequestCancelledError,
    UsageError,
)
from agent99.systems.cache import _compute
from agent99.systems.cache._compute import AskTurn, EndTurn, Turn
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._words import Change, Status, Verb
from tests.systems.cache._timed import Source, Stand, outcomes


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop of `agent99 run`."""
    return {"agent99": new_event_loop}


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """Give a mesh with one node."""
    async with AsyncExitStack() as stack:
        stand = Stand(stack, tmp_path)
        await stand.add_node()
        yield stand
        await stand.close()


async def test_one_load_for_all(stand: Stand) -> None:
    """Of many callers of several processes one loads a cold key, and all have its value."""
    await stand.add_node()
    caches = [await stand.cache() for _ in range(3)]
    source = Source(stand, {"n": 1})
    calls = [cache.get_or_compute("k", source) for cache in caches for _ in range(200)]
    assert [{"n": 1}] * 600 == await stand.all(*calls)
    assert 1 == source.loads
    assert {"n": 1} == await stand.run(caches[2].get("k"))


async def test_callers_do_not_share_what_can_be_changed(stand: Stand) -> None:
    """Each caller has a value of its own, the one that loaded it too."""
    cache = await stand.cache()
    source = Source(stand, [])
    first, second = await stand.all(*(cache.get_or_compute("k", source) for _ in range(2)))
    first.append(1)
    assert [] == second


async def test_no_stampede_at_expiry(stand: Stand) -> None:
    """While callers come all the time, a value that expires is loaded by one at a time."""
    caches = [await stand.cache() for _ in range(3)]
    source = Source(stand, "v", takes_s=0.2)
    served = 0

    async def ask(cache: Any) -> None:
        nonlocal served
        while stand.clock.monotonic_s() < until_s:
            assert "v" == await cache.get_or_compute("k", source, ttl_s=1.0, early=0.0)
            served += 1
            await stand.clock.sleep(0.05)

    until_s = stand.clock.monotonic_s() + 4.0
    await stand.all(*(ask(cache) for cache in caches for _ in range(5)))
    assert 1 == source.running_max
    assert 3 <= source.loads <= 4  # each lives 1 s, and takes 0.2 s: in 4 s four begin at most
    assert served > 500


async def test_stale_is_served_while_it_is_refreshed(stand: Stand) -> None:
    """A stale value is returned at once, and one caller of the mesh refreshes it meanwhile."""
    caches = [await stand.cache() for _ in range(3)]
    source = Source(stand, 1, 2, takes_s=0.5)
    how: dict[str, Any] = {"ttl_s": 1.0, "stale_s": 10.0, "early": 0.0}
    assert 1 == await stand.run(caches[0].get_or_compute("k", source, **how))
    await stand.clock.advance(1.5)
    asked_s = stand.clock.monotonic_s()
    calls = [cache.get_or_compute("k", source, **how) for cache in caches for _ in range(10)]
    assert [1] * 30 == await stand.all(*calls)
    assert stand.clock.monotonic_s() - asked_s < 0.2
    await stand.clock.advance(1.0)
    assert [2, 2, 2] == await stand.all(*(c.get_or_compute("k", source, **how) for c in caches))
    assert 2 == source.loads


async def test_a_refresh_that_fails_harms_nobody(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a refresh fails the stale value is served on; it is logged, counted and tried later."""
    cache = await stand.cache()
    source = Source(stand, 1, ValueError("broken"), 3)
    how: dict[str, Any] = {"ttl_s": 1.0, "stale_s": 100.0, "early": 0.0}
    await stand.run(cache.get_or_compute("k", source, **how))
    await stand.clock.advance(1.5)
    for _ in range(5):
        assert 1 == await stand.run(cache.get_or_compute("k", source, **how))
        await stand.clock.advance(0.15)
    assert 2 == source.loads  # it rests a while after an error
    assert ["'stand:k' could not be computed anew: ValueError('broken')"] == caplog.messages
    flights = cache._client.keep("cache_flights", lambda: None)
    assert (2, 1) == (flights.loads, flights.errors)
    await stand.clock.advance(1.0)
    await stand.run(cache.get_or_compute("k", source, **how))
    await stand.clock.advance(0.3)
    assert 3 == await stand.run(cache.get("k"))


async def test_early_refresh_spares_the_end(stand: Stand) -> None:
    """With many readers a dear value is computed anew before it ends, and none of them waits."""
    cache = await stand.cache()
    source = Source(stand, "v", takes_s=0.3)
    await stand.run(cache.get_or_compute("k", source, ttl_s=2.0))

    async def ask() -> None:
        while (began_s := stand.clock.monotonic_s()) < until_s:
            await cache.get_or_compute("k", source, ttl_s=2.0)
            assert stand.clock.monotonic_s() - began_s < 0.1
            await stand.clock.sleep(0.1)

    until_s = stand.clock.monotonic_s() + 5.0
    await stand.all(*(ask() for _ in range(20)))
    assert 1 == source.running_max
    assert 3 <= source.loads <= 8


async def test_none_is_known_for_a_while(stand: Stand) -> None:
    """With `negative_ttl_s` a load that finds none is not made again until then, by nobody."""
    first, second = await stand.cache(), await stand.cache()
    source = Source(stand, None, None, "v")
    how: dict[str, Any] = {"ttl_s": 60.0, "negative_ttl_s": 5.0}
    assert await stand.run(first.get_or_compute("k", source, **how)) is None
    assert await stand.run(second.get_or_compute("k", source, **how)) is None
    assert 1 == source.loads
    await stand.clock.advance(5.0)
    assert await stand.run(second.get_or_compute("k", source, **how)) is None
    await stand.clock.advance(5.0)
    assert "v" == await stand.run(first.get_or_compute("k", source, **how))
    assert 3 == source.loads


async def test_none_is_not_kept_where_that_is_not_said(stand: Stand) -> None:
    """Without `negative_ttl_s` all who wait hear of one load that there is none; it is not kept."""
    caches = [await stand.cache() for _ in range(3)]
    source = Source(stand, None)
    calls = [cache.get_or_compute("k", source) for cache in caches for _ in range(5)]
    assert [None] * 15 == await stand.all(*calls)
    assert 1 == source.loads
    assert await stand.run(caches[0].get_or_compute("k", source)) is None
    assert 2 == source.loads


async def test_what_is_known_to_be_nothing_is_not_there(stand: Stand) -> None:
    """For all but `get_or_compute`, a key of which none is known is one that is not there."""
    cache = await stand.cache()
    none = Source(stand, None)

    async def forget() -> None:
        await cache.delete("k")
        assert await cache.get_or_compute("k", none, negative_ttl_s=60.0) is None

    async def all_verbs() -> None:
        await forget()
        assert await cache.get("k") is None
        assert {} == await cache.get_many(["k"])
        assert await cache.count() == 0
        assert [key async for key in cache.scan()] == []
        assert await cache.cas("k", 1, version=1) is None
        assert not await cache.touch("k", 5.0)
        assert not await cache.delete("k")
        loads = none.loads
        assert await cache.get_or_compute("k", none, negative_ttl_s=60.0) is None
        assert loads + 1 == none.loads  # deleted, what was known is not
        assert await cache.add("k", 1)
        await forget()
        assert 5 == await cache.incr("k", 5)
        await forget()
        await cache.set("k", 7)
        assert 7 == await cache.get_or_compute("k", none)

    await stand.run(all_verbs())


async def test_an_error_goes_to_those_that_wait_beside_it(stand: Stand) -> None:
    """A load's error goes to the callers of its process; another process loads for the others."""
    first, second = await stand.cache(), await stand.cache()
    broken, good = Source(stand, ValueError("broken")), Source(stand, "v")
    begun = stand.begin(outcomes(*(first.get_or_compute("k", broken) for _ in range(3))))
    await stand.until(lambda: broken.loads)
    found = await stand.all(*(second.get_or_compute("k", good) for _ in range(3)))
    assert ["v"] * 3 == found
    assert [ValueError] * 3 == [type(one) for one in await stand.run(begun)]
    assert (1, 1) == (broken.loads, good.loads)


async def test_a_load_that_hangs_is_ended(stand: Stand) -> None:
    """After `load_s_max` a load is cancelled, and another one has its turn."""
    first, second = await stand.cache(), await stand.cache()
    slow, quick = Source(stand, "slow", takes_s=100.0), Source(stand, "quick")
    begun = stand.begin(outcomes(first.get_or_compute("k", slow, load_s_max=2.0)))
    await stand.until(lambda: slow.loads)
    assert "quick" == await stand.run(second.get_or_compute("k", quick))
    (error,) = await stand.run(begun)
    assert isinstance(error, DeadlineExceededError)
    assert 0 == slow.running


async def test_the_turn_of_who_died_runs_out(stand: Stand) -> None:
    """Where who loads says nothing more, another one loads when its time is over."""
    cache = await stand.cache()
    desk = stand.owner("k").desk
    turned = await desk.ask(AskTurn(0, "stand:k", "dead", 3.0))
    assert Turn.LOAD == turned.turn
    source = Source(stand, "v")
    began_s = stand.clock.monotonic_s()
    assert "v" == await stand.run(cache.get_or_compute("k", source))
    assert 3.0 <= stand.clock.monotonic_s() - began_s < 3.5
    assert not desk.end(EndTurn("stand:k", turned.token))


async def test_who_has_not_heard_keeps_its_turn(stand: Stand) -> None:
    """Who asks once more, because no answer came, has the turn that it was given."""
    desk = stand.owner("k").desk
    first = await desk.ask(AskTurn(0, "stand:k", "me", 3.0))
    assert first == await desk.ask(AskTurn(0, "stand:k", "me", 3.0))


@pytest.mark.parametrize("change", ["set", "delete", "tag", "prefix", "clear", "set and delete"])
async def test_what_was_changed_meanwhile_is_not_overwritten(stand: Stand, change: str) -> None:
    """A value that was loading while its key was changed is not stored, and not returned."""
    cache, other = await stand.cache(), await stand.cache()
    source = Source(stand, "old", "new", takes_s=0.5)
    call = stand.begin(cache.get_or_compute("k", source, tags=["t"]))
    await stand.until(lambda: source.loads)
    match change:
        case "set":
            await stand.run(other.set("k", "set"))
        case "delete":
            await stand.run(other.delete("k"))
        case "tag":
            await stand.run(other.invalidate_tag("t"))
        case "prefix":
            await stand.run(other.invalidate_prefix("k"))
        case "clear":
            await stand.run(other.clear())
        case _:
            await stand.run(other.set("k", "set"))
            await stand.run(other.delete("k"))
    expected = "set" if change == "set" else "new"
    assert expected == await stand.run(call)
    assert expected == await stand.run(other.get("k"))


async def test_what_does_not_concern_it_leaves_a_load_alone(stand: Stand) -> None:
    """A load goes on where other keys, other tags and other namespaces are deleted."""
    cache, other = await stand.cache(), await stand.cache(namespace="other")
    source = Source(stand, "v", takes_s=2.0)
    call = stand.begin(cache.get_or_compute("k", source, tags=["t"]))
    await stand.until(lambda: source.loads)
    await stand.run(cache.invalidate_tag("u"))
    await stand.run(cache.invalidate_prefix("kk"))
    await stand.run(cache.delete("l"))
    await stand.run(other.clear())
    assert "v" == await stand.run(call)
    assert 1 == source.loads


async def test_a_set_ends_the_waiting(stand: Stand) -> None:
    """Callers that wait for another process's load have the value that somebody sets meanwhile."""
    first, second = await stand.cache(), await stand.cache()
    slow = Source(stand, "slow", takes_s=5.0)
    begun = stand.begin(first.get_or_compute("k", slow))
    await stand.until(lambda: slow.loads)
    waiting = stand.begin(second.get_or_compute("k", slow))
    await stand.clock.advance(0.5)
    await stand.run(first.set("k", "set"))
    await stand.clock.advance(0.1)
    assert waiting.done()
    assert "set" == await waiting
    assert "set" == await stand.run(begun)


async def test_callers_that_leave_are_not_missed(stand: Stand) -> None:
    """A load goes on where its callers give up, for those who come later."""
    cache = await stand.cache()
    source = Source(stand, "v", takes_s=3.0)
    (error,) = await stand.run(outcomes(cache.get_or_compute("k", source, timeout_s=1.0)))
    assert isinstance(error, DeadlineExceededError)
    assert "v" == await stand.run(cache.get_or_compute("k", source))
    assert 1 == source.loads


async def test_who_left_does_not_load(stand: Stand) -> None:
    """Who gave up while it waited for another process's load does not load when that fails."""
    first, second = await stand.cache(), await stand.cache()
    broken, late = Source(stand, ValueError("broken"), takes_s=2.0), Source(stand, "late")
    good = Source(stand, "good")
    begun = stand.begin(outcomes(first.get_or_compute("k", broken)))
    await stand.until(lambda: broken.loads)
    gone = second.get_or_compute("k", late, timeout_s=0.5)
    stays = second.get_or_compute("k", good, timeout_s=10.0)
    left, found = await stand.run(outcomes(gone, stays))
    assert isinstance(left, DeadlineExceededError)
    assert "good" == found
    assert (0, 1) == (late.loads, good.loads)
    await stand.run(begun)


async def test_a_load_that_is_cancelled_from_within(stand: Stand) -> None:
    """A load whose own task was cancelled is an error of that load, and not the end of the mesh."""
    cache = await stand.cache()

    async def load() -> str:
        raise asyncio.CancelledError

    (error,) = await stand.run(outcomes(cache.get_or_compute("k", load)))
    assert isinstance(error, RequestCancelledError)


async def test_values_that_cannot_be_stored(stand: Stand) -> None:
    """A value of another type, or too large, is an error of its caller, and the turn is over."""
    cache = await stand.cache(of=str)
    calls = [
        cache.get_or_compute("k", Source(stand, 7)),
        cache.get_or_compute("l", Source(stand, "x" * (1 << 22))),
    ]
    found = await stand.run(outcomes(*calls))
    assert isinstance(found[0], UsageError)
    assert isinstance(found[1], Failure | PayloadTooLargeError)
    assert "v" == await stand.run(cache.get_or_compute("l", Source(stand, "v")))


@pytest.mark.parametrize(
    "how",
    [
        {"ttl_s": -1.0},
        {"stale_s": 5.0},
        {"ttl_s": 1.0, "stale_s": -5.0},
        {"early": -1.0},
        {"early": float("nan")},
        {"load_s_max": 0.0},
        {"load_s_max": float("inf")},
        {"negative_ttl_s": 0.0},
        {"tags": "t"},
    ],
)
async def test_absurd_arguments(stand: Stand, how: dict[str, Any]) -> None:
    """An argument out of its bounds is refused before anything is asked."""
    cache = await stand.cache()
    with pytest.raises(UsageError):
        await cache.get_or_compute("k", Source(stand, "v"), **how)


async def test_those_that_wait_are_bounded(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many requests wait at a node; others are refused, and try again."""
    monkeypatch.setattr(_compute, "PARKED_MAX", 1)
    caches = [await stand.cache() for _ in range(4)]
    source = Source(stand, "v", takes_s=3.0)
    parked: list[int] = []

    async def watch() -> None:
        while not source.loads or source.running:
            parked.append(stand.owner("k").desk.parked)
            await stand.clock.sleep(0.02)

    calls = [cache.get_or_compute("k", source) for cache in caches]
    found = await stand.all(*calls, watch())
    assert ["v"] * 4 == found[:4]
    assert 1 == max(parked)
    assert 1 == source.loads


async def test_those_that_wait_ask_the_new_owner(stand: Stand) -> None:
    """Where the owner changes while callers wait they have the value by the new one, and soon."""
    caches = [await stand.cache() for _ in range(2)]
    keys = [f"k{number}" for number in range(16)]
    sources = {key: Source(stand, key, takes_s=4.0) for key in keys}
    calls = [
        stand.begin(cache.get_or_compute(key, sources[key], timeout_s=60.0))
        for key in keys
        for cache in caches
    ]
    await stand.until(lambda: all(source.loads for source in sources.values()))
    before = {key: stand.owner(key) for key in keys}
    await stand.add_node()
    moved = [key for key in keys if stand.owner(key) is not before[key]]
    assert moved
    found = await stand.run(outcomes(*calls))
    assert [key for key in keys for _ in caches] == found
    for key in keys:
        assert sources[key].loads <= (2 if key in moved else 1)


async def test_the_value_has_its_time_and_its_cost(stand: Stand) -> None:
    """What is stored has the tags, the times and the cost of its load."""
    cache = await stand.cache()
    source = Source(stand, "v", takes_s=0.5)
    await stand.run(cache.get_or_compute("k", source, ttl_s=10.0, stale_s=5.0, tags=["t"]))
    stay = stand.owner("k")
    entry = stay.store.peek(partition_of("stand:k"), "stand:k", stay.now_us())
    assert entry is not None
    assert 5_000_000 == entry.expires_us - entry.fresh_us
    assert 500_000 <= entry.cost_us < 600_000
    assert 1 == await stand.run(cache.invalidate_tag("t"))


async def test_the_end_of_a_turn_must_be_its_own(stand: Stand) -> None:
    """A change that names a turn that is over, or another one's, changes nothing."""
    cache = await stand.cache()
    stay = stand.owner("k")
    turned = await stay.desk.ask(AskTurn(0, "stand:k", "me", 3.0))
    change = Change(Verb.SET, "stand:k", b"x", lead=turned.token + 1)
    changes = [(partition_of("stand:k"), change)]
    (outcome,) = await stay.owner.change(changes, stay.now_us())
    assert Status.NOT_DONE == outcome.status
    assert await stand.run(cache.get("k")) is None
