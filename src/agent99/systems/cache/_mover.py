"""Brings the partitions that a node owns to where the table wants them, while they are served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from agent99.clock import Clock, wait_done
from agent99.errors import Agent99Error
from agent99.systems.cache._book import TableBook
from agent99.systems.cache._copying import Lanes, Receipt, pieces
from agent99.systems.cache._edits import dropped, handed_over, in_sync
from agent99.systems.cache._holding import Holding
from agent99.systems.cache._item import Item
from agent99.systems.cache._options import MOVES_MAX, STREAM_BYTES
from agent99.systems.cache._owner import Owner
from agent99.systems.cache._steps import Bring, Drop, HandOver, next_step
from agent99.systems.cache._store import Store
from agent99.systems.cache._table import Part, Table
from agent99.systems.cache._words import Portion

TRIES_MAX = 5
"""A node that does not answer so often is left alone for a while, or until the table changes."""
REST_S = 1.0
"""So long: its link may be back by then."""

IDLE_S = 0.1
"""What is to be handed over waits so long for changes that not all copies have."""

_log = logging.getLogger("agent99.systems.cache")

Edit = Callable[[Table], Table]


class Mover:
    """Takes the next step of each partition, again and again, until nothing is left to do.

    Args:
        me: This node's id.
    """

    def __init__(
        self,
        me: str,
        owner: Owner,
        book: TableBook,
        lanes: Lanes,
        clock: Clock,
        now_us: Callable[[], int],
    ) -> None:
        self.streamed = 0
        """Items sent to nodes that were brought in sync."""
        self._me = me
        self._owner = owner
        self._store: Store = owner.store
        self._book = book
        self._lanes = lanes
        self._clock = clock
        self._now_us = now_us
        self._news = asyncio.Event()
        self._bringing: dict[int, asyncio.Task[None]] = {}
        self._failed: dict[tuple[int, str], int] = {}

    def __repr__(self) -> str:
        return f"Mover({self._me!r}, bringing={len(self._bringing)})"

    def wake(self) -> None:
        """Look again: the table has changed."""
        self._failed.clear()
        self._news.set()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is to be done, as the table stands."""
        return not self._bringing and not any(
            self._step(holding) for holding in self._owner.holdings.values()
        )

    async def run(self) -> None:
        """Move, until cancelled."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self._go_round()
        finally:
            tasks = tuple(self._bringing.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- inside -----------------------------------------------------------------------------------

    def _part(self, holding: Holding) -> Part | None:
        table = self._book.table
        part = table.parts[holding.partition] if table is not None else None
        return part if part is not None and part.epoch == holding.epoch else None

    def _step(self, holding: Holding) -> Bring | HandOver | Drop | None:
        part = self._part(holding)
        if part is None:
            return None
        step = next_step(part, self._me)
        if isinstance(step, HandOver) or not self._is_leaving(self._me):
            return step
        for node in part.replicas:
            if not self._is_leaving(node):  # else two who leave would hand it to and fro
                return HandOver(node)  # at once: the rest is that one's business
        return step

    def _is_leaving(self, node: str) -> bool:
        known = self._book.nodes.get(node)
        return known is not None and known.is_leaving

    async def _go_round(self) -> None:
        handing: list[tuple[Holding, str]] = []
        edits: list[Edit] = []
        for holding in tuple(self._owner.holdings.values()):
            if holding.partition in self._bringing or not holding.is_ready:
                continue
            step = self._step(holding)
            if isinstance(step, HandOver):
                handing.append((holding, step.node))
            elif isinstance(step, Drop):
                edits.append(self._edit(dropped, holding, step.node))
            elif isinstance(step, Bring) and len(self._bringing) < MOVES_MAX:
                self._bring(holding, step.node)
        waits = [self._book.edit(edit) for edit in edits]
        if handing:
            waits.append(self._hand_over(handing))
        await asyncio.gather(*waits)

    def _edit(self, change: Callable[..., Table], holding: Holding, node: str) -> Edit:
        return lambda table: change(table, holding.partition, holding.epoch, node)

    async def _hand_over(self, handing: Sequence[tuple[Holding, str]]) -> Table:
        """Let what is on its way arrive, serve some partitions no more, and name their owners.

        They are read until the last moment. Where a copy keeps a change waiting it is tried again.
        """
        for holding, _ in handing:
            holding.takes_changes = False
        waiting = _all_idle([holding for holding, _ in handing])
        idle = asyncio.get_running_loop().create_task(waiting)
        if not await wait_done(self._clock, idle, IDLE_S):
            idle.cancel()
            self._clock.call_later(IDLE_S, self._news.set)
        able = [(holding, node) for holding, node in handing if not holding.in_flight]
        edits = [self._edit(handed_over, holding, node) for holding, node in able]

        def all_at_once(table: Table) -> Table:
            for edit in edits:
                table = edit(table)
            return table

        for holding, _ in able:
            holding.is_ready = False
        table = await self._book.edit(all_at_once)
        for holding, _ in able:  # where it did not fit, it is still ours
            holding.is_ready = True
        for holding, _ in handing:
            holding.takes_changes = True
        return table

    def _bring(self, holding: Holding, node: str) -> None:
        if self._failed.get((holding.partition, node), 0) >= TRIES_MAX:
            return
        task = asyncio.get_running_loop().create_task(self._bring_in_sync(holding, node))
        self._bringing[holding.partition] = task
        task.add_done_callback(partial(self._brought, holding.partition))

    def _brought(self, partition: int, task: asyncio.Task[None]) -> None:
        self._bringing.pop(partition, None)
        self._news.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("partition %d could not be moved", partition, exc_info=task.exception())

    async def _bring_in_sync(self, holding: Holding, node: str) -> None:
        """Stream a partition to a node, and have the table say that it has it."""
        try:
            is_there = await self._stream(holding, node)
        except Agent99Error as error:
            _log.info("partition %d could not be streamed: %s", holding.partition, error)
            is_there = False
        if is_there:
            await self._book.edit(self._edit(in_sync, holding, node))
        else:
            self._fail(holding.partition, node)
        part = self._part(holding)
        if part is not None and node in part.replicas and not is_there:
            await self._owner.drop(holding, node)
        holding.learners.discard(node)

    def _fail(self, partition: int, node: str) -> None:
        fails = self._failed[partition, node] = self._failed.get((partition, node), 0) + 1
        if fails == TRIES_MAX:
            self._clock.call_later(REST_S, self.wake)

    async def _stream(self, holding: Holding, node: str) -> bool:
        """Send all of a partition to a node; returns whether it has all of it.

        It is opened there first. From then on it is told of every change; what was there before is
        read bit by bit, each key as it is at that moment.
        """
        partition = holding.partition
        if not await self._sent(
            holding, node, Portion(partition, holding.epoch, (), is_first=True)
        ):
            return False
        holding.learners.add(node)
        for items in self._portions(partition):
            for piece in pieces(Portion(partition, holding.epoch, items)):
                if node not in holding.learners or not await self._sent(holding, node, piece):
                    return False
            self.streamed += len(items)
        return node in holding.learners

    def _portions(self, partition: int) -> Iterator[tuple[Item, ...]]:
        """Yield what is in a partition, bit by bit, each key as it is by then."""
        items: list[Item] = []
        size = 0
        for key in self._store.keys(partition):
            for item in self._store.items(partition, (key,), self._now_us()):
                items.append(item)
                size += len(item.key) + len(item.value) + 32
            if size >= STREAM_BYTES:
                yield tuple(items)
                items, size = [], 0
        if items:
            yield tuple(items)

    async def _sent(self, holding: Holding, node: str, portion: Portion) -> bool:
        there = self._book.nodes.get(node)
        for _ in range(TRIES_MAX):
            if there is None or self._part(holding) is None:
                return False
            receipt = await self._lanes.to(there).send(portion)
            if receipt is not Receipt.SILENT:
                return receipt is Receipt.THERE
        return False


async def _all_idle(holdings: Sequence[Holding]) -> None:
    for holding in holdings:
        await holding.wait_idle()
