"""One agent that answers for the whole cache: for people, and for agents without this library.

Agents with it need no coordinator: their own client asks the owners of keys directly.
"""

from __future__ import annotations

from typing import Any

from agent99 import Agent, Failure, NoAgentError, operation
from agent99.systems.cache._cache import DEFAULT_NAMESPACE, Cache
from agent99.systems.cache._refusals import asked_by_others
from agent99.systems.cache._sample import (
    INVALID_OPERATION,
    NO_CACHE_NODES,
    CacheStats,
    Deleted,
    Got,
    NodeStats,
    Stored,
)


class CacheCoordinator(Agent):
    """Reads and changes the cache for others, and knows all of its nodes."""

    capabilities = ("cache_coordinator", "distributed_cache")
    uses = ("cache_node",)

    async def process_request(self, action: str = "", operation: str = "") -> None:
        """Refuse what names none of the operations."""
        name = operation or action
        raise Failure(f"{name!r} is none of: get, set, delete, stats", code=INVALID_OPERATION)

    @operation(idempotent=True)
    async def get(self, key: str) -> Got:
        """Return what the cache has for a key."""
        cache = await self._cache()
        try:
            with asked_by_others():
                hit = await cache.fetch(key)
        except NoAgentError as error:
            raise _no_nodes(error) from error
        if hit is None:
            return Got(found=False, node=cache.owner(key))
        return Got(found=True, value=hit.value, node=cache.owner(key))

    @operation
    async def set(self, key: str, value: Any, ttl: float | None = None) -> Stored:
        """Set a key, for so many seconds or for ever; answered = every copy in sync has it."""
        cache = await self._cache()
        try:
            with asked_by_others():
                await cache.set(key, value, ttl_s=ttl)
        except NoAgentError as error:
            raise _no_nodes(error) from error
        return Stored(stored=True, node=cache.owner(key))

    @operation
    async def delete(self, key: str) -> Deleted:
        """Delete a key."""
        cache = await self._cache()
        try:
            with asked_by_others():
                was_there = await cache.delete(key)
        except NoAgentError as error:
            raise _no_nodes(error) from error
        return Deleted(deleted=was_there, node=cache.owner(key))

    @operation(idempotent=True)
    async def stats(self) -> CacheStats:
        """Return what all nodes hold, and what they were asked."""
        found = await self.survey("cache_node", "stats", returns=NodeStats, timeout_s=2.0)
        nodes = {each.instance: each.result for each in found.answers if each.ok}
        table = await (await self._cache()).known_table()
        return CacheStats(
            nodes,
            len(await self.discover("cache_node")),
            epoch=table.epoch,
            partitions_lost=table.lost,
        )

    async def _cache(self) -> Cache[Any]:
        return await self.cache(DEFAULT_NAMESPACE)


def _no_nodes(error: NoAgentError) -> Failure:
    return Failure(str(error), code=NO_CACHE_NODES, retryable=True)
