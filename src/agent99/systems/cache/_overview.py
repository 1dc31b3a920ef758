"""The whole cache at one look: who is there, what each has, and what is under way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Literal

import msgspec

from agent99.agent import Agent, Mesh
from agent99.systems.cache._sample import Counts, NodeStats
from agent99.systems.cache._table import Node, Part, Table

LOOK_S = 2.0
"""A node that does not answer within so many seconds is silent."""

NodeState = Literal["ready", "joining", "re-replicating", "leaving", "silent"]


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One node, by the table and by its own word."""

    instance: str
    state: NodeState
    """`joining`: not in the table yet. `re-replicating`: something that it owns, or is to have, is
    not yet wherever it is to be. `silent`: in the table, but it has not answered."""
    weight: float
    owned: int
    """Partitions that it decides about, of 256."""
    copied: int
    """Partitions of which it has a copy in sync."""
    awaited: int
    """Partitions that it is to have, and has not yet."""
    stats: NodeStats | None
    """None: it has not answered."""


class CacheTotals(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes together, as far as they have answered."""

    nodes: int
    silent: int
    """Of them, those that have not answered: what they hold is in no sum."""
    keys: int
    copies: int
    memory_bytes: int
    memory_max: int
    counts: Counts
    hit_ratio: float | None
    """Of the keys that nodes were asked for, the share that was there; None: none was asked for."""
    evictions: int
    expirations: int


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The cache of a mesh."""

    epoch: int
    """Of the table; grows with everything that changes in it."""
    replicas: int
    """Copies wanted of each partition, besides the owner's."""
    nodes: tuple[NodeView, ...]
    """In the order in which they came."""
    unowned: int
    """Partitions that nobody owns: each is so while its owner's lease runs out."""
    moving: int
    """Partitions that are not yet where they are to be."""
    lost: int
    """So often every copy of a partition was lost."""


async def look_at(mesh: Mesh | Agent, *, timeout_s: float = LOOK_S) -> Overview:
    """Ask the table, and all nodes at once.

    Raises:
        DeadlineExceededError: the table cannot be read.
        ClosedError, TransportError
    """
    cache = await mesh.cache()
    found, table = await asyncio.gather(
        mesh.survey("cache_node", "stats", returns=NodeStats, timeout_s=timeout_s),
        cache.known_table(),
    )
    return overview(table, {each.instance: each.result for each in found.answers if each.ok})


def overview(table: Table, answers: Mapping[str, NodeStats]) -> Overview:
    """Return what the table and the nodes' answers say together. Pure.

    Args:
        answers: By instance.
    """
    owned = Counter(part.owner for part in table.parts)
    copied = Counter(node for part in table.parts for node in part.replicas)
    moving = [part for part in table.parts if _holders(part) != frozenset(part.goal)]
    awaited = Counter(node for part in moving for node in frozenset(part.goal) - _holders(part))
    busy = {part.owner for part in moving} | awaited.keys()
    there = {node.instance for node in table.nodes}
    views = [
        NodeView(
            instance=node.instance,
            state=_state(node, answers, busy),
            weight=node.weight,
            owned=owned[node.id],
            copied=copied[node.id],
            awaited=awaited[node.id],
            stats=answers.get(node.instance),
        )
        for node in table.nodes
    ]
    views += [_joining(answers[instance]) for instance in sorted(answers.keys() - there)]
    return Overview(
        epoch=table.epoch,
        replicas=table.replicas,
        nodes=tuple(views),
        unowned=owned[""],
        moving=len(moving),
        lost=table.lost,
    )


def totals(found: Overview) -> CacheTotals:
    """Return the sums over all nodes that have answered. Pure."""
    stats = [node.stats for node in found.nodes if node.stats is not None]
    fields = Counts.__struct_fields__
    counts = Counts(**{name: sum(getattr(each.stats, name) for each in stats) for name in fields})
    return CacheTotals(
        nodes=len(found.nodes),
        silent=len(found.nodes) - len(stats),
        keys=sum(each.cache_size for each in stats),
        copies=sum(each.copies for each in stats),
        memory_bytes=sum(each.memory_usage for each in stats),
        memory_max=sum(each.memory_max for each in stats),
        counts=counts,
        hit_ratio=counts.hits / counts.gets if counts.gets else None,
        evictions=sum(each.evictions for each in stats),
        expirations=sum(each.expirations for each in stats),
    )


def _state(node: Node, answers: Mapping[str, NodeStats], busy: AbstractSet[str]) -> NodeState:
    if node.instance not in answers:
        return "silent"
    if node.is_leaving:
        return "leaving"
    return "re-replicating" if node.id in busy else "ready"


def _joining(stats: NodeStats) -> NodeView:
    """Return a node that nobody else knows of yet."""
    return NodeView(
        instance=stats.node_id,
        state="joining",
        weight=0.0,
        owned=0,
        copied=0,
        awaited=0,
        stats=stats,
    )


def _holders(part: Part) -> frozenset[str]:
    return frozenset((part.owner, *part.replicas)) if part.owner else frozenset()
