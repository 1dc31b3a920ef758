"""The near cache: what one client keeps of what it has read, until it is told of a change. Pure.

An answer and the news that its key has changed since may come in either order. So an answer is
stored only if no newer version is known of, and if nothing was forgotten since it was asked for
(`begin`) that could have told so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from enum import Enum
from typing import Final

import msgspec

from agent99.errors import UsageError
from agent99.systems.cache._keys import partition_of

ENTRY_BYTES: Final = 400
"""What an entry takes besides its key's characters and its value."""
NEWS_MAX: Final = 4_096
SHARE_MAX: Final = 8
"""A value over an eighth of the budget is not kept: it would drive out too much."""
LOOKS_MAX: Final = 16
"""Entries looked at to find one that was not used: a bound on what a `put` takes."""


class Missing(Enum):
    """Tells what is not there from a value that is None."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return self.name


MISSING: Final = Missing.MISSING


class NearStatistics(msgspec.Struct, frozen=True):
    """What a near cache has done since it was made."""

    entries: int
    bytes: int
    """As it reckons them, `ENTRY_BYTES` for each entry included."""
    hits: int
    misses: int
    evictions: int
    invalidations: int
    """Changes told, whether the key was here or not."""
    refusals: int
    """Answers that were not stored since they were, or might have been, outdated."""


class _Entry(msgspec.Struct, gc=False, eq=False):
    value: object
    version: int
    until_s: float
    size: int
    partition: int
    is_used: bool = False


class Near:
    """Keeps values by their keys, within bounds, for as long as each is allowed.

    Who must go is found by CLOCK: entries stand in the order in which they came; the oldest goes,
    unless it was used since it was last looked at: then it goes to the end instead. A hit moves
    nothing.

    Invariant: no value whose version is below one that was told of, or whose time is up, is given;
    entries and bytes stay within their bounds.

    Args:
        prefix: What stands before its keys in full ones: of one namespace, keys need not have it.
        entries_max: At least 1.
        bytes_max: Of keys and values and what holds them.
        news_max: Changes that are remembered for answers still under way; after more of them than
            that, an answer is not stored.

    Raises:
        UsageError: a bound below 1.
    """

    def __init__(
        self, prefix: str = "", *, entries_max: int, bytes_max: int, news_max: int = NEWS_MAX
    ) -> None:
        if entries_max < 1 or bytes_max < 1:
            raise UsageError(
                f"a near cache needs room: {entries_max:,} entries, {bytes_max:,} bytes"
            )
        self._prefix = prefix
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._news_max = news_max
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._find = self._entries.get
        self._bytes = 0
        self._news: OrderedDict[str, tuple[int, int]] = OrderedDict()
        """By key: when it was told, counted in news, and the version told of."""
        self._told = 0
        self._trusted = 0  # an answer asked for before so many news may have missed one
        self._hits = self._misses = self._evictions = self._refusals = 0
        self._invalidations = 0

    def __repr__(self) -> str:
        return f"Near(entries={len(self._entries):,}, bytes={self._bytes:,})"

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, now_s: float) -> object:
        """Return the value that is kept of a key, or `MISSING`.

        Args:
            key: Without the prefix.
            now_s: By the clock of every `until_s`.
        """
        try:
            entry = self._find(key)
        except TypeError:  # whoever asks on will be told that this is no key
            return MISSING
        if entry is not None and now_s < entry.until_s:
            entry.is_used = True
            self._hits += 1
            return entry.value
        if entry is not None:
            self._remove(key)
        self._misses += 1
        return MISSING

    def begin(self) -> int:
        """Return a ticket for answers: take it before they are asked for."""
        return self._told

    def put(
        self, key: str, value: object, version: int, until_s: float, *, size: int, ticket: int
    ) -> bool:
        """Keep a value; returns whether it is.

        It is not if it is outdated, if it may be, or if it is too large.

        Args:
            key: Without the prefix.
            value: Is given to everybody as it is: nobody may be able to change it.
            version: As its owner gave it.
            until_s: From then on it is not given any more.
            size: Bytes of the value.
            ticket: What `begin` returned before the value was asked for.
        """
        entry, news = self._entries.get(key), self._news.get(key)
        known = max(entry.version if entry else 0, news[1] if news else 0)
        if version < known or ticket < self._trusted:
            self._refusals += 1
            return False
        self._remove(key)
        whole = size + len(key) + ENTRY_BYTES
        if whole * SHARE_MAX > self._bytes_max:
            return False
        while self._bytes + whole > self._bytes_max or len(self._entries) >= self._entries_max:
            self._evict()
        self._entries[key] = _Entry(
            value, version, until_s, whole, partition_of(self._prefix + key)
        )
        self._bytes += whole
        return True

    def invalidate(self, key: str, version: int) -> None:
        """Hear that a key has, or was deleted at, a version: older ones are not given any more."""
        self._invalidations += 1
        entry = self._entries.get(key)
        if entry is not None and entry.version < version:
            self._remove(key)
        self._told += 1
        earlier = self._news.pop(key, None)
        self._news[key] = self._told, max(version, earlier[1] if earlier else 0)
        if len(self._news) > self._news_max:
            _, (told, _) = self._news.popitem(last=False)
            self._trusted = max(self._trusted, told)

    def outdate(self, key: str) -> None:
        """Hear that a key is not what it was, of whatever version that was: it is not given."""
        entry = self._entries.get(key)
        if entry is not None:
            self.invalidate(key, entry.version + 1)

    def forget(self, partitions: Container[int]) -> None:
        """Drop all keys of some partitions, and all answers under way: news may have been lost."""
        self._distrust()
        gone = [key for key, entry in self._entries.items() if entry.partition in partitions]
        for key in gone:
            self._remove(key)

    def clear(self) -> None:
        """Drop everything, and all answers under way."""
        self._distrust()
        self._entries.clear()
        self._bytes = 0

    def statistics(self) -> NearStatistics:
        """Return what it has done so far."""
        return NearStatistics(
            entries=len(self._entries),
            bytes=self._bytes,
            hits=self._hits,
            misses=self._misses,
            evictions=self._evictions,
            invalidations=self._invalidations,
            refusals=self._refusals,
        )

    # --- inside -----------------------------------------------------------------------------------

    def _distrust(self) -> None:
        self._told += 1
        self._trusted = self._told

    def _remove(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size

    def _evict(self) -> None:
        """Drop the oldest entry that was not used, or the oldest if many were."""
        for _ in range(LOOKS_MAX):
            key, entry = next(iter(self._entries.items()))
            if not entry.is_used:
                break
            entry.is_used = False
            self._entries.move_to_end(key)
        key, entry = self._entries.popitem(last=False)
        self._bytes -= entry.size
        self._evictions += 1
