"""A namespace of the cache, as its users see it."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

from agent99.errors import Failure
from agent99.systems.cache._client import CacheClient
from agent99.systems.cache._flights import Flights
from agent99.systems.cache._keys import check_number, check_tags, check_ttl, full_key, several
from agent99.systems.cache._lock import LOCK_S, LOCK_WAIT_S, Lock, Locked, acquired
from agent99.systems.cache._quotas import NamespaceTotals, read_totals, write_rules
from agent99.systems.cache._reader import Reader, moment_of
from agent99.systems.cache._recipe import COMPUTE_S, LOAD_S, Keep, recipe_of
from agent99.systems.cache._refusals import checked
from agent99.systems.cache._sweep import BUCKETS, Action, Sweep, Swept, sweep_everywhere
from agent99.systems.cache._table import PARTITIONS, Table
from agent99.systems.cache._words import Change, Outcome, Status, Verb

V = TypeVar("V")

SWEEP_S = 30.0
"""How long a call that concerns many keys may take."""
SCAN_PARTITIONS = 8
"""Of which the keys are asked for at once."""
DEFAULT_NAMESPACE = "default"


class Cache(Reader[V]):
    """One namespace. Made by `Mesh.cache` or `Agent.cache`.

    Delivery: what changes a key returns when its owner and every copy in sync have the change;
    where the outcome is unknown it raises `DeadlineExceededError`, and never makes it again.

    All methods raise, besides what each names:
        InvalidNameError: the key is no text of 1 to 1,024 bytes.
        NoAgentError: no cache node is running.
        DeadlineExceededError: no owner has answered by the deadline; of a change: whether it was
            made is unknown.
        BadAnswerError, HandlerError: a node does not make sense, or broke; a change may be made.
        ClosedError: this process left; a change that was under way may be made.
        TransportError

    Args:
        timeout_s: How long each call may take.
    """

    # --- changing ---------------------------------------------------------------------------------

    async def set(
        self, key: str, value: V, *, ttl_s: float | None = None, tags: Sequence[str] = ()
    ) -> int:
        """Set a key; returns its version.

        Args:
            ttl_s: Seconds until it ends; None: never.
            tags: Words by which it can be deleted together with others.

        Raises:
            UsageError, PayloadTooLargeError: nothing was sent.
            Failure: VALUE_TOO_LARGE, for the node that owns it.
        """
        outcome = await self._change(Verb.SET, key, value, ttl_s=ttl_s, tags=tags)
        return outcome.version

    async def add(
        self, key: str, value: V, *, ttl_s: float | None = None, tags: Sequence[str] = ()
    ) -> bool:
        """Set a key that is not there; returns whether it was set.

        Raises:
            as `set`.
        """
        outcome = await self._change(Verb.ADD, key, value, ttl_s=ttl_s, tags=tags)
        return outcome.status == Status.DONE

    async def cas(
        self, key: str, value: V, *, version: int, ttl_s: float | None = None
    ) -> int | None:
        """Set a key that is still at a version; returns the new one, or None: it is not.

        Raises:
            as `set`.
        """
        number = check_number("a version", version)
        outcome = await self._change(Verb.CAS, key, value, ttl_s=ttl_s, number=number)
        return outcome.version if outcome.status == Status.DONE else None

    async def delete(self, key: str, *, version: int = 0) -> bool:
        """Delete a key, if it is there (and at that version); returns whether it was.

        Raises:
            UsageError: a version that is none.
        """
        number = check_number("a version", version)
        change = Change(Verb.DELETE, full_key(self._prefix, key), number=number)
        return (await self._make(change)).status == Status.DONE

    async def touch(self, key: str, ttl_s: float | None) -> bool:
        """Give a key another time to live, from now on; returns whether it is there."""
        change = Change(Verb.TOUCH, full_key(self._prefix, key), ttl_us=check_ttl(ttl_s))
        return (await self._make(change)).status == Status.DONE

    async def incr(self, key: str, amount: int = 1, *, ttl_s: float | None = None) -> int:
        """Add to a whole number, of which an absent key has 0; returns the sum.

        Args:
            ttl_s: Of a key that is made by this; one that is there keeps its own.

        Raises:
            UsageError: the amount is no whole number of 64 bits.
            Failure: NOT_A_NUMBER, or OVERFLOW of 64 bits.
        """
        key, number = full_key(self._prefix, key), check_number("an amount", amount)
        change = Change(Verb.INCR, key, ttl_us=check_ttl(ttl_s), number=number)
        return (await self._make(change)).number

    async def append(self, key: str, value: V, *, ttl_s: float | None = None) -> int:
        """Add bytes, or text, behind what is there; returns the length in bytes.

        Raises:
            Failure: NOT_APPENDABLE, what is there is of another kind; VALUE_TOO_LARGE.
        """
        data, kind = self._codec.encode(value)
        if kind > 1:
            raise Failure("only bytes and text can be appended to", code="NOT_APPENDABLE")
        key = full_key(self._prefix, key)
        change = Change(Verb.APPEND, key, data, kind, ttl_us=check_ttl(ttl_s))
        return (await self._make(change)).number

    async def set_many(self, values: Mapping[str, V], *, ttl_s: float | None = None) -> None:
        """Set several keys, each for itself; one message to each owner.

        Raises:
            as `set`: `UsageError` and the like before anything was sent; of all others some may
                have been set, and others not.
        """
        ttl_us, changes = check_ttl(ttl_s), list[Change]()
        for key, value in values.items():
            data, kind = self._codec.encode(value)
            changes.append(Change(Verb.SET, full_key(self._prefix, key), data, kind, ttl_us))
        for outcome in await self._make_all(changes):
            checked(outcome)

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Delete several keys, each for itself; returns how many were there.

        Raises:
            UsageError: one text instead of several keys.
        """
        outcomes = await self._make_all(
            [Change(Verb.DELETE, full_key(self._prefix, key)) for key in several("keys", keys)]
        )
        return sum(outcome.status == Status.DONE for outcome in outcomes)

    # --- one at a time ----------------------------------------------------------------------------

    async def get_or_compute(
        self,
        key: str,
        load: Callable[[], Awaitable[V | None]],
        *,
        ttl_s: float | None = None,
        stale_s: float = 0.0,
        negative_ttl_s: float | None = None,
        early: float = 1.0,
        load_s_max: float = LOAD_S,
        timeout_s: float = COMPUTE_S,
        tags: Sequence[str] = (),
    ) -> V | None:
        """Return a key's value; where there is none, one caller of the mesh computes it for all.

        Delivery: one `load` of a key at a time in the whole mesh; a second one may run beside it
        only if the key's owner dies or changes meanwhile, or the first one's process hangs. Where
        the key is set or deleted while it runs, what it returns is not stored, and not returned:
        it is loaded again. Callers wait for the one that loads; if it fails, its error goes to
        those that wait in its process, and another process tries. It runs on in a task of its own
        where the caller gives up, with the caller's context, but not its deadline.

        Args:
            load: Computes the value; None: there is none.
            ttl_s: Seconds for which a value is fresh; None: for ever.
            stale_s: Seconds more for which it is returned at once, while one caller of the mesh
                computes it anew in the background.
            negative_ttl_s: Seconds for which it is known that `load` found none; None: not at all.
                Until then it is not there for all other methods.
            early: How early one caller computes it anew in the background, by lot and its cost: 1
                is best as a rule, 0 never; see `is_due_early`.
            load_s_max: Seconds that `load` may take; then it is cancelled, and another one's turn.
            timeout_s: How long this call may take.
            tags: As of `set`.

        Raises:
            DeadlineExceededError: it was not computed in time.
            UsageError, PayloadTooLargeError: an argument, or the value, cannot be.
            Failure: VALUE_TOO_LARGE, for the node that owns it.
            BadAnswerError: as `get`.
            Exception: whatever `load` raised.
        """
        keep = Keep(ttl_s, stale_s, negative_ttl_s, early, load_s_max, tags)
        recipe = recipe_of(load, self._codec.encode, keep)
        flights = self._client.keep("cache_flights", lambda: Flights(self._client))
        hit = await flights.get(full_key(self._prefix, key), recipe, timeout_s)
        return None if hit is None else self._codec.decode(hit.value, hit.kind)

    @asynccontextmanager
    async def lock(
        self, name: str, *, lease_s: float = LOCK_S, wait_s: float = LOCK_WAIT_S
    ) -> AsyncGenerator[Lock]:
        """Give a lock of this namespace to the block of an `async with`, and free it at its end.

        A cache forgets: a lock is lost with all nodes that held it, or where memory is short. So
        hand its `token` to what it protects, which refuses a lower one than it has seen.

        Args:
            name: 1,023 bytes at most together with the name of the namespace.
            lease_s: Seconds until it ends by itself, unless it is renewed.
            wait_s: How long to wait for it while somebody else has it; 0: not at all.

        Raises:
            LockTakenError: not got in time.
            UsageError: a time out of its bounds.
        """
        lock = await self.acquire(name, lease_s=lease_s, wait_s=wait_s)
        try:
            yield lock
        finally:
            await lock.free()

    @asynccontextmanager
    async def get_and_lock(
        self, key: str, *, lease_s: float = LOCK_S, wait_s: float = LOCK_WAIT_S
    ) -> AsyncGenerator[Locked[V]]:
        """Give a value with the lock of its name; see `lock` and `fetch`."""
        async with self.lock(key, lease_s=lease_s, wait_s=wait_s) as lock:
            hit = await self.fetch(key)
            value, version = (None, 0) if hit is None else (hit.value, hit.version)
            yield Locked(value, version, lock)

    # --- many at once -----------------------------------------------------------------------------

    async def invalidate_tag(self, tag: str) -> int:
        """Delete all keys that were set with a tag, at all nodes; returns how many.

        Delivery: returned = what had the tag when this was called is deleted, everywhere. Where it
        raises, some may be.
        """
        (checked,) = check_tags((tag,))
        return (await self._sweep("delete_tagged", checked)).count

    async def invalidate_prefix(self, prefix: str) -> int:
        """Delete all keys that begin so, at all nodes; returns how many.

        Delivery: as `invalidate_tag`.
        """
        return (await self._sweep("delete", full_key("", prefix))).count

    async def clear(self) -> int:
        """Delete all keys of the namespace, at all nodes; returns how many.

        Delivery: as `invalidate_tag`.
        """
        return (await self._sweep("delete", "")).count

    async def count(self) -> int:
        """Return how many keys the namespace has, at all nodes."""
        return (await self._sweep("count", "")).count

    async def configure(self, *, quota_bytes: int | None) -> None:
        """Say how much the namespace may take; it holds for everybody, until it is said again.

        Delivery: returned = it is stored; each node keeps to it within a second. What a node owns
        of the namespace beyond its share is evicted, and a value larger than that is refused.

        Args:
            quota_bytes: At all nodes together, copies not counted. A node's share goes by how many
                keys it owns. None: as much as there is, beside the other namespaces.

        Raises:
            UsageError: of a quota of less than a byte.
            JournalError, RemoteProtocolError
        """
        await write_rules(self._client, self.namespace, quota_bytes)

    async def statistics(self) -> NamespaceTotals:
        """Return how many keys the namespace has at all nodes, what they take, and its quota.

        Nodes that do not answer count for nothing.

        Raises:
            JournalError, RemoteProtocolError
        """
        return await read_totals(self._client, self.namespace)

    async def scan(self, prefix: str = "") -> AsyncIterator[str]:
        """Yield the keys of the namespace that begin so, in no order.

        A key that is there all the while is yielded; one that comes or goes meanwhile may be, or
        not.
        """
        start = len(self._prefix)
        for first in range(0, PARTITIONS, SCAN_PARTITIONS):
            parts = [(tuple(range(first, first + SCAN_PARTITIONS)), -1)]
            while parts:  # what does not fit into an answer is asked for in smaller parts
                partitions, bucket = parts.pop()
                found = await self._sweep("keys", prefix, partitions=partitions, bucket=bucket)
                for key in found.keys:
                    yield key[start:]
                buckets = range(BUCKETS) if len(partitions) == 1 else (-1,)
                parts += [((each,), bucket) for each in found.cut for bucket in buckets]

    # --- inside -----------------------------------------------------------------------------------

    def moment(self, ttl_s: float | None) -> datetime | None:
        """Return when what is set now ends, about."""
        ttl_us = check_ttl(ttl_s)
        return moment_of(self._client.now_us() + ttl_us) if ttl_us else None

    @property
    def client(self) -> CacheClient:
        """Private to the room: who asks for it."""
        return self._client

    @property
    def table(self) -> Table:
        """Who owns what, as this process knows it."""
        return self._client.lookup.table

    async def acquire(self, name: str, *, lease_s: float, wait_s: float) -> Lock:
        """Private to the room: get a lock, which is to be freed; see `lock`."""
        return await acquired(self._client, self.namespace, name, lease_s, wait_s)

    async def known_table(self) -> Table:
        """Return who owns what, once this process knows it; without nodes a table without nodes.

        Raises:
            DeadlineExceededError: what stands in the mesh's bucket could not be read in time.
        """
        return await self._client.known_table(self._timeout_s)

    def owner(self, key: str) -> str:
        """Return the instance that owns a key, as this process knows it; empty: nobody."""
        node = self._client.lookup.owner_of(full_key(self._prefix, key))
        return "" if node is None else node.instance

    async def _change(
        self,
        verb: Verb,
        key: str,
        value: V,
        *,
        ttl_s: float | None,
        tags: Sequence[str] = (),
        number: int = 0,
    ) -> Outcome:
        data, kind = self._codec.encode(value)
        checked_tags = check_tags(tags) if tags else ()
        key = full_key(self._prefix, key)
        change = Change(verb, key, data, kind, check_ttl(ttl_s), number=number, tags=checked_tags)
        return await self._make(change)

    async def _sweep(self, action: Action, text: str, **where: Any) -> Swept:
        timeout_s = max(self._timeout_s, SWEEP_S)
        sweep = Sweep(action, self.namespace, text, **where)
        try:
            return await sweep_everywhere(self._client, sweep, timeout_s=timeout_s)
        finally:
            if action in ("delete", "delete_tagged"):
                self._client.nearby.on_swept(self.namespace)

    async def _make_all(self, changes: Sequence[Change]) -> list[Outcome]:
        """Make changes that are all sound: of those that are not, none is sent."""
        write, timeout_s = self._client.write, self._timeout_s
        outcomes: list[Outcome] = await asyncio.gather(*[write(one, timeout_s) for one in changes])
        return outcomes

    async def _make(self, change: Change) -> Outcome:
        return checked(await self._client.write(change, self._timeout_s))
