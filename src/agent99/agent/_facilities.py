"""What systems to the right of this room offer by a word on every agent; loaded when first used."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from agent99.agent._caller import Caller

if TYPE_CHECKING:
    from agent99.agent._link import Link
    from agent99.systems.cache import BlockingCache, Cache, Reads


def open_cache(
    link: Link, namespace: str, of: Any, *, compress: bool, near_s: float | None, reads: Reads
) -> Cache[Any]:
    """Return a namespace of the distributed cache; the process has one client for all.

    Raises:
        InvalidNameError, UsageError, ClosedError
    """
    from agent99.systems.cache import Cache, CacheClient  # noqa: PLC0415 - most never need it

    client = link.keep("cache", lambda: CacheClient(link, Caller(link, link.ids.uuid())))
    cache = Cache[Any](client, namespace, of, compress=compress)
    return cache.reading(near_s=near_s, reads=reads)


def blocking_cache(
    cache: Cache[Any], wait: Callable[[Coroutine[Any, Any, Any]], Any]
) -> BlockingCache[Any]:
    """Return a namespace in blocking form.

    Args:
        wait: Waits, in another thread than the event loop's, for what a coroutine returns.
    """
    from agent99.systems.cache import BlockingCache  # noqa: PLC0415 - as above

    return BlockingCache(cache, wait)
