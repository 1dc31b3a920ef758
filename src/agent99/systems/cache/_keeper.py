"""Keeps the table true to who is there: every node can, and one of them does.

The nodes take turns by the order of their ids: the first acts at once, the next a little later, in
case the first does not. Two that act at the same time do no harm: the table is changed by
compare-and-set, and a change that was made already changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial

from agent99.clock import Clock
from agent99.errors import Agent99Error, ClosedError, WrongSequenceError
from agent99.journal import Change, Entry
from agent99.systems.cache._book import NODE, TableBook
from agent99.systems.cache._edits import gone, joined, leaving
from agent99.systems.cache._lease import decode_node
from agent99.systems.cache._options import SILENCE_S
from agent99.systems.cache._table import Node, Table, new_table

LOOK_S = 0.1
"""Between two looks at who is there."""
RANK_S = 0.3
"""So much later than the node before it a node acts."""
PAUSE_S = 1.0
"""Whoever was not able to look for so long takes all leases for just renewed."""
GRACE_S = 3.0
"""Whose own lease had run out judges nobody for so long: the others come back, too, within the 2 s
to which the pauses of their links grow, or as soon as there is a leader who takes renewals."""

_log = logging.getLogger("agent99.systems.cache")


class Seen:
    """A lease, as it was last seen."""

    __slots__ = ("node", "revision", "since_s")

    def __init__(self, node: Node, revision: int, since_s: float) -> None:
        self.node = node
        self.revision = revision
        self.since_s = since_s
        """When it was first seen at this revision."""

    def __repr__(self) -> str:
        return f"Seen({self.node.id!r}, revision={self.revision})"


class Keeper:
    """Adds to the table who has come, marks who wants to leave, and takes away who is gone.

    Args:
        me: This node's id.
        replicas: Copies besides the owner's that a table which it makes is to have.
        is_trusted: Tells whether this node's own lease is valid.
    """

    def __init__(
        self,
        book: TableBook,
        clock: Clock,
        me: str,
        replicas: int,
        is_trusted: Callable[[], bool],
    ) -> None:
        self.leases: dict[str, Seen] = {}
        """Of all nodes, by their ids."""
        self._gone: set[str] = set()
        self._book = book
        self._clock = clock
        self._me = me
        self._replicas = replicas
        self._is_trusted = is_trusted
        self._judges_from_s = 0.0
        self._looked_s = clock.monotonic_s()
        self._wrong_since_s: float | None = None

    def __repr__(self) -> str:
        return f"Keeper({self._me!r}, leases={len(self.leases)})"

    def all_entries(self, entries: tuple[Entry, ...], table: Table | None) -> None:
        """These leases are there, and no others; each is as good as just renewed.

        Args:
            table: As it stood beside them.
        """
        self.leases.clear()
        for entry in entries:
            self._see(entry.key, entry.value, entry.revision)
        nodes = () if table is None else table.nodes
        self._gone = {node.id for node in nodes if node.id not in self.leases}

    def entry(self, change: Change) -> None:
        """A lease was renewed, or is gone."""
        if change.kind == "put":
            self._see(change.key, change.value, change.revision)
        else:
            node = change.key.removeprefix(NODE)
            self.leases.pop(node, None)
            self._gone.add(node)

    async def run(self) -> None:
        """Look after the table, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            now_s = self._clock.monotonic_s()
            was_away, self._looked_s = now_s - self._looked_s > PAUSE_S, now_s
            if was_away or not self._book.has_snapshot:
                self.forget_silence()
                continue
            try:
                await self._look(now_s)
            except ClosedError:
                return
            except Agent99Error as error:
                _log.info("%r waits: %s", self, error)

    def forget_silence(self) -> None:
        """Take all leases for just renewed: their renewals may not have been heard here."""
        now_s = self._clock.monotonic_s()
        for seen in self.leases.values():
            seen.since_s = now_s

    # --- inside -----------------------------------------------------------------------------------

    def _see(self, key: str, value: bytes, revision: int) -> None:
        node = decode_node(value)
        if node is not None and key == NODE + node.id:
            self.leases[node.id] = Seen(node, revision, self._clock.monotonic_s())

    async def _look(self, now_s: float) -> None:
        if not self._is_trusted():
            self._judges_from_s = now_s + GRACE_S
        silent = [
            one
            for one in self.leases.values()
            if now_s >= self._judges_from_s and now_s - one.since_s > SILENCE_S
        ]
        table = self._book.table
        if not silent and table is not None and self._is_true(table):
            self._wrong_since_s = None
            return
        if self._wrong_since_s is None:
            self._wrong_since_s = now_s
        if now_s - self._wrong_since_s < self._rank(silent) * RANK_S:
            return
        for one in silent:
            await self._remove(one)
        await self._mend(table)

    def _rank(self, silent: list[Seen]) -> int:
        """Return how many nodes act before this one."""
        able = sorted(self.leases.keys() - {one.node.id for one in silent} | {self._me})
        return able.index(self._me)

    def _is_true(self, table: Table) -> bool:
        return mended(table, self._known(), self._gone) is table

    async def _remove(self, silent: Seen) -> None:
        """Take a lease away that was not renewed; whoever has just renewed it keeps it."""
        bucket = await self._book.bucket()
        try:
            await bucket.delete(NODE + silent.node.id, revision=silent.revision)
        except WrongSequenceError:
            silent.since_s = self._clock.monotonic_s()
        else:
            _log.warning("node %s was silent for %.1f s: removed", silent.node.id, SILENCE_S)
            self.leases.pop(silent.node.id, None)
            self._gone.add(silent.node.id)

    async def _mend(self, table: Table | None) -> None:
        if table is None:
            # There may have been one, which the server lost, and which clients know still. A table
            # changes less than a million times a second, so that this one is later.
            await self._book.create(new_table(self._replicas, self._clock.wall_us()))
        await self._book.edit(partial(mended, leases=self._known(), gone_ids=frozenset(self._gone)))

    def _known(self) -> dict[str, Node]:
        return {one.node.id: one.node for one in self.leases.values()}


def mended(table: Table, leases: Mapping[str, Node], gone_ids: Collection[str]) -> Table:
    """Return the table that is true to who is there; the same one if it is.

    Args:
        leases: Of the nodes that are known to be there: there may be more.
        gone_ids: The nodes that are known to be there no more; an id is never used again.
    """
    known = {node.id: node for node in table.nodes}
    missing = tuple(node for node in known if node in gone_ids)
    if missing:
        table = gone(table, missing)
    for node in leases.values():
        if node.id not in known:
            table = joined(table, node)
        elif node.is_leaving and not known[node.id].is_leaving:
            table = leaving(table, node.id)
    return table
