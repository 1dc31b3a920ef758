"""Nodes of a cache in this process, each on a connection of its own, and a client."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from agent99 import Description, Mesh, Peer
from agent99.systems.cache import CacheNodeAgent
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._table import Table
from tests._wait import eventually

MEMORY_BYTES = 64 * 1024 * 1024


class Nodes:
    """A mesh of its own, with as many nodes as a test wants."""

    def __init__(self, url: str) -> None:
        self.name = f"m{secrets.token_hex(4)}"
        self.agents: list[CacheNodeAgent] = []
        self._open: dict[str, AsyncExitStack] = {}
        self._url = url
        self._stack = AsyncExitStack()
        self.client: Mesh

    async def __aenter__(self) -> Self:
        """Connect the client."""
        self.client = await self._stack.enter_async_context(self.mesh())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything."""
        await self._stack.aclose()

    def mesh(self) -> Mesh:
        """Return another connection to the same mesh."""
        return Mesh(self._url, mesh=self.name)

    async def add(
        self, count: int = 1, *, memory_bytes: int = MEMORY_BYTES, replicas: int = 1
    ) -> None:
        """Start nodes, and wait until each partition has its owner and its copies."""
        for _ in range(count):
            stack = await self._stack.enter_async_context(AsyncExitStack())
            mesh = await stack.enter_async_context(self.mesh())
            agent = CacheNodeAgent(memory_bytes=memory_bytes, replicas=replicas)
            await mesh.host(agent)
            self.agents.append(agent)
            self._open[agent.instance] = stack
            await self.settled(min(replicas, len(self.agents) - 1))

    async def settled(self, copies: int) -> None:
        """Wait until every node sees owners and copies of all partitions, and nothing to do."""
        await eventually(lambda: all(_is_settled(one, copies) for one in self.agents))

    async def stop(self, agent: CacheNodeAgent) -> None:
        """End one node's stay at once: it hands over nothing."""
        self.agents.remove(agent)
        residence = agent._residence
        assert residence is not None
        assert residence.stay is not None
        stay, residence.stay = residence.stay, None
        await stay.end()

    async def leave(self, agent: CacheNodeAgent) -> None:
        """Have one node hand over what it has, and go."""
        self.agents.remove(agent)
        await self._open.pop(agent.instance).aclose()

    async def ask(self, agent: CacheNodeAgent, operation: str, payload: Any) -> Any:
        """Ask one node what no client would."""
        who = Description(instance=agent.instance, name=agent.info().name)
        return await self.client.request(Peer(who, self.client), operation, payload)

    def owner(self, key: str) -> CacheNodeAgent:
        """Return the node that owns a full key."""
        for agent in self.agents:
            if agent.stay is not None and partition_of(key) in agent.stay.owner.holdings:
                return agent
        raise AssertionError(f"nobody owns {key!r}")


def _is_settled(agent: CacheNodeAgent, copies: int) -> bool:
    stay = agent.stay
    table: Table | None = stay.book.table if stay is not None else None
    if stay is None or table is None:
        return False
    whole = all(part.owner and len(part.replicas) >= copies for part in table.parts)
    return whole and stay.mover.is_quiet and all(h.is_ready for h in stay.owner.holdings.values())
