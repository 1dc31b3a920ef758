"""The reads of a namespace of the cache: of owners, of what is held near, of copies of hot keys."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from datetime import UTC, datetime
from typing import Any, Generic, Self, TypeVar

import msgspec

from agent99.errors import UsageError
from agent99.systems.cache._client import CacheClient
from agent99.systems.cache._keys import full_key, parse_namespace, several
from agent99.systems.cache._many_reads import read_many
from agent99.systems.cache._near import MISSING, NearStatistics
from agent99.systems.cache._near_reads import NearReads
from agent99.systems.cache._nearby import BYTES_MAX, ENTRIES_MAX, NearRule
from agent99.systems.cache._spread import Reads
from agent99.systems.cache._values import Codec
from agent99.systems.cache._words import Hit as Found

V = TypeVar("V")
D = TypeVar("D")

TIMEOUT_S = 5.0


class Hit(msgspec.Struct, Generic[V], frozen=True):
    """A value and what the cache knows of it."""

    value: V
    version: int
    """For compare-and-set; grows with every change of the key."""
    expires_at: datetime | None
    """None: never."""


class Reader(Generic[V]):
    """What `Cache` has of reads; the errors are told there.

    Args:
        timeout_s: How long each call may take.
    """

    def __init__(
        self,
        client: CacheClient,
        namespace: str,
        of: Any = Any,
        *,
        compress: bool = False,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.namespace = parse_namespace(namespace)
        self._client = client
        self._prefix = f"{self.namespace}:"
        self._codec: Codec[V] = Codec(of, compress=compress)
        self._timeout_s = timeout_s
        self._is_any = False
        self._near: NearReads[V] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.namespace!r})"

    async def get(self, key: str, default: D | None = None) -> V | D | None:
        """Return a key's value, or the default where there is none.

        Raises:
            BadAnswerError: what is stored is not of this cache's type.
        """
        near = self._near
        if near is not None:
            value = near.here(key)
            if value is MISSING:
                value = await near.there(key, self._timeout_s)
            return default if value is MISSING else value
        full = full_key(self._prefix, key)
        found = await self._client.read(full, self._timeout_s, is_any=self._is_any)
        return default if found is None else self._codec.decode(found.value, found.kind)

    async def fetch(self, key: str) -> Hit[V] | None:
        """Return a key's value with its version and its end, or None.

        Raises:
            BadAnswerError: as `get`.
        """
        found: Found | None = await self._client.read(full_key(self._prefix, key), self._timeout_s)
        if found is None:
            return None
        expires = moment_of(found.expires_us) if found.expires_us else None
        return Hit(self._codec.decode(found.value, found.kind), found.version, expires)

    async def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Return the values of those keys that are there; one message to each owner.

        Raises:
            UsageError: one text instead of several keys.
            BadAnswerError: as `get`.
        """
        keys = several("keys", keys)
        if self._near is not None:
            return await self._near.get_many(keys, self._timeout_s)
        wanted = list(dict.fromkeys(keys))
        prefix, decode = self._prefix, self._codec.decode
        full = [full_key(prefix, key) for key in wanted]
        hits = await read_many(self._client, full, self._timeout_s, is_any=self._is_any)
        return {
            key: decode(hit.value, hit.kind)
            for key, hit in zip(wanted, hits, strict=True)
            if hit is not None
        }

    def get_nowait(self, key: str, default: D | None = None) -> V | D | None:
        """Return what this process holds near of a key, or the default; it asks nobody.

        Raises:
            BadAnswerError: as `get`.
        """
        value = MISSING if self._near is None else self._near.here(key)
        return default if value is MISSING else value

    def reading(
        self,
        *,
        near_s: float | None = None,
        near_entries_max: int = ENTRIES_MAX,
        near_bytes_max: int = BYTES_MAX,
        reads: Reads = "owner",
    ) -> Self:
        """Return the same namespace for reads that may be stale, within bounds.

        `get` and `get_many` are concerned; `fetch`, and what changes a key, always go to owners.

        Args:
            near_s: Values are held in this process and given again; None: they are not. Whoever
                changes one tells of it, so that a value is old by milliseconds; by `near_s` where
                that was lost. While the link is cut nothing is given.
            near_entries_max: Of the namespace, held in this process.
            near_bytes_max: As the one before.
            reads: `any`: keys that many ask for are read from their copies too, in turn. A copy
                may show a change before it is acknowledged, and lag, if it is cut off, by two
                seconds at most; no read of this process is older than one before it.

        Raises:
            UsageError: bounds that make no sense.
            ClosedError
        """
        if reads not in ("owner", "any"):
            raise UsageError(f"reads is 'owner' or 'any', not {reads!r}")
        is_any, near = reads == "any", None
        if near_s is not None:
            rule = NearRule(near_s, near_entries_max, near_bytes_max)
            near = NearReads(self._client, self.namespace, self._codec, rule, is_any=is_any)
        other = copy(self)
        other._is_any, other._near = is_any, near  # noqa: SLF001 - it is this one's own copy
        return other

    def near_statistics(self) -> NearStatistics | None:
        """Return what is held near of the namespace, and how often that helped; None: nothing is.

        All of this process that read it by the same rule have this together.
        """
        return None if self._near is None else self._near.statistics()


def moment_of(us: int) -> datetime:
    """Return a moment that is given in microseconds since the epoch."""
    return datetime.fromtimestamp(us / 1e6, UTC)
