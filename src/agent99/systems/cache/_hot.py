"""Which few keys take a great part of a node's reads. Pure: time and lots are handed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

KEYS_MAX: Final = 64
"""Keys that are counted for certain: shares are known to 1 part in 65."""
SAMPLE: Final = 16
"""Of so many reads one is counted."""
HALF_LIFE_S: Final = 5.0
"""What is so old counts half."""
SHARE_MIN: Final = 0.1
RATE_MIN: Final = 200.0
"""Reads a second below which nobody needs help."""
LOOK_US: Final = 1_000_000
"""Between two looks at what is hot."""


class HotKey(NamedTuple):
    """A key that is read more than others."""

    key: str
    share: float
    """Of the reads that were sampled, 0 to 1; never too much, and too little by 1/65 at most."""


class Counts:
    """Counts many keys with few counters: none that is frequent is missed.

    This is the summary of Misra and Gries (1982), pruned as in Agarwal et al. (Mergeable
    Summaries, PODS 2012): when there are twice as many counters as wanted, the largest one that
    must go is taken off them all. It holds what Space-Saving (Metwally et al. 2005) holds, and a
    count costs one dictionary operation, not a search for the least.

    Invariant: truth - error <= count <= truth for every key, one without a counter having 0;
    error <= total / (keys_max + 1).

    Args:
        keys_max: Counters that are left after pruning.
    """

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._counts: dict[str, float] = {}
        self.total = 0.0
        """All that was counted."""
        self.error = 0.0
        """What a count may lack."""

    def __repr__(self) -> str:
        return f"Counts(keys={len(self._counts)}, total={self.total:g}, error={self.error:g})"

    def add(self, key: str) -> None:
        """Count a key once."""
        counts = self._counts
        counts[key] = counts.get(key, 0.0) + 1.0
        self.total += 1.0
        if len(counts) > 2 * self._keys_max:
            self._prune()

    def above(self, count_min: float) -> list[tuple[str, float]]:
        """Return the keys with at least so great a count, and it, the greatest first."""
        found = [(key, count) for key, count in self._counts.items() if count >= count_min]
        return sorted(found, key=lambda each: (-each[1], each[0]))

    def fade(self, factor: float) -> None:
        """Multiply all counts: what is old counts less."""
        self._counts = {key: count * factor for key, count in self._counts.items()}
        self.total *= factor
        self.error *= factor

    def _prune(self) -> None:
        cut = sorted(self._counts.values(), reverse=True)[self._keys_max]
        self._counts = {key: count - cut for key, count in self._counts.items() if count > cut}
        self.error += cut


class HotKeys:
    """Finds the hot keys of one node among a sample of its reads.

    Old reads fade with a half-life of five seconds, and so does the time in which they were made:
    rates are right from the first second on.

    Args:
        now_us: When it begins; any clock, in microseconds.
        draw: Gives numbers in [0, 1): reads are sampled at random distances, since batches of
            regular length would otherwise hide keys from it.
        share_min: Of the node's reads, from which on a key is hot.
        rate_min: Reads of it a second that it must have besides.
    """

    def __init__(
        self,
        now_us: int,
        draw: Callable[[], float],
        *,
        share_min: float = SHARE_MIN,
        rate_min: float = RATE_MIN,
    ) -> None:
        self._draw = draw
        self._share_min = share_min
        self._rate_min = rate_min
        self._counts = Counts(KEYS_MAX)
        self._last_us = now_us
        self._seconds = 0.0
        self._left = self._distance()

    def __repr__(self) -> str:
        return f"HotKeys({self._counts!r})"

    def note_all(self, keys: Sequence[str]) -> None:
        """See reads of several keys."""
        at = self._left - 1
        while at < len(keys):
            self._counts.add(keys[at])
            at += self._distance()
        self._left = at - len(keys) + 1

    def hot(self, now_us: int) -> list[HotKey]:
        """Return the keys that are hot now, the hottest first. Call it about once a second."""
        passed_s = max(now_us - self._last_us, 0) / 1_000_000
        self._last_us = max(now_us, self._last_us)
        self._seconds += passed_s
        if not self._seconds:
            return []
        counts = self._counts
        least = max(self._share_min * counts.total, self._rate_min * self._seconds / SAMPLE)
        found = [HotKey(key, count / counts.total) for key, count in counts.above(least) if count]
        fading = 0.5 ** (passed_s / HALF_LIFE_S)
        counts.fade(fading)
        self._seconds *= fading
        return found

    def _distance(self) -> int:
        """Return how far the next read is that counts: 16 on average."""
        return 1 + int(self._draw() * (2 * SAMPLE - 1))


class HotBoard:
    """The hot keys of one node, looked up once a second while it is read.

    Args:
        now_us: When it begins.
        draw: As `HotKeys`.
    """

    def __init__(self, now_us: int, draw: Callable[[], float]) -> None:
        self._keys = HotKeys(now_us, draw)
        self._hot: frozenset[str] = frozenset()
        self._look_us = now_us + LOOK_US

    def __repr__(self) -> str:
        return f"HotBoard({sorted(self._hot)})"

    def seen(self, keys: Sequence[str], now_us: int) -> tuple[str, ...]:
        """See reads of several keys; returns those among them that are hot."""
        self._keys.note_all(keys)
        if now_us >= self._look_us:
            self._look_us = now_us + LOOK_US
            self._hot = frozenset(each.key for each in self._keys.hot(now_us))
        return tuple(self._hot.intersection(keys)) if self._hot else ()
