"""The partitions that a node owns: reads, and changes that every copy has before they count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import Context
from functools import partial
from typing import Protocol

from agent99.clock import Clock
from agent99.systems.cache._book import TableBook
from agent99.systems.cache._copying import Lanes, Receipt, pieces
from agent99.systems.cache._edits import dropped
from agent99.systems.cache._entry import Entry, namespace_of, size_of
from agent99.systems.cache._fit import take_over
from agent99.systems.cache._holding import Holding, Staged
from agent99.systems.cache._item import Item
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._lease import Lease
from agent99.systems.cache._resolve import TOO_LARGE, resolve
from agent99.systems.cache._store import Store
from agent99.systems.cache._values import VALUE_BYTES_MAX
from agent99.systems.cache._words import Change, Outcome, Portion, Status, Verb

SILENT_S_MAX = 3.0
"""A copy that is silent for longer is a copy no more."""
LEASE_LOOK_S = 0.02
"""Between two looks whether a lease that ran out was renewed."""

MOVED = Outcome(Status.MOVED)
UNKNOWN = Outcome(Status.UNKNOWN)
OUTRUN = Outcome(Status.NOT_DONE)
"""The key was changed, or another one's turn came, while the value was computed."""


class Telling(Protocol):
    """Who tells others of changes, some of which may wait still."""

    def flush(self) -> None:
        """Tell of them now."""
        ...


