"""Locks with a lease and a fencing token, on meshes in memory and a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from agent99.dispatch import new_event_loop
from agent99.errors import DeadlineExceededError, InvalidNameError, UsageError
from agent99.systems.cache import LockLostError, LockTakenError
from agent99.systems.cache._lock import LOCKS, Lock
from tests.systems.cache._timed import Stand


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


async def test_one_at_a_time(stand: Stand) -> None:
    """Of several processes one has a lock at a time, and each has a higher token than the last."""
    caches = [await stand.cache() for _ in range(3)]
    inside = 0
    tokens: list[int] = []

    async def work(cache: Any) -> None:
        nonlocal inside
        for _ in range(3):
            async with cache.lock("job", wait_s=60.0) as lock:
                inside += 1
                assert 1 == inside
                tokens.append(lock.token)
                assert lock.is_held()
                await stand.clock.sleep(0.1)
                inside -= 1
            assert not lock.is_held()

    await stand.all(*(work(cache) for cache in caches))
    assert 9 == len(tokens)
    assert sorted(set(tokens)) == tokens


async def test_who_does_not_get_it_in_time(stand: Stand) -> None:
    """Who waits for a lock longer than it wants to is told who it is that it did not get."""
    first, second = await stand.cache(), await stand.cache()

    async def work() -> None:
        async with first.lock("job"):
            for wait_s in (0.0, 1.0):
                began_s = stand.clock.monotonic_s()
                with pytest.raises(LockTakenError, match=f"'job'; waited {wait_s} s"):
                    async with second.lock("job", wait_s=wait_s):
                        pass
                assert wait_s <= stand.clock.monotonic_s() - began_s < wait_s + 0.2
            async with first.lock("another"), second.lock("third"):
                pass

    await stand.run(work())


async def test_a_lease_ends(stand: Stand) -> None:
    """A lock that is not renewed is another one's in the end: its first owner frees nothing."""
    first, second = await stand.cache(), await stand.cache()

    async def work() -> None:
        async with first.lock("job", lease_s=1.0) as old:
            await stand.clock.sleep(0.7)
            await old.renew()
            token = old.token
            await stand.clock.sleep(0.7)
            assert old.is_held()
            await stand.clock.sleep(0.4)
            assert not old.is_held()
            async with second.lock("job", wait_s=0.0) as new:
                assert new.token > token
                with pytest.raises(LockLostError, match="'job' is lost"):
                    await old.renew()
                await old.release()
                await new.renew()
                assert new.is_held()

    await stand.run(work())


async def test_a_lock_survives_its_owner(stand: Stand) -> None:
    """Over a change of the key's owner a lock is kept, and tokens grow."""
    first, second = await stand.cache(), await stand.cache()
    await stand.add_node()
    names = [f"job{number}" for number in range(6)]
    locks: dict[str, Lock] = {}
    async with AsyncExitStack() as stack:
        for name in names:
            held = stack.enter_async_context(first.lock(name, lease_s=300.0))
            locks[name] = await stand.run(held)
        gone = stand.nodes.pop()
        assert gone.stay is not None
        assert gone._residence is not None
        stay, gone._residence.stay = gone.stay, None
        await stay.end()  # others take over when they see that its lease ran out
        for name in names:
            with pytest.raises(LockTakenError):
                await stand.run(_enter(second, name, 0.0))
            await stand.run(locks[name].renew())
            await stand.run(locks[name].release())
            assert locks[name].token < await stand.run(_enter(second, name, 0.0))


async def test_who_is_cancelled_keeps_no_lock(stand: Stand) -> None:
    """A lock that was got for somebody who was cancelled meanwhile is free soon."""
    first, second = await stand.cache(), await stand.cache()
    await stand.run(first.get("warm"))
    task = stand.begin(_enter(first, "job", 5.0))
    await asyncio.sleep(0)  # it has asked, and nothing more
    task.cancel()
    with suppress(asyncio.CancelledError):
        await stand.run(task)
    await stand.run(_enter(second, "job", 0.5))


async def test_an_answer_that_is_lost(stand: Stand) -> None:
    """Where an answer was lost, who asks again finds that the lock is its own."""
    cache = await stand.cache()
    client = cache._client
    write = client.write

    def lose(change: Any, timeout_s: float) -> Any:
        client.write = write
        asked = write(change, timeout_s)
        lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        asked.add_done_callback(lambda _: lost.set_exception(DeadlineExceededError("lost")))
        return lost

    async def work() -> None:
        client.write = lose
        async with cache.lock("job", lease_s=30.0) as lock:
            token = lock.token
            assert lock.is_held()
            client.write = lose
            with pytest.raises(DeadlineExceededError):
                await lock.renew()
            await lock.renew()
            assert token == lock.token
            client.write = lose
            with pytest.raises(DeadlineExceededError):
                await lock.renew()
        async with cache.lock("job", wait_s=0.0):
            pass

    await stand.run(work())


async def test_locks_lie_apart(stand: Stand) -> None:
    """A lock is no key of its namespace: who clears that frees no lock, and another has others."""
    cache, other = await stand.cache(), await stand.cache(namespace="other")

    async def work() -> None:
        async with cache.lock("job"), other.lock("job"):
            assert 0 == await cache.count()
            await cache.clear()
            with pytest.raises(LockTakenError):
                async with cache.lock("job", wait_s=0.0):
                    pass

    await stand.run(work())
    assert 0 == await stand.run((await stand.cache(namespace=LOCKS)).count())


async def test_a_value_with_its_lock(stand: Stand) -> None:
    """`get_and_lock` gives a value that nobody changes who asks for it in the same way."""
    caches = [await stand.cache() for _ in range(3)]

    async def work(cache: Any) -> None:
        for _ in range(5):
            async with cache.get_and_lock("k", wait_s=60.0) as locked:
                number = locked.value or 0
                await stand.clock.sleep(0.02)
                if locked.version:
                    assert await cache.cas("k", number + 1, version=locked.version)
                else:
                    assert await cache.add("k", number + 1)
                assert locked.lock.is_held()

    await stand.all(*(work(cache) for cache in caches))
    assert 15 == await stand.run(caches[0].get("k"))


@pytest.mark.parametrize(
    "how", [{"lease_s": 0.0}, {"lease_s": float("nan")}, {"wait_s": -1.0}, {"wait_s": float("inf")}]
)
async def test_absurd_times(stand: Stand, how: dict[str, float]) -> None:
    """A time out of its bounds is refused."""
    cache = await stand.cache()
    with pytest.raises(UsageError):
        async with cache.lock("job", **how):
            pass
    with pytest.raises(InvalidNameError):
        async with cache.lock(""):
            pass


async def _enter(cache: Any, name: str, wait_s: float) -> int:
    async with cache.lock(name, wait_s=wait_s) as lock:
        return int(lock.token)
