"""How far the time of a source has come: what is before it is not waited for any more. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from agent99.systems.analytics._source import Source

FOREVER_US: Final = 2**63 - 1
"""The watermark after the end of all shards: later than every time that a column can hold."""


@dataclass(slots=True)
class _Shard:
    max_us: int | None = None
    seen_us: int = 0
    is_final: bool = False


class Watermark:
    """The watermark of a source: the earliest of its shards', less the source's delay.

    A shard is not waited for once it is idle (nothing came for `idle_s` of the wall clock) or has
    ended. When all are idle, the watermark goes on with the wall clock from the latest time of all;
    when all have ended it is `FOREVER_US`. A shard of which nothing is known is waited for as if it
    had been seen when the first one was.

    Invariant: it never goes back.

    Args:
        source: Whose.
        floor_us: Where it was before, by whoever kept it until now; microseconds. None: nowhere.
    """

    def __init__(self, source: Source[Any], floor_us: int | None = None) -> None:
        self._source: Final = source
        self._shards: Final = [_Shard() for _ in range(source.shards)]
        self._first_seen_us: int | None = None
        self._at_us = floor_us

    def __repr__(self) -> str:
        return f"Watermark({self._source.name!r}, {self._at_us})"

    def note(self, shard: int, max_us: int | None, seen_us: int, *, is_final: bool = False) -> None:
        """Note what is known of a shard; in any order, and as often as one likes.

        Args:
            shard: 0 to `source.shards` - 1.
            max_us: The latest time of its records so far; None: it has none.
            seen_us: When its last record came, by the wall clock, microseconds.
            is_final: It has ended; it stays so.
        """
        known = self._shards[shard]
        if max_us is not None:
            known.max_us = max_us if known.max_us is None else max(known.max_us, max_us)
        known.seen_us = max(known.seen_us, seen_us)
        known.is_final = known.is_final or is_final
        if self._first_seen_us is None or seen_us < self._first_seen_us:
            self._first_seen_us = seen_us

    def at(self, now_us: int) -> int | None:
        """Return the watermark at a moment of the wall clock; None: nothing is known yet."""
        found = self._found(now_us)
        if found is not None and (self._at_us is None or found > self._at_us):
            self._at_us = found
        return self._at_us

    def _found(self, now_us: int) -> int | None:
        if self._first_seen_us is None:
            return None
        running = [shard for shard in self._shards if not shard.is_final]
        if not running:
            return FOREVER_US
        first_us, idle_us = self._first_seen_us, self._source.idle_us
        active = [one for one in running if now_us - max(one.seen_us, first_us) < idle_us]
        times = [one.max_us for one in active or self._shards if one.max_us is not None]
        if not times or len(times) < len(active):
            return None  # one that is waited for has not said a time yet
        if active:
            return min(times) - self._source.delay_us
        since_us = now_us - max(one.seen_us for one in self._shards)
        return max(times) - self._source.delay_us + max(since_us, 0)
