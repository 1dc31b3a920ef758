"""A steady load whose outcomes are known: what is read must be what was set."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from agent99.systems.cache import Cache

from ._world import World

WORKERS = 8
PAUSE_S = 0.004


class Load:
    """Workers with keys of their own: each knows what is there, since nobody else changes it."""

    def __init__(self, world: World, cache: Cache[Any], seed: int, keys: int = 400) -> None:
        self.errors: list[BaseException] = []
        self.wrong: list[str] = []
        """What was read and should not have been."""
        self.calls = 0
        self.there: dict[str, int] = {}
        """What was acknowledged last, by key."""
        self._world = world
        self._cache = cache
        self._keys = [f"load/{number}" for number in range(keys)]
        self._random = Random(seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_over = False

    async def start(self) -> None:
        """Set all keys, then begin."""
        self.there = {key: number for number, key in enumerate(self._keys)}
        await self._world.do(self._cache.set_many(self.there))
        self._tasks = [
            asyncio.ensure_future(self._work(self._keys[number::WORKERS]))
            for number in range(WORKERS)
        ]

    async def stop(self) -> None:
        """Let them finish, and look at everything once more."""
        self._is_over = True
        await self._world.do(asyncio.gather(*self._tasks))
        found = await self._world.do(self._cache.get_many(self._keys))
        self.wrong += [
            f"in the end {key}: {found.get(key)}, not {self.there.get(key)}"
            for key in self._keys
            if found.get(key) != self.there.get(key)
        ]

    def check(self) -> None:
        """Find what failed, or was not what it must be."""
        assert self.calls > 100, "the load did not run"
        assert not self.errors, f"{len(self.errors)} of {self.calls}: {self.errors[:3]}"
        assert not self.wrong, f"{len(self.wrong)} of {self.calls}: {self.wrong[:5]}"

    async def _work(self, keys: list[str]) -> None:
        while not self._is_over:
            key = self._random.choice(keys)
            self.calls += 1
            try:
                await self._call(key)
            except Exception as error:  # noqa: BLE001 - any of them is one too many
                self.errors.append(error)
            await self._world.clock.sleep(PAUSE_S)

    async def _call(self, key: str) -> None:
        cache, draw = self._cache, self._random.random()
        if draw < 0.6:
            found = await cache.get(key)
            if found != self.there.get(key):
                self.wrong.append(f"{key}: {found}, not {self.there.get(key)}")
        elif draw < 0.7:
            await cache.delete(key)
            self.there.pop(key, None)
        elif draw < 0.8:
            self.there[key] = await cache.incr(key)
        else:
            value = self._random.randrange(10**6)
            await cache.set(key, value)
            self.there[key] = value
