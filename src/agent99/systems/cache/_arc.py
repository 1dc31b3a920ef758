"""Who must go when room is wanted: what is new or what was used, as experience tells."""

from __future__ import annotations

from array import array
from typing import Final, Generic

from agent99.systems.cache._fifo import NEVER, Fifo, LinkT

_BYTES_PER_GHOST: Final = 512
_GHOSTS_MIN: Final = 1_024
_GHOSTS_MAX: Final = 1 << 22
_PRINT_BITS: Final = 20
_PRINT: Final = (1 << _PRINT_BITS) - 1
_LAZINESS: Final = 8
"""What moved within the last eighth of a turn of the whole queue is young enough."""


class Ghosts:
    """What was evicted lately, and how long ago, without the keys: 8 bytes each.

    A table in which each key has one slot, and the younger one of two keeps it. A slot has twenty
    bits of the key's hash: of a million keys that were not there, one is taken for one that was.
    """

    __slots__ = ("_mask", "_table")

    def __init__(self, bytes_max: int) -> None:
        wanted = min(max(bytes_max // _BYTES_PER_GHOST, _GHOSTS_MIN), _GHOSTS_MAX)
        size = 1 << wanted.bit_length()
        self._mask = size - 1
        self._table = array("Q", bytes(8 * size))

    def __repr__(self) -> str:
        return f"<Ghosts {len(self._table):,} slots>"

    def add(self, key: str, number: int) -> None:
        """Note a key; `number` says which eviction it was, from 1."""
        hashed = hash(key)
        self._table[hashed & self._mask] = number << _PRINT_BITS | hashed >> 40 & _PRINT

    def take(self, key: str) -> int:
        """Return the number of a key and forget it; 0: it is not known."""
        hashed = hash(key)
        slot = hashed & self._mask
        word = self._table[slot]
        if not word or word & _PRINT != hashed >> 40 & _PRINT:
            return 0
        self._table[slot] = 0
        return word >> _PRINT_BITS


class Arc(Generic[LinkT]):
    """A queue that finds out by itself whether it is better to keep what is new or what is used.

    ARC, by Megiddo and Modha, FAST 2003. What was pushed waits in the queue `once`; what was read
    since then goes on to `twice`, to which end each read moves it. Both remember what they evicted.
    If that is wanted again, the queue was too small, and gets more of the room.

    Two things differ. Reads of what moved lately move nothing: so most reads cost a comparison. And
    sizes are bytes, but the memory of the evicted is as long as there are entries.

    Invariant: `bytes` is the sum of the sizes in both queues; a link is in `twice` if and only if
    it has `moved`.
    """

    __slots__ = ("_clock", "_ghosts", "_goal", "_gone", "_once", "_twice", "settled")

    def __init__(self, bytes_max: int) -> None:
        self.settled = 0
        """What moved before this is to be touched when it is read, by the queue's clock."""
        self._once: Fifo[LinkT] = Fifo()
        self._twice: Fifo[LinkT] = Fifo()
        self._ghosts = Ghosts(bytes_max)
        self._gone = [0, 0]  # evictions so far, out of `once` and `twice`
        self._goal = 0.0  # bytes that `once` should have
        self._clock = 0

    def __repr__(self) -> str:
        return f"<Arc {len(self._once):,} once, {len(self._twice):,} twice, {self.bytes:,} bytes>"

    @property
    def bytes(self) -> int:
        """What the entries count."""
        return self._once.bytes + self._twice.bytes

    def __len__(self) -> int:
        return len(self._once) + len(self._twice)

    def push(self, link: LinkT) -> None:
        """Take a link in, as the youngest; one that was evicted too early stands with the used."""
        self._clock += 1
        self.settled = self._clock - len(self) // _LAZINESS
        if self._learn(link):
            link.moved = self._clock
            self._twice.push(link)
        else:
            link.moved = NEVER
            self._once.push(link)

    def remove(self, link: LinkT) -> None:
        """Take out a link that is in this queue."""
        (self._once if link.moved == NEVER else self._twice).remove(link)

    def touch(self, link: LinkT) -> None:
        """Note that a link was read; not needed if it moved since `settled`."""
        self.remove(link)
        link.moved = self._clock
        self._twice.push(link)

    def resize(self, link: LinkT, size: int) -> None:
        """Give a link that is in this queue another size."""
        (self._once if link.moved == NEVER else self._twice).resize(link, size)

    def choose(self, spared: LinkT | None = None) -> LinkT | None:
        """Return who must go next, and remember that it went; it stays in until it is removed.

        Args:
            spared: One that must not go, since it is being written.

        Returns:
            None if there is none, or only the spared one.
        """
        once, twice = self._once, self._twice
        first, second = (once, twice) if once.bytes > self._goal else (twice, once)
        link = first.choose(spared) or second.choose(spared)
        if link is not None:
            which = link.moved != NEVER
            self._gone[which] += 1
            self._ghosts.add(link.key, self._gone[which] << 1 | which)
        return link

    def _learn(self, link: LinkT) -> bool:
        """Tell whether it was evicted lately, and move the goal towards the queue it fell from."""
        ghost = self._ghosts.take(link.key)
        if not ghost:
            return False
        which, number = ghost & 1, ghost >> 1
        once = max(min(self._gone[0], len(self._twice)), 1)
        twice = max(min(self._gone[1], len(self) - once), 1)
        if self._gone[which] - number >= (once, twice)[which]:
            return False
        if which:
            self._goal = max(self._goal - link.size * max(1.0, once / twice), 0.0)
        else:
            self._goal = min(self._goal + link.size * max(1.0, twice / once), float(self.bytes))
        return True
