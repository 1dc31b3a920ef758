"""Reads of one namespace that look near first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from agent99.systems.cache._client import CacheClient
from agent99.systems.cache._keys import full_key
from agent99.systems.cache._near import MISSING, Missing, NearStatistics
from agent99.systems.cache._nearby import NearRule, Told
from agent99.systems.cache._values import Codec, Packed

V = TypeVar("V")


class NearReads(Generic[V]):
    """What is held near of a namespace is given; the rest is read from its owner, and held.

    Nobody can change what others are given: what is not shareable is held as bytes, and read anew
    for each.
    """

    __slots__ = ("_client", "_codec", "_find", "_is_any", "_near", "_near_s", "_now_s", "_prefix")

    def __init__(
        self, client: CacheClient, namespace: str, codec: Codec[V], rule: NearRule, *, is_any: bool
    ) -> None:
        self._client = client
        self._codec = codec
        self._prefix = f"{namespace}:"
        self._near = client.nearby.open(namespace, codec.value_type, rule)
        self._near_s = rule.near_s
        self._is_any = is_any
        self._find = self._near.get
        self._now_s = client.clock.monotonic_s

    def __repr__(self) -> str:
        return f"NearReads({self._near!r})"

    def here(self, key: str) -> V | Missing:
        """Return what is held of a key; it asks nobody.

        Raises:
            BadAnswerError: what is stored is not of this cache's type.
        """
        kept: Any = self._find(key, self._now_s())
        if type(kept) is Packed:
            return self._codec.give(kept)
        found: V | Missing = kept
        return found

    async def there(self, key: str, timeout_s: float) -> V | Missing:
        """Ask for a key that is not held, and hold what is there.

        Raises:
            as `Cache.get`.
        """
        ticket, asked_s = self._near.begin(), self._now_s()
        return self._hold(key, await self._ask(key, timeout_s), asked_s, ticket)

    async def get_many(self, keys: Iterable[str], timeout_s: float) -> dict[str, V]:
        """Return the values of those keys that are there, and hold them.

        Raises:
            as `Cache.get_many`.
        """
        ticket, asked_s = self._near.begin(), self._now_s()
        found: dict[str, V] = {}
        waits: dict[str, Any] = {}
        for key in dict.fromkeys(keys):
            value = self.here(key)
            if value is MISSING:
                waits[key] = self._ask(key, timeout_s)
            else:
                found[key] = value
        # One that fails ends the wait for all; the errors of the others are then nobody's.
        for key, told in zip(waits, await asyncio.gather(*waits.values()), strict=True):
            value = self._hold(key, told, asked_s, ticket)
            if value is not MISSING:
                found[key] = value
        return found

    def statistics(self) -> NearStatistics:
        """Return what it has done so far."""
        return self._near.statistics()

    # --- inside -----------------------------------------------------------------------------------

    def _ask(self, key: str, timeout_s: float) -> Any:
        full = full_key(self._prefix, key)
        return self._client.read(full, timeout_s, is_near=True, is_any=self._is_any)

    def _hold(self, key: str, told: Told, asked_s: float, ticket: int) -> V | Missing:
        hit = told.hit
        if hit is None:
            return MISSING
        value = self._codec.decode(hit.value, hit.kind)
        if told.now_us:
            # Since it was asked for, no less time has passed here than at the owner since it said
            # how long the value lives: their clocks need not agree.
            left_s = self._near_s
            if hit.expires_us:
                left_s = min(left_s, (hit.expires_us - told.now_us) / 1e6)
            kept = self._codec.keep(value, hit.value, hit.kind)
            size, until_s = len(hit.value), asked_s + left_s
            self._near.put(key, kept, hit.version, until_s, size=size, ticket=ticket)
        return value
