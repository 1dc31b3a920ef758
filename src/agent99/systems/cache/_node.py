"""A node of the cache: an agent that holds a share of the keys in its memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from agent99 import Agent, Failure, operation
from agent99.agent import host_of
from agent99.systems.cache._cache import DEFAULT_NAMESPACE, Cache
from agent99.systems.cache._compute import AskTurn, EndTurn, Turn, Turned
from agent99.systems.cache._copy_reading import read_copies
from agent99.systems.cache._door import ASKED_MAX
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._options import MEMORY_BYTES, REPLICAS, check_bounds
from agent99.systems.cache._owner import MOVED
from agent99.systems.cache._parts import ReadPart, Slice, Staged
from agent99.systems.cache._quotas import Holds, holds_here
from agent99.systems.cache._reading import read_here
from agent99.systems.cache._refusals import asked_by_others
from agent99.systems.cache._residence import Residence
from agent99.systems.cache._sample import (
    INVALID_OPERATION,
    Cleared,
    Counts,
    NodeDeleted,
    NodeGot,
    NodeStats,
    NodeStored,
)
from agent99.systems.cache._staging import PartOf, Verdict, cut
from agent99.systems.cache._stay import Stay
from agent99.systems.cache._sweep import Sweep, Swept, sweep_here
from agent99.systems.cache._words import (
    Copied,
    Copy,
    Found,
    Read,
    Write,
    Written,
)


class CacheNodeAgent(Agent):
    """Holds a share of the mesh's cache in memory; host it beside your own agents, or alone.

    Args:
        memory_bytes: What its keys and values, and what holds them, may take.
        weight: Its share in relation to other nodes', 1/16 to 16.
        replicas: Copies of each key besides the owner's, 0 to 3; the first node of a mesh decides.

    Raises:
        UsageError: one of these is out of its bounds.
    """

    capabilities = ("cache_node", "storage")
    concurrency_max = 4_096
    waiting_max = 16_384

    memory_bytes: int = MEMORY_BYTES
    weight: float = 1.0
    replicas: int = REPLICAS

    def __init__(
        self,
        *,
        memory_bytes: int | None = None,
        weight: float | None = None,
        replicas: int | None = None,
    ) -> None:
        self.memory_bytes = type(self).memory_bytes if memory_bytes is None else memory_bytes
        self.weight = type(self).weight if weight is None else weight
        self.replicas = type(self).replicas if replicas is None else replicas
        self._residence: Residence | None = None
        check_bounds(self.memory_bytes, self.weight, self.replicas)

    async def start(self) -> None:
        """Be in the cache as soon as it is on the mesh, and until it leaves."""
        self._residence = residence = Residence(self, self._make_stay)
        host_of(self).duty(lambda _host: residence)

    @property
    def stay(self) -> Stay | None:
        """Private to the room: None while it is not in the cache."""
        return self._residence.stay if self._residence is not None else None

    # --- what clients ask -------------------------------------------------------------------------

    @operation(idempotent=True)
    async def read(self, read: Read) -> Found:
        """Return what is there for keys that it owns."""
        stay = self.stay
        if stay is None:
            return Found((None,) * len(read.keys), tuple(range(len(read.keys))))
        found = read_here(stay, read)
        return msgspec.structs.replace(found, table=_newer(stay, read.epoch))

    @operation(idempotent=True)
    async def read_copy(self, read: Read) -> Found:
        """Return what is there for keys that it owns, or has a copy of in sync."""
        stay = self.stay
        if stay is None:
            return Found((None,) * len(read.keys), tuple(range(len(read.keys))))
        return read_copies(stay, read)

    @operation
    async def write(self, write: Write) -> Written:
        """Change keys that it owns; answered = every copy in sync has the changes."""
        stay = self.stay
        if stay is None:
            return Written((MOVED,) * len(write.changes[:ASKED_MAX]))
        now_us = stay.now_us()
        changes = stay.admitted(write, now_us)
        outcomes = await stay.owner.change(
            [(partition_of(change.key), change) for change in changes], now_us
        )
        stay.tally.changed(changes, outcomes)
        return Written(tuple(outcomes), _newer(stay, write.epoch))

    @operation(idempotent=True)
    async def stage(self, part: PartOf) -> Staged:
        """Keep a part of a value that is too large for a message, until one names it."""
        stay = self.stay
        return Staged(Verdict.BUSY) if stay is None else stay.stage(part)

    @operation(idempotent=True)
    async def read_part(self, read: ReadPart) -> Slice:
        """Return a part of a value that is too large for a message, of a key that it owns."""
        stay, partition = self.stay, partition_of(read.key)
        if stay is None or stay.owner.serving(partition) is None or read.index < 0:
            return Slice()
        entry = stay.store.peek(partition, read.key, stay.now_us())
        if entry is None or entry.version != read.version:
            return Slice()
        return Slice(cut(entry.value, read.index))

    @operation(idempotent=True)
    async def turn(self, ask: AskTurn) -> Turned:
        """Say what is there to do for who wants a value computed; it waits while another one is."""
        stay = self.stay
        if stay is None:
            return Turned(Turn.MOVED)
        turned = await stay.desk.ask(ask)
        return msgspec.structs.replace(turned, table=_newer(stay, ask.epoch))

    @operation(idempotent=True)
    async def end_turn(self, end: EndTurn) -> bool:
        """Take back the turn of who has no value to store; returns whether it was one still."""
        return self.stay is not None and self.stay.desk.end(end)

    @operation(idempotent=True)
    async def copy(self, copy: Copy) -> Copied:
        """Take what an owner tells of partitions of which this node has copies."""
        stay = self.stay
        if stay is None:
            return Copied(tuple(portion.partition for portion in copy.portions))
        return await stay.copies.take(copy)

    @operation(idempotent=True)
    async def sweep(self, sweep: Sweep) -> Swept:
        """Do something about all keys of a namespace in partitions that it owns."""
        stay = self.stay
        if stay is None:
            return Swept(())
        swept = await sweep_here(stay, sweep)
        return msgspec.structs.replace(swept, table=_newer(stay, sweep.epoch))

    @operation(idempotent=True)
    async def holds(self, namespace: str) -> Holds:
        """Return what it owns of a namespace."""
        stay = self.stay
        return Holds() if stay is None else holds_here(stay.store, namespace)

    # --- what people ask --------------------------------------------------------------------------

    async def process_request(self, action: str = "", operation: str = "") -> None:
        """Refuse what names none of the operations."""
        name = operation or action
        raise Failure(
            f"{name!r} is none of: get, set, delete, stats, clear", code=INVALID_OPERATION
        )

    @operation(idempotent=True)
    async def get(self, key: str) -> NodeGot:
        """Return what the cache has for a key, whichever node owns it."""
        cache = await self._cache()
        with asked_by_others():
            hit = await cache.fetch(key)
        if hit is None:
            return NodeGot(found=False)
        return NodeGot(found=True, value=hit.value, expires_at=hit.expires_at)

    @operation
    async def set(self, key: str, value: Any, ttl: float | None = None) -> NodeStored:
        """Set a key; answered = the owner and every copy in sync have it."""
        cache = await self._cache()
        with asked_by_others():
            await cache.set(key, value, ttl_s=ttl)
        return NodeStored(stored=True, expires_at=cache.moment(ttl))

    @operation
    async def delete(self, key: str) -> NodeDeleted:
        """Delete a key."""
        cache = await self._cache()
        with asked_by_others():
            return NodeDeleted(await cache.delete(key))

    @operation(idempotent=True)
    async def stats(self) -> NodeStats:
        """Return what this node holds, and what it was asked since it is there."""
        stay = self.stay
        if stay is None:
            return NodeStats(self.instance, Counts(), 0, 0)
        held = stay.store.statistics()
        return NodeStats(
            self.instance,
            Counts(**stay.tally.counts()),
            cache_size=held.owned_entries,
            memory_usage=held.bytes,
            copies=held.entries - held.owned_entries,
            memory_max=held.bytes_max,
            evictions=held.evictions,
            expirations=held.expirations,
            partitions=len(stay.owner.holdings),
        )

    @operation
    async def clear(self, namespace: str = DEFAULT_NAMESPACE) -> Cleared:
        """Delete all keys of a namespace, at all nodes."""
        with asked_by_others():
            cache = await self.cache(namespace)
        return Cleared(cleared=True, entries_removed=await cache.clear())

    # --- inside -----------------------------------------------------------------------------------

    async def _cache(self) -> Cache[Any]:
        return await self.cache()

    def _make_stay(self, removed: Callable[[], None]) -> Stay:
        return Stay(
            self,
            memory_bytes=self.memory_bytes,
            weight=self.weight,
            replicas=self.replicas,
            removed=removed,
        )


def _newer(stay: Stay, epoch: int) -> bytes:
    """Return the table, if it is later than the one by which somebody asked."""
    book = stay.book
    return book.encoded if book.table is not None and book.table.epoch > epoch else b""
