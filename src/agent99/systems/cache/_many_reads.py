"""Several keys that are read together: what one owner has of them goes in one message."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent99.systems.cache._answers import check_found
from agent99.systems.cache._client import ATTEMPT_S, MAY_PASS, CacheClient
from agent99.systems.cache._lanes import BATCH_MAX
from agent99.systems.cache._table import Node
from agent99.systems.cache._words import Found, Hit, Read


async def read_many(
    client: CacheClient, keys: Sequence[str], timeout_s: float, *, is_any: bool = False
) -> list[Hit | None]:
    """Return the `Hit` of each key, or None where there is nothing; one message to each owner.

    Args:
        is_any: Copies may answer for hot keys.

    Raises:
        as `CacheClient.read`.
    """
    hits: list[Hit | None] = [None] * len(keys)
    until_s = client.clock.monotonic_s() + timeout_s
    groups: dict[str, list[int]] = {}
    alone: list[int] = []
    owner_of = client.lookup.owner_of
    for index, key in enumerate(keys):
        node = owner_of(key)
        if node is None or (is_any and client.copies.is_hot(key)):
            alone.append(index)
        else:
            groups.setdefault(node.id, []).append(index)
    asking = [
        _read_group(client, client.book.nodes[node], keys, group[at : at + BATCH_MAX], hits)
        for node, group in groups.items()
        for at in range(0, len(group), BATCH_MAX)
    ]
    for left in await asyncio.gather(*asking):
        alone += left
    left_s = until_s - client.clock.monotonic_s()
    again = [client.read(keys[index], left_s, is_any=is_any) for index in alone]
    for index, hit in zip(alone, await asyncio.gather(*again), strict=True):
        hits[index] = hit
    return hits


async def _read_group(
    client: CacheClient, node: Node, keys: Sequence[str], group: list[int], hits: list[Hit | None]
) -> list[int]:
    """Ask one owner for several keys; returns the indexes of those without an answer."""
    epoch = client.lookup.table.epoch
    read = Read(epoch, tuple([keys[index] for index in group]))
    try:
        found: Found = await client.peers.ask(
            node, "read", read, returns=Found, timeout_s=ATTEMPT_S
        )
        check_found(found, len(group))
    except MAY_PASS:
        return group
    client.book.learn(found.table)
    client.copies.heard(found)
    left = group[len(found.hits) :]
    for index, hit in zip(group, found.hits, strict=False):
        hits[index] = hit
        if hit is not None and hit.size:
            left.append(index)
    return [*(group[moved] for moved in found.moved), *left]
