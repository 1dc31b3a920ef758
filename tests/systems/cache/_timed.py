"""Meshes in memory with nodes of the cache, on a clock that the test lets run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from agent99 import Mesh, Settings
from agent99.ids import SeededIds
from agent99.systems.cache import Cache, CacheNodeAgent
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._stay import Stay
from agent99.testing import ManualClock, MemoryEngine

T = TypeVar("T")
STEP_S = 0.02
THREADS_STEP_S = 0.0005
"""Where threads are at work too: they have the machine's time, and must not be late by this one."""
NODE_BYTES = 1 << 24


class Stand:
    """Processes' worth of meshes on one engine; time passes only in its methods."""

    def __init__(self, stack: AsyncExitStack, folder: Path, seed: int = 0) -> None:
        self.clock = ManualClock()
        self.step_s = STEP_S
        self.nodes: list[CacheNodeAgent] = []
        self._engine = MemoryEngine(clock=self.clock, ids=SeededIds(seed))
        self._stack = stack
        where: dict[str, Any] = {"project": folder, "state_folder": folder}
        self._settings = Settings(**where, mesh="stand")

    async def mesh(self) -> Mesh:
        """Open one more process's worth of mesh."""
        mesh = Mesh(settings=self._settings, engine=self._engine, clock=self.clock)
        return await self._stack.enter_async_context(mesh)

    async def cache(self, of: Any = Any, namespace: str = "stand") -> Cache[Any]:
        """Return a cache of one more process."""
        return await (await self.mesh()).cache(namespace, of)

    async def add_node(self, *, replicas: int = 1) -> CacheNodeAgent:
        """Start one more node, and wait until nothing moves any more."""
        node = CacheNodeAgent(memory_bytes=NODE_BYTES, replicas=replicas)
        await (await self.mesh()).host(node)
        self.nodes.append(node)
        await self.until(lambda: self._is_settled(replicas))
        return node

    async def close(self) -> None:
        """End the nodes where they are: nobody is left for whom they would hand anything over."""
        for node in self.nodes:
            residence, stay = node._residence, node.stay
            if residence is not None and stay is not None:
                residence.stay = None
                await stay.end()

    def owner(self, key: str, namespace: str = "stand") -> Stay:
        """Return the stay of the node that owns a key."""
        partition = partition_of(f"{namespace}:{key}")
        for node in self.nodes:
            if node.stay is not None and partition in node.stay.owner.holdings:
                return node.stay
        raise AssertionError(f"nobody owns {key!r}")

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin some work, which goes on when time passes."""
        return asyncio.get_running_loop().create_task(work)

    async def run(self, work: Awaitable[T]) -> T:
        """Let time pass until some work is done."""
        task = asyncio.ensure_future(work)
        await self.until(task.done)
        return await task

    async def all(self, *works: Coroutine[Any, Any, T]) -> list[T]:
        """Let time pass until all of several are done."""

        async def together() -> list[T]:
            return list(await asyncio.gather(*works))

        return await self.run(together())

    async def until(self, condition: Any, *, timeout_s: float = 60.0) -> None:
        """Let time pass until a condition holds."""
        until_s = self.clock.monotonic_s() + timeout_s
        while not condition():
            assert self.clock.monotonic_s() < until_s, f"not within {timeout_s} s"
            await self.clock.advance(self.step_s)

    def _is_settled(self, replicas: int) -> bool:
        copies = min(replicas, len(self.nodes) - 1)
        stays = [node.stay for node in self.nodes]
        for stay in stays:
            if stay is None or stay.book.table is None:
                return False
            parts = stay.book.table.parts
            if not all(part.owner and len(part.replicas) >= copies for part in parts):
                return False
            if not all(holding.is_ready for holding in stay.owner.holdings.values()):
                return False
        return all(stay is not None and stay.owner.holdings for stay in stays)


class Source:
    """What loads: counts, and goes on when the test says so, or after a time.

    Args:
        values: What it loads, one after the other, the last one again and again; an error is
            raised.
    """

    def __init__(self, stand: Stand, *values: Any, takes_s: float = 0.1) -> None:
        self.loads = 0
        self.running = 0
        self.running_max = 0
        self._stand = stand
        self._values = values
        self._takes_s = takes_s

    async def __call__(self) -> Any:
        """Load."""
        value = self._values[min(self.loads, len(self._values) - 1)]
        self.loads += 1
        self.running += 1
        self.running_max = max(self.running_max, self.running)
        try:
            await self._stand.clock.sleep(self._takes_s)
        finally:
            self.running -= 1
        if isinstance(value, Exception):
            raise value
        return value


async def outcomes(*works: Awaitable[Any]) -> list[Any]:
    """Return what comes of several, errors too."""
    return list(await asyncio.gather(*works, return_exceptions=True))
