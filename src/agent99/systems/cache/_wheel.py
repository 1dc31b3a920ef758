"""What ends when: a hierarchical timing wheel."""

from __future__ import annotations

from typing import Final

from agent99.systems.cache._entry import Entry

TICK_US: Final = 100_000
"""An entry is named as due up to so long after its moment, in microseconds; never before it."""
_BITS: Final = 8
_SLOTS: Final = 1 << _BITS
_LEVELS: Final = 4
_SPAN: Final = 1 << _BITS * _LEVELS
"""Ticks that the wheel reaches ahead: 13 years. What is due later hangs at its end, and is hung up
anew when that comes."""


class Wheel:
    """Entries by the moment at which they end.

    A hierarchical timing wheel (Varghese and Lauck 1987, scheme 7): 4 levels of 256 slots. A slot
    of the lowest level is one tick, one of the next as much as the whole level below, and is spread
    over that when its time comes. To hang an entry up and to take it down costs the same, however
    many hang there.

    A slot is a dict, since the garbage collector does not look into one of plain entries; it would
    look into a set.

    Invariant: `len` is the sum of the slots, and an entry's `slot` is the one that it hangs in.
    """

    def __init__(self) -> None:
        self._levels: list[list[dict[Entry, None]]] = [
            [{} for _ in range(_SLOTS)] for _ in range(_LEVELS)
        ]
        self._tick = 0  # the last one that is over
        self._count = 0

    def __repr__(self) -> str:
        return f"<Wheel {self._count:,} entries, tick {self._tick}>"

    def __len__(self) -> int:
        return self._count

    def add(self, entry: Entry, now_us: int) -> None:
        """Hang up an entry by its `expires_us`; it must not hang there already."""
        if not self._count:
            self._tick = max(self._tick, now_us // TICK_US)
        self._count += 1
        self._hang(entry)

    def remove(self, entry: Entry) -> None:
        """Take down an entry; one that does not hang there is left alone."""
        slot = entry.slot
        if slot is None:
            return
        del slot[entry]
        entry.slot = None
        self._count -= 1
        if not slot:
            slot.clear()  # a dict keeps the room of all it ever held

    def is_behind(self, now_us: int) -> bool:
        """Tell whether `advance` has more to do until then."""
        return self._count > 0 and self._tick < now_us // TICK_US

    def advance(self, now_us: int, limit: int) -> list[Entry]:
        """Take down what has ended, in the order of ticks.

        Args:
            limit: Steps of work, at most: an entry taken down or hung up anew, or an empty tick. So
                fewer than are due may come back; `is_behind` tells.
        """
        due: list[Entry] = []
        ahead = now_us // TICK_US
        self._skip(ahead)
        while self._count and self._tick < ahead:
            limit = self._spread(self._tick + 1, limit)
            limit = self._take(self._levels[0][(self._tick + 1) % _SLOTS], due, limit)
            if limit <= 0:
                break
            self._tick += 1
            limit -= 1
            if self._tick % _SLOTS == 0:
                self._skip(ahead)
        return due

    def close(self) -> None:
        """Take down everything."""
        for level in self._levels:
            for slot in level:
                for entry in slot:
                    entry.slot = None
                slot.clear()
        self._count = 0

    def _skip(self, ahead: int) -> None:
        """Go to the end of every round in which nothing hangs: a clock may have leapt by years."""
        for level in range(_LEVELS - 1):
            if any(self._levels[level]):
                return
            length = 1 << _BITS * (level + 1)
            self._tick = min(self._tick | length - 1, ahead)

    def _take(self, slot: dict[Entry, None], due: list[Entry], limit: int) -> int:
        """Take down a slot whose tick has come; returns what is left of the limit."""
        while slot and limit > 0:
            entry, _ = slot.popitem()
            entry.slot = None
            self._count -= 1
            limit -= 1
            due.append(entry)
        if not slot:
            slot.clear()
        return limit

    def _spread(self, tick: int, limit: int) -> int:
        """Spread the slots above that begin with this tick; returns what is left of the limit.

        To go on after a pause is safe: what was spread hangs relative to the tick before, which is
        not over until all of it is.
        """
        for level in range(1, _LEVELS):
            if tick % (1 << _BITS * level):
                break
            slot = self._levels[level][(tick >> _BITS * level) % _SLOTS]
            while slot and limit > 0:
                entry, _ = slot.popitem()
                limit -= 1
                self._hang(entry)
            if slot:
                break
            slot.clear()
        return limit

    def _hang(self, entry: Entry) -> None:
        # A slot of level n is spread when its first tick begins. So up to 256 of its length ahead,
        # the last one included, no slot stands for two times at once.
        delta = -(-entry.expires_us // TICK_US) - self._tick
        if delta < 1:
            delta = 1
        elif delta > _SPAN:
            delta = _SPAN
        tick = self._tick + delta
        level = 0
        while delta > _SLOTS:
            delta = -(-delta >> _BITS)
            level += 1
        slot = self._levels[level][(tick >> _BITS * level) % _SLOTS]
        slot[entry] = None
        entry.slot = slot
