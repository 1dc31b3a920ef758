"""What nodes and the coordinator answer to people, and to agents without this library."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

INVALID_OPERATION = "INVALID_OPERATION"
NO_CACHE_NODES = "NO_CACHE_NODES"


class NodeGot(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a node has for a key."""

    found: bool
    value: Any = None
    expires_at: datetime | None = None


class NodeStored(msgspec.Struct, frozen=True):
    """A key was set."""

    stored: bool
    expires_at: datetime | None = None


class NodeDeleted(msgspec.Struct, frozen=True):
    """A key was deleted, if it was there."""

    deleted: bool


class Counts(msgspec.Struct, frozen=True):
    """What a node was asked since it started."""

    gets: int = 0
    sets: int = 0
    """Changes of every kind but deletions."""
    deletes: int = 0
    hits: int = 0
    misses: int = 0


class NodeStats(msgspec.Struct, frozen=True):
    """A node, as it is now."""

    node_id: str
    stats: Counts
    cache_size: int
    """Keys that it owns."""
    memory_usage: int
    """Bytes, copies included."""
    copies: int = 0
    """Keys that others own, and of which it has copies."""
    memory_max: int = 0
    evictions: int = 0
    expirations: int = 0
    partitions: int = 0
    """That it owns, of 256."""


class Cleared(msgspec.Struct, frozen=True):
    """Keys were deleted."""

    cleared: bool
    entries_removed: int


class Got(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the cache has for a key."""

    found: bool
    value: Any = None
    node: str = ""
    """The instance that owns it."""


class Stored(msgspec.Struct, frozen=True):
    """A key was set."""

    stored: bool
    node: str


class Deleted(msgspec.Struct, frozen=True):
    """A key was deleted, if it was there."""

    deleted: bool
    node: str


class CacheStats(msgspec.Struct, frozen=True):
    """All nodes, as they are now."""

    node_stats: dict[str, NodeStats]
    """By instance; of those that have answered."""
    total_nodes: int
    epoch: int = 0
    """Of the table that says who owns what."""
    partitions_lost: int = 0
    """So often every copy of a partition was lost."""
