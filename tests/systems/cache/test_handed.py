"""The blocking form of what is computed and locked: the calling thread does the work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agent99.dispatch import new_event_loop
from agent99.errors import DeadlineExceededError
from agent99.systems.cache import BlockingCache, LockTakenError
from tests.systems.cache._timed import THREADS_STEP_S, Source, Stand


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop of `agent99 run`."""
    return {"agent99": new_event_loop}


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """Give a mesh with one node."""
    async with AsyncExitStack() as stack:
        stand = Stand(stack, tmp_path)
        await stand.add_node()
        stand.step_s = THREADS_STEP_S
        yield stand
        await stand.close()


async def _blocking(stand: Stand) -> BlockingCache[Any]:
    loop = asyncio.get_running_loop()

    def wait(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    return BlockingCache(await stand.cache(), wait)


async def test_the_calling_thread_loads(stand: Stand) -> None:
    """A load runs in the thread that asked first; others have its value."""
    cache = await _blocking(stand)
    ran_in: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def load() -> str:
        ran_in.append(threading.get_ident())
        begun.set()
        go_on.wait(10)
        return "v"

    def first() -> tuple[int, Any]:
        return threading.get_ident(), cache.get_or_compute("k", load)

    one = asyncio.ensure_future(asyncio.to_thread(first))
    await stand.until(begun.is_set)
    two = asyncio.ensure_future(asyncio.to_thread(cache.get_or_compute, "k", load))
    await stand.clock.advance(0.5)
    go_on.set()
    ident, found = await stand.run(one)
    assert ("v", "v") == (found, await stand.run(two))
    assert [ident] == ran_in
    assert "v" == await stand.run(asyncio.to_thread(cache.get, "k"))


async def test_a_load_that_fails_raises_where_it_ran(stand: Stand) -> None:
    """The error of a load comes to its thread, and the turn is over."""
    cache = await _blocking(stand)

    def load() -> str:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await stand.run(asyncio.to_thread(cache.get_or_compute, "k", load))
    found = await stand.run(asyncio.to_thread(cache.get_or_compute, "k", lambda: "v"))
    assert "v" == found


async def test_a_thread_that_is_broken_off(stand: Stand) -> None:
    """What ends a thread within its load, such as Ctrl-C, ends the turn."""
    cache = await _blocking(stand)

    class BrokenOffError(BaseException):
        pass

    def load() -> str:
        raise BrokenOffError

    def call() -> str:
        try:
            cache.get_or_compute("k", load)
        except BrokenOffError:
            return "broken off"
        return ""

    assert "broken off" == await stand.run(asyncio.to_thread(call))
    assert "v" == await stand.run(asyncio.to_thread(cache.get_or_compute, "k", lambda: "v"))


async def test_a_refresh_is_not_waited_for(stand: Stand) -> None:
    """A stale value is returned at once, and computed anew in another thread."""
    cache = await _blocking(stand)
    ran_in: list[int] = []

    def load() -> int:
        ran_in.append(threading.get_ident())
        return len(ran_in)

    def call() -> tuple[int, Any]:
        found = cache.get_or_compute("k", load, ttl_s=1.0, stale_s=60.0, early=0.0)
        return threading.get_ident(), found

    ident, found = await stand.run(asyncio.to_thread(call))
    assert ([ident], 1) == (ran_in, found)
    await stand.clock.advance(1.5)
    ident, found = await stand.run(asyncio.to_thread(call))
    assert 1 == found
    await stand.until(lambda: len(ran_in) == 2)
    assert ident != ran_in[1]
    await stand.clock.advance(0.2)
    assert 2 == await stand.run(asyncio.to_thread(cache.get, "k"))


async def test_a_thread_that_gives_up(stand: Stand) -> None:
    """A thread whose time is up while another process loads is told so, and loads nothing."""
    slow = Source(stand, "slow", takes_s=1.0)
    begun = stand.begin((await stand.cache()).get_or_compute("k", slow))
    await stand.until(lambda: slow.loads)
    cache = await _blocking(stand)
    loads: list[int] = []
    with pytest.raises(DeadlineExceededError):
        await stand.run(
            asyncio.to_thread(cache.get_or_compute, "k", lambda: loads.append(1), timeout_s=0.2)
        )
    assert "slow" == await stand.run(begun)
    assert [] == loads


async def test_locks_of_threads(stand: Stand) -> None:
    """A thread has a lock in a `with`, renews it, and nobody else gets it meanwhile."""
    cache, other = await _blocking(stand), await _blocking(stand)

    def work() -> int:
        with cache.lock("job", lease_s=30.0) as lock:
            lock.renew()
            assert lock.is_held()
            with pytest.raises(LockTakenError), other.lock("job", wait_s=0.0):
                pass
            lock.release()
            assert not lock.is_held()
            with other.lock("job", wait_s=0.0) as next_one:
                return next_one.token - lock.token

    assert 0 < await stand.run(asyncio.to_thread(work))
