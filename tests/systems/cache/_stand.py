"""A cache of several nodes and clients in this process, each on a connection of its own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from agent99 import Mesh
from agent99.systems.cache import CacheNodeAgent
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._stay import Stay
from agent99.testing import MemoryEngine
from tests._wait import eventually

MEMORY_BYTES = 64 * 1024 * 1024


class Stand:
    """Nodes and clients of one mesh."""

    def __init__(self, stack: AsyncExitStack, url: str | None) -> None:
        self._stack = stack
        self._url = url
        self.name = f"m{secrets.token_hex(4)}"
        self._engine = None if url else MemoryEngine()
        self.nodes: list[CacheNodeAgent] = []

    async def mesh(self) -> Mesh:
        """Connect once more."""
        mesh = Mesh(self._url, mesh=self.name, engine=self._engine)
        return await self._stack.enter_async_context(mesh)

    async def add(self, *, replicas: int, memory_bytes: int = MEMORY_BYTES) -> CacheNodeAgent:
        """Start a node."""
        node = CacheNodeAgent(memory_bytes=memory_bytes, replicas=replicas)
        await (await self.mesh()).host(node)
        self.nodes.append(node)
        return node

    async def settled(self, copies: int) -> None:
        """Wait until all nodes own something, and each partition has so many copies in sync."""
        await eventually(lambda: all(_is_settled(one, copies) for one in self.nodes))

    def owner(self, key: str) -> Stay:
        """Return the stay of the node that owns a full key."""
        for stay in self.stays():
            if stay.owner.serving(partition_of(key)) is not None:
                return stay
        raise AssertionError(f"nobody owns {key!r}")

    def stays(self) -> list[Stay]:
        """Return the stays of all nodes."""
        return [node.stay for node in self.nodes if node.stay is not None]


def _is_settled(node: CacheNodeAgent, copies: int) -> bool:
    stay = node.stay
    table = None if stay is None else stay.book.table
    if stay is None or table is None:
        return False
    holdings = stay.owner.holdings
    whole = all(part.owner and len(part.replicas) == copies for part in table.parts)
    return whole and bool(holdings) and all(one.is_ready for one in holdings.values())


@asynccontextmanager
async def stand(
    nodes: int = 1, *, replicas: int = 0, url: str | None = None
) -> AsyncIterator[Stand]:
    """Give nodes that are there; without a `url` in memory."""
    async with AsyncExitStack() as stack:
        there = Stand(stack, url)
        for _ in range(nodes):
            await there.add(replicas=replicas)
        await there.settled(min(replicas, nodes - 1))
        yield there
