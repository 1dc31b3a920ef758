"""A namespace of the cache for plain `def` operations, scripts and notebooks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from agent99.systems.cache._handed import Handed
from agent99.systems.cache._lock import LOCK_S, LOCK_WAIT_S, BlockingLock
from agent99.systems.cache._recipe import COMPUTE_S, LOAD_S

if TYPE_CHECKING:
    from agent99.systems.cache._cache import Cache
    from agent99.systems.cache._quotas import NamespaceTotals
    from agent99.systems.cache._reader import Hit

V = TypeVar("V")
D = TypeVar("D")


class BlockingCache(Generic[V]):
    """Each method waits for its result; call it from a thread that is not the event loop's.

    The promises and errors are those of the methods of the same name of `Cache`.
    """

    def __init__(self, cache: Cache[V], wait: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._cache = cache
        self._wait = wait

    def __repr__(self) -> str:
        return f"BlockingCache({self._cache.namespace!r})"

    def get(self, key: str, default: D | None = None) -> V | D | None:
        """Return a key's value, or the default; see `Cache.get`."""
        found: V | D | None = self._wait(self._cache.get(key, default))
        return found

    def fetch(self, key: str) -> Hit[V] | None:
        """Return a key's value with its version; see `Cache.fetch`."""
        found: Hit[V] | None = self._wait(self._cache.fetch(key))
        return found

    def get_many(self, keys: Iterable[str]) -> dict[str, V]:
        """Return the values of those keys that are there; see `Cache.get_many`."""
        found: dict[str, V] = self._wait(self._cache.get_many(keys))
        return found

    def set(
        self, key: str, value: V, *, ttl_s: float | None = None, tags: Sequence[str] = ()
    ) -> int:
        """Set a key; see `Cache.set`."""
        return int(self._wait(self._cache.set(key, value, ttl_s=ttl_s, tags=tags)))

    def add(
        self, key: str, value: V, *, ttl_s: float | None = None, tags: Sequence[str] = ()
    ) -> bool:
        """Set a key that is not there; see `Cache.add`."""
        return bool(self._wait(self._cache.add(key, value, ttl_s=ttl_s, tags=tags)))

    def cas(self, key: str, value: V, *, version: int, ttl_s: float | None = None) -> int | None:
        """Set a key that is still at a version; see `Cache.cas`."""
        now: int | None = self._wait(self._cache.cas(key, value, version=version, ttl_s=ttl_s))
        return now

    def set_many(self, values: Mapping[str, V], *, ttl_s: float | None = None) -> None:
        """Set several keys; see `Cache.set_many`."""
        self._wait(self._cache.set_many(values, ttl_s=ttl_s))

    def delete(self, key: str, *, version: int = 0) -> bool:
        """Delete a key; see `Cache.delete`."""
        return bool(self._wait(self._cache.delete(key, version=version)))

    def delete_many(self, keys: Iterable[str]) -> int:
        """Delete several keys; see `Cache.delete_many`."""
        return int(self._wait(self._cache.delete_many(keys)))

    def touch(self, key: str, ttl_s: float | None) -> bool:
        """Give a key another time to live; see `Cache.touch`."""
        return bool(self._wait(self._cache.touch(key, ttl_s)))

    def incr(self, key: str, amount: int = 1, *, ttl_s: float | None = None) -> int:
        """Add to a whole number; see `Cache.incr`."""
        return int(self._wait(self._cache.incr(key, amount, ttl_s=ttl_s)))

    def append(self, key: str, value: V, *, ttl_s: float | None = None) -> int:
        """Add bytes, or text, behind what is there; see `Cache.append`."""
        return int(self._wait(self._cache.append(key, value, ttl_s=ttl_s)))

    def get_or_compute(
        self,
        key: str,
        load: Callable[[], V | None],
        *,
        ttl_s: float | None = None,
        stale_s: float = 0.0,
        negative_ttl_s: float | None = None,
        early: float = 1.0,
        load_s_max: float = LOAD_S,
        timeout_s: float = COMPUTE_S,
        tags: Sequence[str] = (),
    ) -> V | None:
        """Return a key's value, or compute it for all; see `Cache.get_or_compute`.

        `load` runs in the calling thread; for a refresh in the background, in another one. No
        thread can be stopped: after `load_s_max` what it returns is not waited for.
        """
        handed = Handed(load, self._wait)
        return handed.run(
            self._cache.get_or_compute(
                key,
                handed.load,
                ttl_s=ttl_s,
                stale_s=stale_s,
                negative_ttl_s=negative_ttl_s,
                early=early,
                load_s_max=load_s_max,
                timeout_s=timeout_s,
                tags=tags,
            )
        )

    @contextmanager
    def lock(
        self, name: str, *, lease_s: float = LOCK_S, wait_s: float = LOCK_WAIT_S
    ) -> Generator[BlockingLock]:
        """Give a lock to the block of a `with`, and free it at its end; see `Cache.lock`."""
        lock = self._wait(self._cache.acquire(name, lease_s=lease_s, wait_s=wait_s))
        try:
            yield BlockingLock(lock, self._wait)
        finally:
            self._wait(lock.free())

    def invalidate_tag(self, tag: str) -> int:
        """Delete all keys that were set with a tag; see `Cache.invalidate_tag`."""
        return int(self._wait(self._cache.invalidate_tag(tag)))

    def invalidate_prefix(self, prefix: str) -> int:
        """Delete all keys that begin so; see `Cache.invalidate_prefix`."""
        return int(self._wait(self._cache.invalidate_prefix(prefix)))

    def clear(self) -> int:
        """Delete all keys of the namespace; see `Cache.clear`."""
        return int(self._wait(self._cache.clear()))

    def count(self) -> int:
        """Return how many keys the namespace has; see `Cache.count`."""
        return int(self._wait(self._cache.count()))

    def configure(self, *, quota_bytes: int | None) -> None:
        """Say how much the namespace may take; see `Cache.configure`."""
        self._wait(self._cache.configure(quota_bytes=quota_bytes))

    def statistics(self) -> NamespaceTotals:
        """Return what the namespace has at all nodes; see `Cache.statistics`."""
        found: NamespaceTotals = self._wait(self._cache.statistics())
        return found
