"""A steady load of reads and changes with known outcomes: what is read must be what was set."""

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

    def __init__(
        self,
        world: World,
        cache: Cache[Any],
        seed: int,
        *,
        keys: int = 400,
        pause_s: float = PAUSE_S,
    ) -> None:
        self.errors: list[BaseException] = []
        self.wrong: list[str] = []
        """What was read and should not have been."""
        self.calls = 0
        self.there: dict[str, int] = {}
        """What was acknowledged last, by key."""
        self.maybe: dict[str, set[int | None]] = {}
        """What may be there instead, after changes whose outcome is unknown."""
        self._world = world
        self._cache = cache
        self._keys = [f"load/{number}" for number in range(keys)]
        self._random = Random(seed)
        self._tasks: list[asyncio.Task[None]] = []
        self._is_over = False
        self._pause_s = pause_s

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
        for key in self._keys:
            self._see(key, found.get(key))

    def check(self) -> None:
        """Find what failed, or was not what it must be."""
        self.check_values()
        assert not self.errors, f"{len(self.errors)} of {self.calls}: {self.errors[:3]}"

    def check_values(self) -> None:
        """Find what was not what it must be; that something failed may be."""
        assert self.calls > 100, "the load did not run"
        assert not self.wrong, f"{len(self.wrong)} of {self.calls}: {self.wrong[:5]}"

    async def _work(self, keys: list[str]) -> None:
        while not self._is_over:
            key = self._random.choice(keys)
            self.calls += 1
            try:
                await self._call(key)
            except Exception as error:  # noqa: BLE001 - any of them is one too many
                self.errors.append(error)
            await self._world.clock.sleep(self._pause_s)

    async def _call(self, key: str) -> None:
        draw = self._random.random()
        if draw < 0.6:
            self._see(key, await self._cache.get(key))
            return
        value = None if draw < 0.7 else self._random.randrange(10**6)
        # Until it is acknowledged, either may be there; if it never is, for ever after.
        self.maybe.setdefault(key, {self.there.get(key)}).add(value)
        if value is None:
            await self._cache.delete(key)
        else:
            await self._cache.set(key, value)
        self._now(key, value)

    def _see(self, key: str, found: int | None) -> None:
        allowed = self.maybe.get(key, {self.there.get(key)})
        if found not in allowed:
            self.wrong.append(f"{key}: {found}, not of {allowed}")

    def _now(self, key: str, value: int | None) -> None:
        self.maybe.pop(key, None)
        if value is None:
            self.there.pop(key, None)
        else:
            self.there[key] = value
