"""Whom to ask about a key, by the table that a client holds. Pure."""

from __future__ import annotations

from zlib import crc32

from agent99.systems.cache._keys import PARTITION_MASK
from agent99.systems.cache._table import Node, Part, Table


class Lookup:
    """One table, laid out so that a key's owner is found at once. Make a new one of a new table."""

    __slots__ = ("_nodes", "_owners", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self._nodes = nodes = {node.id: node for node in table.nodes}
        self._owners = [nodes.get(part.owner) for part in table.parts]

    def __repr__(self) -> str:
        return f"Lookup(epoch={self.table.epoch}, nodes={len(self.table.nodes)})"

    def owner_of(self, full_key: str) -> Node | None:
        """Return the node that decides about the key; None while its partition has no owner."""
        # On the way of every operation: written out, because a call costs a third of it.
        return self._owners[crc32(full_key.encode()) & PARTITION_MASK]

    def node(self, node_id: str) -> Node | None:
        """Return a node of the table."""
        return self._nodes.get(node_id)

    def part(self, partition: int) -> Part:
        """Return who has the partition."""
        return self.table.parts[partition]
