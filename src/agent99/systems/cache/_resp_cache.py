"""What the RESP listener needs of a cache, in a namespace of the real one.

A value is its bytes, of whichever kind it was stored; what is written here is stored as bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from agent99.errors import Agent99Error, DeadlineExceededError, Failure
from agent99.systems.cache._cache import SWEEP_S, Cache
from agent99.systems.cache._door import OLD_TOO_LARGE
from agent99.systems.cache._keys import TTL_S_MAX, full_key, partition_of
from agent99.systems.cache._many_reads import read_many
from agent99.systems.cache._overview import Overview, totals
from agent99.systems.cache._reader import TIMEOUT_S
from agent99.systems.cache._resolve import NOT_TEXT
from agent99.systems.cache._resp_glob import compile_glob
from agent99.systems.cache._resp_port import Only
from agent99.systems.cache._sweep import BUCKETS, Sweep, sweep_everywhere
from agent99.systems.cache._table import PARTITIONS
from agent99.systems.cache._values import BYTES, plain_bytes
from agent99.systems.cache._words import Change, Hit, Outcome, Status, Verb

TTL_US_MAX: Final = int(TTL_S_MAX * 1_000_000)
"""What is to last longer lasts so long: ten years."""
ROUNDS_MAX: Final = 100
"""So often a key may be changed by others between a read of it and the change that goes by it."""

_VERBS: Final[dict[Only, Verb]] = {"": Verb.SET, "new": Verb.ADD, "known": Verb.REPLACE}
_CURSOR_END: Final = PARTITIONS * BUCKETS

Remake = Callable[[Hit], Change | None]
"""Returns the change that a key at that version needs; None: none does."""


class CacheStrings:
    """The strings of one namespace: implements `Strings`.

    All methods raise what those of `Cache` raise.

    Args:
        cache: The namespace.
        look: Looks at the whole cache, for `info`.
    """

    def __init__(self, cache: Cache[bytes], look: Callable[[], Awaitable[Overview]]) -> None:
        self._cache = cache
        self._client = cache.client
        self._prefix = f"{cache.namespace}:"
        self._look = look

    def __repr__(self) -> str:
        return f"CacheStrings({self._cache.namespace!r})"

    # --- reading ----------------------------------------------------------------------------------

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key, in their order; None: none."""
        hits = await self._hits(keys)
        return [None if hit is None else plain_bytes(hit.value, hit.kind) for hit in hits]

    async def exists(self, keys: Sequence[str]) -> int:
        """Return how many of the keys there are."""
        return sum(hit is not None for hit in await self._hits(keys))

    async def ttl_us(self, key: str) -> int | None:
        """Return how much longer a key lasts: None where there is none, 0 where it never ends."""
        (hit,) = await self._hits((key,))
        if hit is None:
            return None
        # By the owner's clock it lasts still: with ours a little fast, a moment.
        return max(hit.expires_us - self._client.now_us(), 1) if hit.expires_us else 0

    # --- changing ---------------------------------------------------------------------------------

    async def set(
        self,
        key: str,
        value: bytes,
        *,
        ttl_us: int = 0,
        keep_ttl: bool = False,
        only: Only = "",
        returns_old: bool = False,
    ) -> tuple[bool, bytes | None]:
        """Write a value; return whether it was written, and the one before where that is wanted."""
        verb, full = _VERBS[only], full_key(self._prefix, key)
        ttl_us = min(ttl_us, TTL_US_MAX)
        change = Change(verb, full, value, BYTES, ttl_us, keeps_ttl=keep_ttl, wants_old=returns_old)

        def remake(hit: Hit) -> Change | None:
            if only == "new":
                return None
            return replace(change, verb=Verb.CAS, number=hit.version, wants_old=False)

        outcome = await self._remade(change, remake)
        return outcome.status == Status.DONE, _old(outcome)

    async def set_many(self, items: Mapping[str, bytes]) -> dict[str, Agent99Error]:
        """Write several values, each for itself; return what went wrong, by key."""
        failed: dict[str, Agent99Error] = {}
        waits: dict[str, asyncio.Future[Outcome]] = {}
        for key, value in items.items():
            try:
                change = Change(Verb.SET, full_key(self._prefix, key), value, BYTES)
                waits[key] = self._write(change)
            except Agent99Error as error:
                failed[key] = error
        outcomes = await asyncio.gather(*waits.values(), return_exceptions=True)
        for key, outcome in zip(waits, outcomes, strict=True):
            if isinstance(outcome, Agent99Error):
                failed[key] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            elif outcome.status == Status.REFUSED:
                failed[key] = _refusal(outcome)
        return failed

    async def take(self, key: str) -> bytes | None:
        """Delete a key and return its value."""
        change = Change(Verb.DELETE, full_key(self._prefix, key), wants_old=True)
        return _old(
            await self._remade(
                change, lambda hit: replace(change, number=hit.version, wants_old=False)
            )
        )

    async def delete(self, keys: Sequence[str]) -> int:
        """Delete keys, each for itself; return how many there were."""
        full = [full_key(self._prefix, key) for key in dict.fromkeys(keys)]
        outcomes = await asyncio.gather(*(self._write(Change(Verb.DELETE, key)) for key in full))
        return sum(_checked(outcome).status == Status.DONE for outcome in outcomes)

    async def touch(self, key: str, ttl_us: int) -> bool:
        """Let a key last so long from now, 0 is forever; return whether it is there."""
        full = full_key(self._prefix, key)
        outcome = await self._write(Change(Verb.TOUCH, full, ttl_us=min(ttl_us, TTL_US_MAX)))
        return _checked(outcome).status == Status.DONE

    async def incr(self, key: str, amount: int) -> int:
        """Add to the integer under a key; return the sum."""
        change = Change(Verb.INCR, full_key(self._prefix, key), number=amount)
        return _checked(await self._write(change)).number

    async def append(self, key: str, value: bytes) -> int:
        """Add to the end of a value; return its length. What was no bytes is bytes then."""
        full = full_key(self._prefix, key)

        def remake(hit: Hit) -> Change:
            whole = plain_bytes(hit.value, hit.kind) + value
            return Change(Verb.CAS, full, whole, BYTES, number=hit.version, keeps_ttl=True)

        return (await self._remade(Change(Verb.APPEND, full, value, BYTES), remake)).number

    # --- all keys ---------------------------------------------------------------------------------

    async def scan(self, cursor: int, match: str, count: int) -> tuple[int, list[str]]:
        """Return the next keys that match, and where to go on.

        A cursor is a partition and a bucket of it. Partitions are told whole if one answer holds
        them, so `count` is the least that is looked at, but at the end.
        """
        found: list[str] = []
        width = 1
        while cursor < _CURSOR_END and len(found) < count:
            keys, cursor = await self._keys_at(cursor, width)
            found += keys
            width *= 2  # there were few
        start = len(self._prefix)
        keys = [key[start:] for key in found]
        if match:
            keys = list(filter(compile_glob(match).fullmatch, keys))
        return cursor if cursor < _CURSOR_END else 0, keys

    async def count(self) -> int:
        """Return how many keys there are."""
        return await self._cache.count()

    async def flush(self) -> None:
        """Delete every key of the namespace."""
        await self._cache.clear()

    async def info(self) -> dict[str, str | int]:
        """Return figures of all nodes together, and of all namespaces."""
        found = await self._look()
        summed = totals(found)
        return {
            "used_memory": summed.memory_bytes,
            "maxmemory": summed.memory_max,
            "keyspace_hits": summed.counts.hits,
            "keyspace_misses": summed.counts.misses,
            "evicted_keys": summed.evictions,
            "expired_keys": summed.expirations,
            "namespace": self._cache.namespace,
            "nodes": summed.nodes,
            "nodes_silent": summed.silent,
            "keys": summed.keys,
            "copies": summed.copies,
            "copies_wanted": found.replicas,
            "epoch": found.epoch,
            "partitions_moving": found.moving,
            "partitions_unowned": found.unowned,
            "partitions_lost": found.lost,
        }

    # --- inside -----------------------------------------------------------------------------------

    async def _hits(self, keys: Iterable[str]) -> list[Hit | None]:
        full = [full_key(self._prefix, key) for key in keys]
        return await read_many(self._client, full, TIMEOUT_S)

    def _write(self, change: Change) -> asyncio.Future[Outcome]:
        return self._client.write(change, TIMEOUT_S)

    async def _remade(self, change: Change, remake: Remake) -> Outcome:
        """Make a change; where its owner cannot, read the key and make a change that it can.

        That is so where the old value is too large for the answer, or of a kind that nothing is
        appended to. The second change names the version that was read: of two that do so one wins.
        """
        for _ in range(ROUNDS_MAX):
            outcome = await self._write(change)
            if outcome.code not in (OLD_TOO_LARGE, NOT_TEXT):
                return _checked(outcome)
            hit: Hit | None = await self._client.read(change.key, TIMEOUT_S)
            if hit is None:  # gone since: nothing is in the way any more
                continue
            second = remake(hit)
            if second is None:
                return Outcome(Status.NOT_DONE, value=hit.value, kind=hit.kind)
            outcome = _checked(await self._write(second))
            if outcome.status == Status.DONE:
                size = len(second.value)
                return replace(outcome, value=hit.value, kind=hit.kind, number=size)
        raise DeadlineExceededError(f"others change {change.key!r} all the time")

    async def _keys_at(self, cursor: int, width: int) -> tuple[list[str], int]:
        """Return the full keys of the next partitions, or of a bucket; and where to go on."""
        first, bucket = divmod(cursor, BUCKETS)
        if not bucket:
            partitions = range(first, min(first + width, PARTITIONS))
            keys, cut = await self._swept(partitions, -1)
            if not cut:
                return keys, partitions.stop * BUCKETS
            end = min(cut)
            if end > first:  # a cursor is one place: what is after the gap is told again
                return [key for key in keys if partition_of(key) < end], end * BUCKETS
        keys, _ = await self._swept((first,), bucket)
        return keys, cursor + 1

    async def _swept(
        self, partitions: Iterable[int], bucket: int
    ) -> tuple[list[str], tuple[int, ...]]:
        sweep = Sweep("keys", self._cache.namespace, bucket=bucket, partitions=tuple(partitions))
        swept = await sweep_everywhere(self._client, sweep, timeout_s=SWEEP_S)
        return list(swept.keys), swept.cut


def _old(outcome: Outcome) -> bytes | None:
    return None if outcome.value is None else plain_bytes(outcome.value, outcome.kind)


def _checked(outcome: Outcome) -> Outcome:
    if outcome.status == Status.REFUSED:
        raise _refusal(outcome)
    return outcome


def _refusal(outcome: Outcome) -> Failure:
    return Failure("its owner refused it", code=outcome.code)
