"""One process's way to the cache: holds the table, and asks the owners of keys directly."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from agent99.errors import (
    Agent99Error,
    BufferFullError,
    ClosedError,
    DeadlineExceededError,
    DisconnectedError,
    NoAgentError,
    OverloadedError,
    PausedError,
    RequestCancelledError,
)
from agent99.systems.cache._answers import check_found, check_written
from agent99.systems.cache._book import TABLE, TableBook, bucket_config
from agent99.systems.cache._copy_reads import CopyReads, Ends
from agent99.systems.cache._lanes import Lane, Wait
from agent99.systems.cache._lookup import Lookup
from agent99.systems.cache._nearby import Nearby, Told
from agent99.systems.cache._parts import Parts, Wanted, is_large
from agent99.systems.cache._peers import Asking, Peers
from agent99.systems.cache._table import Node, Table, new_table
from agent99.systems.cache._words import Change, Found, Hit, Outcome, Read, Status, Write, Written

if TYPE_CHECKING:
    from agent99.journal import Change as BucketChange
    from agent99.journal import Entry

ATTEMPT_S = 1.0
"""Reads that are not answered for so long are asked again, of whoever owns the keys by then."""
AGAIN_S, AGAIN_S_MAX = 0.002, 0.05
"""Before a key is asked for again whose owner has no answer; doubled each time."""
_NOT_RUN = (NoAgentError, OverloadedError, PausedError)
MAY_PASS = (
    *(*_NOT_RUN, DeadlineExceededError, RequestCancelledError),
    *(BufferFullError, DisconnectedError),
)
NO_NODES = "no cache node is running here: start one with `agent99 cache serve`"


class CacheClient:
    """Reads and changes keys, wherever they are.

    Reads are repeated until their deadline, whatever happens to the nodes. A change is made again
    only when it is certain that it was not made.
    """

    def __init__(self, link: Any, asking: Asking) -> None:
        self.clock = link.clock
        self.ids = link.ids
        self.keep = link.keep
        """For what is built on this; see `Link.keep`."""
        self.deadlines = link.deadlines
        self._registry = link.registry
        config = bucket_config(link.subjects.mesh, link.durable.streams.replicas)
        self.book = TableBook(link.journal, config, link.clock, pattern=TABLE)
        self.book.listener = self
        self.lookup = Lookup(new_table(0))
        """By the latest table."""
        self.peers = Peers(asking)
        self._parts = Parts(self.peers, self.clock, lambda: link.ids.token().decode())
        self.nearby = Nearby(link.wire, link.subjects)
        ends = Ends(self._send_batch, self._show, self._send, self._put_off, self._gone)
        self.copies = CopyReads(self, ends)
        self._reads: dict[str, Lane] = {}
        self._writes: dict[str, Lane] = {}
        self._parked: set[Wait] = set()
        self._asking: dict[str, set[asyncio.Task[None]]] = {}
        """By node: what it has not answered yet."""
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._start(self.book.follow())

    def __repr__(self) -> str:
        return f"CacheClient({self.lookup!r}, parked={len(self._parked)})"

    # --- verbs ------------------------------------------------------------------------------------

    def read(
        self, key: str, timeout_s: float, *, is_near: bool = False, is_any: bool = False
    ) -> asyncio.Future[Any]:
        """Return the future of a key's `Hit`, or None where there is nothing.

        Args:
            is_near: It will be held near: the future is of what was `Told`.
            is_any: A copy may answer if the key is hot; then it is not to be held near.

        The future raises:
            NoAgentError: there are no nodes.
            DeadlineExceededError: no owner has answered.
            BadAnswerError, HandlerError, TransportError, ClosedError
        """
        future: asyncio.Future[Hit | None] = asyncio.get_running_loop().create_future()
        deadline_s = self.clock.monotonic_s() + timeout_s
        wait = Wait(key, None, len(key) + 8, deadline_s, future, is_near=is_near)
        wait.is_any = is_any
        self._begin(wait)
        return future

    def write(self, change: Change, timeout_s: float) -> asyncio.Future[Any]:
        """Return the future of a change's `Outcome`: done, not done, or refused.

        The future raises:
            NoAgentError: there are no nodes; it was not made.
            DeadlineExceededError: it may have been made, or not; the text says which is known.
            BadAnswerError, HandlerError, TransportError, ClosedError
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        deadline_s = self.clock.monotonic_s() + timeout_s
        size = len(change.key) + len(change.value) * 4 // 3 + 64
        self._begin(Wait(change.key, change, size, deadline_s, future))
        return future

    async def known_table(self, timeout_s: float) -> Table:
        """Return the latest table, once everything that stands in the bucket is known.

        Raises:
            DeadlineExceededError: it is not known by then.
        """
        until_s = self.clock.monotonic_s() + timeout_s
        while not self.book.has_snapshot:
            if self.clock.monotonic_s() >= until_s:
                raise DeadlineExceededError("the cache's table could not be read in time")
            await self.clock.sleep(AGAIN_S)
        return self.lookup.table

    def now_us(self) -> int:
        """Return this process's time, in microseconds since the epoch."""
        return int(self.clock.wall_us())

    def close(self) -> None:
        """End what is under way."""
        self._is_closed = True
        self.nearby.close()
        for wait in tuple(self._parked):
            self._fail(wait, ClosedError("mesh"))
        for task in self._tasks:
            task.cancel()

    # --- what it hears ----------------------------------------------------------------------------

    def on_table(self, table: Table) -> None:
        """Somebody owns something else."""
        self.nearby.on_table(self.lookup.table, table)
        self.lookup = Lookup(table)
        self.peers.forget_others(table.nodes)
        there = {node.id for node in table.nodes}
        self.copies.forget_others(there)
        for lanes in (self._reads, self._writes):
            for gone in lanes.keys() - there:
                del lanes[gone]
        for gone in self._asking.keys() - there:  # they will not answer
            for task in self._asking.pop(gone):
                task.cancel()
        self._unpark()

    def on_entries(self, entries: tuple[Entry, ...], table: Table | None) -> None:  # noqa: ARG002 - of the port
        """All of the table is known now, were it that there is none."""
        self._unpark()

    def on_entry(self, change: BucketChange) -> None:
        """Nothing but the table is followed."""

    # --- inside -----------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin(self, wait: Wait) -> None:
        wait.ticket = self.deadlines.add(wait.deadline_s, partial(self._expire, wait))
        self._send(wait)

    def _send(self, wait: Wait) -> None:
        node = self.lookup.owner_of(wait.key)
        if node is None:
            if self.has_nobody():
                self._fail(wait, NoAgentError(NO_NODES, reason="nobody"))
            else:
                self._park(wait)
            return
        if wait.is_any and self.copies.takes(wait):
            return
        lanes = self._reads if wait.item is None else self._writes
        lane = lanes.get(node.id)
        if lane is None:
            work = self._ask_read if wait.item is None else self._ask_write
            lane = lanes[node.id] = Lane(partial(self._send_batch, work, node))
        lane.add(wait)

    def has_nobody(self) -> bool:
        """Whether there is no node, and none about to be there."""
        if self.lookup.table.nodes or not self.book.has_snapshot:
            return False
        return not self._registry.table.candidates("cache_node")

    def _send_batch(self, work: Any, node: Node, batch: Sequence[Wait]) -> None:
        waits = [wait for wait in batch if wait.is_wanted()]
        if not waits:
            return
        task = self._start(work(node, waits))
        asking = self._asking.setdefault(node.id, set())
        asking.add(task)
        epoch = self.lookup.table.epoch

        def ended(task: asyncio.Task[None]) -> None:
            asking.discard(task)
            if task.cancelled():  # before its first step: nothing was sent
                self._put_off(waits, self._gone(), epoch)

        task.add_done_callback(ended)

    async def _ask_read(self, node: Node, batch: list[Wait]) -> None:
        epoch = self.lookup.table.epoch
        read = Read(epoch, tuple(wait.key for wait in batch), any(w.is_near for w in batch))
        try:
            found: Found = await self.peers.ask(
                node, "read", read, returns=Found, timeout_s=ATTEMPT_S
            )
            check_found(found, len(batch))
        except asyncio.CancelledError:
            self._put_off(batch, self._gone(), epoch)
            return
        except Agent99Error as error:
            self._put_off(batch, error, epoch)
            return
        self.book.learn(found.table)
        self.copies.heard(found)
        moved = frozenset(found.moved)
        for index, wait in enumerate(batch):
            if index >= len(found.hits):
                self._send(wait)
                continue
            hit = found.hits[index]
            if index in moved or self.copies.is_behind(wait, hit):
                self._again(wait, epoch)
            elif hit is not None and hit.size:
                self._start(self._read_large(node, wait, hit))
            else:
                self._show(wait, hit, found.now_us)

    def _show(self, wait: Wait, hit: Hit | None, now_us: int) -> None:
        self._finish(wait, Told(hit, now_us) if wait.is_near else hit)

    async def _read_large(self, node: Node, wait: Wait, hit: Hit) -> None:
        """Read a value in parts; from the start, if it changes meanwhile."""
        epoch = self.lookup.table.epoch
        wanted = Wanted(wait.key, hit.version, hit.size)
        try:
            value = await self._parts.read(node, wanted, wait.is_wanted)
        except Agent99Error as error:
            self._put_off([wait], error, epoch)
            return
        if value is None:
            self._again(wait, epoch)
        else:
            self._show(wait, replace(hit, value=value, size=0), 0)

    async def _ask_write(self, node: Node, batch: list[Wait]) -> None:
        epoch = self.lookup.table.epoch
        write = Write(epoch, tuple(wait.item for wait in batch))
        try:
            if is_large(write):
                write = await self._parts.ahead(node, write, batch[0].is_wanted)
            timeout_s = max(wait.deadline_s for wait in batch) - self.clock.monotonic_s()
            for wait in batch:
                wait.sent = True
            written: Written = await self.peers.ask(
                node, "write", write, returns=Written, timeout_s=max(timeout_s, 0.001)
            )
            check_written(written, len(batch))
        except asyncio.CancelledError:
            self._put_off(batch, self._gone(), epoch)
            return
        except Agent99Error as error:
            self._put_off(batch, error, epoch)
            return
        self.book.learn(written.table)
        self._told(batch, written, epoch)

    def _told(self, batch: list[Wait], written: Written, epoch: int) -> None:
        """Finish what a node has told of; what it has not come to is asked for again."""
        for wait in batch[len(written.outcomes) :]:
            wait.sent = False
            self._again(wait, epoch)
        for wait, outcome in zip(batch, written.outcomes, strict=False):
            if outcome.status == Status.MOVED:
                wait.sent = False
                self._again(wait, epoch)
            elif outcome.status == Status.UNKNOWN:
                self._fail(wait, unknown(wait.key))
            else:
                self.nearby.on_written(wait.item, outcome)
                self._finish(wait, outcome)

    def _gone(self) -> Agent99Error:
        """Return why a node's answer is not waited for any longer."""
        return ClosedError("mesh") if self._is_closed else RequestCancelledError("it is gone")

    def _put_off(self, batch: list[Wait], error: Agent99Error, epoch: int) -> None:
        """Ask again what may be asked again after an error."""
        may_pass = isinstance(error, MAY_PASS)
        for wait in batch:
            if isinstance(error, _NOT_RUN):
                wait.sent = False
            if may_pass and not wait.sent:
                self._again(wait, epoch)
            elif may_pass:
                self._fail(wait, unknown(wait.key))
            else:
                self._fail(wait, error)

    def _again(self, wait: Wait, epoch: int) -> None:
        """Ask once more: at once where a later table is known, or when one comes, or in a while."""
        if wait.future.done():
            return
        wait.tries += 1
        if self.lookup.table.epoch > epoch and wait.tries == 1:
            self._send(wait)
        else:
            self._park(wait)

    def _park(self, wait: Wait) -> None:
        self._parked.add(wait)
        delay_s = min(AGAIN_S * 2 ** min(wait.tries, 10), AGAIN_S_MAX)
        self.clock.call_later(delay_s, partial(self._wake, wait))

    def _wake(self, wait: Wait) -> None:
        if wait in self._parked:
            self._parked.discard(wait)
            if not wait.future.done():
                self._send(wait)

    def _unpark(self) -> None:
        for wait in tuple(self._parked):
            self._wake(wait)

    def _finish(self, wait: Wait, result: Any) -> None:
        if not wait.future.done():
            wait.future.set_result(result)
        if wait.ticket is not None:
            self.deadlines.remove(wait.ticket)

    def _fail(self, wait: Wait, error: Exception) -> None:
        if not wait.future.done():
            wait.future.set_exception(error)
        self._parked.discard(wait)
        if wait.ticket is not None:
            self.deadlines.remove(wait.ticket)

    def _expire(self, wait: Wait) -> None:
        if wait.sent:
            self._fail(wait, unknown(wait.key))
        elif not self._registry.table.candidates("cache_node"):
            # The table names those that died last: no one was left to take them out of it.
            self._fail(wait, NoAgentError(NO_NODES, reason="nobody"))
        else:
            what = "no owner of the key has answered in time"
            self._fail(wait, DeadlineExceededError(f"{what}: {wait.key!r}"))


def unknown(key: str) -> DeadlineExceededError:
    """Return the error that says that a change may have been made, or not."""
    return DeadlineExceededError(
        f"it is not known whether {key!r} was changed: its owner has not answered, or is gone"
    )
