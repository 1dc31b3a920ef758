"""One stay of a node in the cache: from its lease to its leaving, or until others removed it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from agent99.agent import Agent, link_of
from agent99.errors import Agent99Error
from agent99.journal import Change, Entry
from agent99.systems.cache._book import NODE, TableBook, bucket_config
from agent99.systems.cache._compute import TurnDesk
from agent99.systems.cache._copies import Copies
from agent99.systems.cache._copying import Lanes
from agent99.systems.cache._door import ASKED_MAX, answerable
from agent99.systems.cache._holding import Holding
from agent99.systems.cache._hot import HotBoard
from agent99.systems.cache._keeper import Keeper
from agent99.systems.cache._lease import Lease
from agent99.systems.cache._mover import Mover
from agent99.systems.cache._news import Teller
from agent99.systems.cache._options import ANSWER_BYTES
from agent99.systems.cache._owner import Owner
from agent99.systems.cache._parts import Parts, Staged
from agent99.systems.cache._peers import Peers
from agent99.systems.cache._quotas import NAMESPACE, Quotas
from agent99.systems.cache._staging import PartOf, Staging
from agent99.systems.cache._store import Store
from agent99.systems.cache._table import Node, Part, Table
from agent99.systems.cache._tally import Tally
from agent99.systems.cache._values import VALUE_BYTES_MAX
from agent99.systems.cache._words import Change as KeyChange
from agent99.systems.cache._words import Portion, Write
from agent99.wire import ConnectionState

SWEEP_S = 0.05
"""Between two looks at what has expired."""
SWEEP_ITEMS = 2_000
"""That are ended in one go, so that nothing waits for long."""
LEAVE_LOOK_S = 0.02
COMING_S = 2.0
"""So long whoever leaves waits for a node that is on the mesh to be in the cache, too."""

_log = logging.getLogger("agent99.systems.cache")


class Stay:
    """A node while it has one id.

    Args:
        agent: The node's agent; it must run, or be about to.
        removed: Called when others removed it.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        memory_bytes: int,
        weight: float,
        replicas: int,
        removed: Callable[[], None],
    ) -> None:
        link = link_of(agent)
        self._clock = clock = link.clock
        self._registry = link.registry
        token = link.ids.token().decode()[:10]
        node = Node(token, agent.info().name, agent.instance, weight)
        self._base_us = clock.wall_us() - int(clock.monotonic_s() * 1e6)
        config = bucket_config(link.subjects.mesh, link.durable.streams.replicas)
        self.book = TableBook(link.journal, config, clock, pattern=">")
        self.book.listener = self
        self.store = Store(memory_bytes)
        self.lease = Lease(self.book, clock, node, deposed=removed)
        ids, peers = link.ids, Peers(agent)
        value_bytes_max = min(VALUE_BYTES_MAX, memory_bytes // 5)
        self.lanes = Lanes(peers, Parts(peers, clock, lambda: ids.token().decode()))
        self.owner = Owner(
            self.store,
            self.book,
            self.lease,
            self.lanes,
            clock,
            self.now_us,
        )
        self.owner.value_bytes_max = value_bytes_max
        self.uploads = Staging(value_bytes_max)
        """By clients, whom copies do not wait for."""
        self.copied = Staging(value_bytes_max)
        self.copies = Copies(
            self.store, self.book, self.now_us, self.copied, lambda one: one in self.owner.holdings
        )
        self.owner.telling = self._teller = Teller(link.wire, link.subjects)
        self.store.outdated = self._teller.outdated
        self.hot = HotBoard(self.now_us(), link.ids.fraction)
        self.mover = Mover(token, self.owner, self.book, self.lanes, clock, self.now_us)
        self.desk = TurnDesk(self.owner, clock, link.deadlines, self.now_us)
        self.tally = Tally()
        self.quotas = Quotas(self.store, self.book, clock, token)
        self.owner.shares = self.quotas.shares
        self.keeper = Keeper(self.book, clock, token, replicas, self.lease.is_valid)
        self._id = token
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Stay({self._id!r}, owned={len(self.owner.holdings)})"

    def now_us(self) -> int:
        """Return the node's time: microseconds since the epoch, which never go back.

        It is set once, when the stay begins: a clock that is put right later moves nothing.
        """
        return self._base_us + int(self._clock.monotonic_s() * 1e6)

    def is_in_sync(self, partition: int) -> bool:
        """Whether this node has a copy of a partition that had every change so far, as it knows."""
        table = self.book.table
        is_copy = table is not None and self._id in table.parts[partition].replicas
        return is_copy and self.lease.is_valid()

    async def begin(self) -> None:
        """Be there.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        await self.lease.take()
        for work in (
            self.book.follow(),
            self.lease.keep(),
            self.keeper.run(),
            self.mover.run(),
            self.quotas.run(),
            self._sweep(),
        ):
            self._start(work)

    async def leave(self) -> None:
        """Hand everything over, while it is still served; cancel it to leave it to the others.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        await self.lease.leave()
        coming_until_s = self._clock.monotonic_s() + COMING_S
        while self._has_any():
            may_come = self._clock.monotonic_s() < coming_until_s and self._is_somebody_coming()
            if self._is_alone() and not may_come:
                return
            await self._clock.sleep(LEAVE_LOOK_S)

    async def end(self) -> None:
        """Be there no more."""
        await self.lease.give_up()
        for holding in self.owner.holdings.values():
            holding.leads.end_all()
        self.owner.holdings.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.book.close()
        self.lanes.close()
        self.store.close()

    def stage(self, part: PartOf) -> Staged:
        """Keep a part of a value until a message names it."""
        staging = self.copied if part.is_copy else self.uploads
        return Staged(staging.take(part, self._clock.monotonic_s()))

    def admitted(self, write: Write, now_us: int) -> Sequence[KeyChange]:
        """Return the changes of a message that are to be made now, from the first on.

        The others do not fit into the answer, or their value has not arrived: they are to come
        again.
        """
        changes = write.changes[:ASKED_MAX]
        if write.upload:
            value = self.uploads.claim(write.upload)
            if value is None or len(changes) != 1:
                return ()
            return (msgspec.structs.replace(changes[0], value=value),)
        if not any(change.wants_old for change in changes):
            return changes
        state = partial(self.owner.seen, now_us=now_us)
        return answerable(changes, state, ANSWER_BYTES)

    # --- what it hears ----------------------------------------------------------------------------

    def on_state(self, state: ConnectionState) -> None:
        """The link is cut, or is back."""
        if state is not ConnectionState.CONNECTED:
            self.lease.lose()
        self._teller.on_state(state)

    def on_table(self, table: Table) -> None:
        """Own what the table says, have copies of what it says, and forget the rest."""
        self.lanes.forget_others(table.nodes)
        for partition, part in enumerate(table.parts):
            holding = self.owner.holdings.get(partition)
            if part.owner == self._id:
                if holding is None or holding.epoch != part.epoch:
                    self._own(partition, part)
                continue
            if holding is not None:
                del self.owner.holdings[partition]
                holding.leads.end_all()
                self.store.open(partition, is_owned=False)
                self.copies.partitions.add(partition)
            if partition in self.copies.partitions:
                self._copy(partition, part)
        self.mover.wake()
        self.quotas.wake()

    def on_entries(self, entries: tuple[Entry, ...], table: Table | None) -> None:
        """These are the leases, and the rules of namespaces."""
        self.quotas.all_entries(entries)
        self.keeper.all_entries(entries, table)

    def on_entry(self, change: Change) -> None:
        """A lease was renewed, or is gone; or the rules of a namespace are others."""
        if change.key.startswith(NAMESPACE):
            self.quotas.entry(change)
        elif change.key.startswith(NODE):
            self.keeper.entry(change)

    # --- inside -----------------------------------------------------------------------------------

    def _own(self, partition: int, part: Part) -> None:
        before = self.owner.holdings.get(partition)
        if before is not None:
            before.leads.end_all()
        if part.is_anew:  # a copy that fell behind, or was not whole yet: better nothing
            self.copies.forget(partition)
            self.store.drop(partition)
        holding = self.owner.holdings[partition] = Holding(partition, part.epoch)
        recent = self.copies.recent(partition)
        self.copies.forget(partition)
        self.store.open(partition, is_owned=True)
        if part.replicas and recent:
            self._start(self._tell_recent(holding, recent, part.replicas))
        else:
            holding.is_ready = True

    def _copy(self, partition: int, part: Part) -> None:
        """Keep a copy while it is one, or is to be."""
        if self._id in part.replicas:
            self.store.filled(partition)
        elif self._id not in part.goal:
            self.copies.forget(partition)
            self.store.drop(partition)

    async def _tell_recent(
        self, holding: Holding, recent: tuple[Any, ...], replicas: tuple[str, ...]
    ) -> None:
        """Let the other copies have what the last owner may have told this one alone."""
        portion = Portion(holding.partition, holding.epoch, recent)
        if await self.owner.push(holding, portion, replicas):
            holding.is_ready = True
            self.mover.wake()

    async def _sweep(self) -> None:
        """End what has expired, a little at a time, so that nothing waits for it."""
        while True:
            self.store.expire(self.now_us(), SWEEP_ITEMS)
            for staging in (self.uploads, self.copied):
                staging.expire(self._clock.monotonic_s())
            await self._clock.sleep(0 if self.store.is_behind(self.now_us()) else SWEEP_S)

    def _has_any(self) -> bool:
        """Whether a partition counts on this node: its owner lets it go when others have copies."""
        parts = self.book.table.parts if self.book.table is not None else ()
        return any(self._id == part.owner or self._id in part.replicas for part in parts)

    def _is_alone(self) -> bool:
        return not any(
            node.id != self._id and not node.is_leaving for node in self.book.nodes.values()
        )

    def _is_somebody_coming(self) -> bool:
        """Whether a node runs that has no partitions only because it has just been started."""
        leases = [one.node for one in self.keeper.leases.values()]
        known = {node.instance for node in (*leases, *self.book.nodes.values())}
        is_new = any(
            node.id not in self.book.nodes and not node.is_leaving and node.id != self._id
            for node in leases
        )
        there = self._registry.table.candidates("cache_node")
        return is_new or any(each.instance not in known for each in there)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.critical("%r broke", self, exc_info=task.exception())
            with suppress(Agent99Error):
                self.lease.lose()