class Owner:
    """Serves what a node owns.

    Args:
        now_us: The node's time.
    """

    def __init__(
        self,
        store: Store,
        book: TableBook,
        lease: Lease,
        lanes: Lanes,
        clock: Clock,
        now_us: Callable[[], int],
    ) -> None:
        self.holdings: dict[int, Holding] = {}
        """By partition."""
        self.store = store
        self.telling: Telling | None = None
        """Has told of changes before they are answered."""
        self.value_bytes_max = VALUE_BYTES_MAX
        self.shares: Mapping[str, int] = {}
        """What namespaces that have a quota may take here, in bytes."""
        self._book = book
        self._lease = lease
        self._lanes = lanes
        self._clock = clock
        self._now_us = now_us
        self._settling: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Owner({self._lease!r}, holdings={len(self.holdings)})"

    def serving(self, partition: int) -> Holding | None:
        """Return what is owned of a partition, if it may be served now."""
        holding = self.holdings.get(partition)
        if holding is None or not holding.is_ready or not self._lease.is_valid():
            return None
        return holding

    def seen(self, key: str, now_us: int) -> Entry | Item | None:
        """Return a key's state as changes see it; None: there is none, or it is another's."""
        holding = self.holdings.get(partition_of(key))
        return None if holding is None else self.state(holding, key, now_us)

    def state(self, holding: Holding, key: str, now_us: int) -> Entry | Item | None:
        """Return a key's state as changes see it: what is on its way counts."""
        staged = holding.staged.get(key)
        if staged is None:
            return self.store.peek(holding.partition, key, now_us)
        item = staged.item
        is_there = not item.is_deleted and (not item.expires_us or item.expires_us > now_us)
        return item if is_there else None

    async def change(self, changes: Iterable[tuple[int, Change]], now_us: int) -> list[Outcome]:
        """Make changes, in order; each is done, or not, for itself.

        Args:
            changes: With the partitions of their keys.
        """
        outcomes: list[Outcome] = []
        work: dict[int, _Batch] = {}
        waits: list[asyncio.Future[bool] | None] = []
        for partition, change in changes:
            holding = self.serving(partition)
            if holding is None or not holding.takes_changes:
                outcomes.append(MOVED)
                waits.append(None)
                continue
            batch = work.get(partition)
            if batch is None:
                batch = work[partition] = _Batch(holding)
            outcome, wait = self._stage(batch, change, now_us)
            outcomes.append(outcome)
            waits.append(wait)
        for batch in work.values():
            if batch.items and not self._settle_at_once(batch):
                self._begin(batch)
        # Others wait for the same: who is cancelled must not cancel what he waits for.
        settled = [
            outcome if wait is None or await asyncio.shield(wait) else UNKNOWN
            for outcome, wait in zip(outcomes, waits, strict=True)
        ]
        if self.telling is not None:
            self.telling.flush()
        return settled

    async def push(self, holding: Holding, portion: Portion, targets: Collection[str]) -> bool:
        """Send a portion to copies until each has it, or is a copy no more.

        Returns:
            Whether the partition is still owned, and served.
        """
        await self._push_to_all(holding, portion, targets)
        return await self._is_still_owned(holding)

    def copies(self, holding: Holding) -> set[str]:
        """Return the nodes that must have every change before it counts."""
        table = self._book.table
        replicas = table.parts[holding.partition].replicas if table is not None else ()
        return holding.learners.union(replicas)

    # --- inside -----------------------------------------------------------------------------------

    def _stage(
        self, batch: _Batch, change: Change, now_us: int
    ) -> tuple[Outcome, asyncio.Future[bool] | None]:
        """Resolve one change; returns with what its outcome stands or falls."""
        holding = batch.holding
        if change.lead and not holding.leads.holds(change.key, change.lead):
            return OUTRUN, None
        there = self.state(holding, change.key, now_us)
        before = holding.staged.get(change.key)
        version = holding.next_version()
        item, outcome = resolve(
            change, there, version=version, now_us=now_us, bytes_max=self.value_bytes_max
        )
        if item is not None and self.shares and not self._fits(item):
            item, outcome = None, Outcome(Status.REFUSED, code=TOO_LARGE)
        is_vain = there is None and change.verb == Verb.DELETE
        if is_vain and outcome.status == Status.NOT_DONE and self.copies(holding):
            # One may still have what was evicted here, and would serve it as an owner.
            item = Item(change.key, version, is_deleted=True)
        if holding.leads and (item is not None or change.verb == Verb.DELETE):
            holding.leads.end(change.key)
        if item is None:  # it says what it saw, which may be on its way still
            return outcome, None if before is None else before.settled
        holding.staged[change.key] = Staged(item, batch.settled)
        batch.items.append(item)
        return outcome, batch.settled

    def _fits(self, item: Item) -> bool:
        share = self.shares.get(namespace_of(item.key))
        return share is None or item.is_deleted or size_of(item) <= share

    def _settle_at_once(self, batch: _Batch) -> bool:
        """Apply what needs no copies; returns whether it did."""
        if batch.holding.in_flight or self.copies(batch.holding):
            return False
        self._apply(batch)
        return True

    def _begin(self, batch: _Batch) -> None:
        """Settle changes, whatever becomes of who made them: some copies may have them by then."""
        # Without a context: a request's deadline is not the change's.
        task = asyncio.get_running_loop().create_task(self._settle(batch), context=Context())
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settle(self, batch: _Batch) -> None:
        """Have every copy know of changes, then show them."""
        holding = batch.holding
        portion = Portion(holding.partition, holding.epoch, tuple(batch.items))
        before, holding.last = holding.last, batch.settled
        holding.begin()
        try:
            told: set[str] = set()
            while missing := self.copies(holding) - told:
                await self._push_to_all(holding, portion, missing)
                told |= missing
                if before is not None:  # in the order of versions: no older one comes last
                    await asyncio.shield(before)
                if not await self._is_still_owned(holding):
                    return
            self._apply(batch)  # at once: whoever is brought in sync from now on reads the store
        finally:
            if not batch.settled.done():
                batch.settled.set_result(False)
            self._unstage(batch)
            holding.end()

    def _apply(self, batch: _Batch) -> None:
        store, partition, now_us = self.store, batch.holding.partition, self._now_us()
        for item in batch.items:
            take_over(store, partition, item, now_us)
        if not batch.settled.done():
            batch.settled.set_result(True)
        self._unstage(batch)

    def _unstage(self, batch: _Batch) -> None:
        staged = batch.holding.staged
        for item in batch.items:
            found = staged.get(item.key)
            if found is not None and found.item is item:
                del staged[item.key]

    async def _push_to_all(
        self, holding: Holding, portion: Portion, targets: Collection[str]
    ) -> None:
        if len(targets) == 1:  # as most have
            for target in targets:
                await self._push_to(holding, portion, target)
        else:
            await asyncio.gather(*(self._push_to(holding, portion, each) for each in targets))

    async def _push_to(self, holding: Holding, portion: Portion, target: str) -> None:
        """Send a portion to one copy until it has it, or is a copy no more."""
        for piece in pieces(portion):
            await self._push_piece(holding, piece, target)

    async def _push_piece(self, holding: Holding, portion: Portion, target: str) -> None:
        began_s = self._clock.monotonic_s()
        while self._is_mine(holding) and target in self.copies(holding):
            node = self._book.nodes.get(target)
            receipt = Receipt.GONE if node is None else await self._lanes.to(node).send(portion)
            if receipt is Receipt.THERE:
                return
            now_s = self._clock.monotonic_s()
            if receipt is Receipt.SILENT and not self._lease.is_valid():
                began_s = now_s  # it may be this node's own link that is silent
                await self._clock.sleep(LEASE_LOOK_S)
            elif receipt is not Receipt.SILENT or now_s - began_s > SILENT_S_MAX:
                await self.drop(holding, target)

    async def drop(self, holding: Holding, target: str) -> None:
        """Have a node be no copy any more; returned = the table says so, or has another owner."""
        holding.learners.discard(target)
        edit = partial(dropped, partition=holding.partition, epoch=holding.epoch, node=target)
        await self._book.edit(edit)

    def _is_mine(self, holding: Holding) -> bool:
        return self.holdings.get(holding.partition) is holding

    async def _is_still_owned(self, holding: Holding) -> bool:
        """Whether it is; while the lease has run out that cannot be told."""
        while self._is_mine(holding) and not self._lease.is_valid():
            await self._clock.sleep(LEASE_LOOK_S)
        return self._is_mine(holding)


class _Batch:
    """Changes of one partition that came together."""

    __slots__ = ("holding", "items", "settled")

    def __init__(self, holding: Holding) -> None:
        self.holding = holding
        self.items: list[Item] = []
        self.settled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
