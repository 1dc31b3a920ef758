"""The partitions of which a node has copies: what their owners tell it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress

from agent99.clock import Clock
from agent99.errors import UsageError
from agent99.systems.cache._book import TableBook
from agent99.systems.cache._item import Item
from agent99.systems.cache._options import RECENT_MAX, RECENT_S
from agent99.systems.cache._store import Store
from agent99.systems.cache._words import Copied, Copy, Portion


class Copies:
    """Takes what owners tell of their partitions.

    Invariant: nothing is taken from an owner when a later one is known.
    """

    def __init__(
        self, store: Store, book: TableBook, clock: Clock, now_us: Callable[[], int]
    ) -> None:
        self.partitions: set[int] = set()
        """Of which there is a copy here, whole or not."""
        self._store = store
        self._book = book
        self._clock = clock
        self._now_us = now_us
        self._epochs: dict[int, int] = {}
        self._recent: dict[int, deque[tuple[float, Item]]] = {}

    def __repr__(self) -> str:
        return f"Copies({len(self.partitions)})"

    def take(self, copy: Copy) -> Copied:
        """Take what an owner tells."""
        fenced = tuple(portion.partition for portion in copy.portions if not self._take(portion))
        return Copied(fenced)

    def recent(self, partition: int) -> tuple[Item, ...]:
        """Return what was told last of a partition: perhaps other copies were not told of it."""
        return tuple(item for _, item in self._recent.get(partition, ()))

    def forget(self, partition: int) -> None:
        """It is no copy any more."""
        self.partitions.discard(partition)
        self._recent.pop(partition, None)

    # --- inside -----------------------------------------------------------------------------------

    def _take(self, portion: Portion) -> bool:
        partition = portion.partition
        table = self._book.table
        known = table.parts[partition].epoch if table is not None else 0
        if portion.epoch < max(known, self._epochs.get(partition, 0)):
            return False
        self._epochs[partition] = portion.epoch
        if portion.is_first:
            self._store.drop(partition)
            self._store.open(partition, is_owned=False)
            self.partitions.add(partition)
            self._recent.pop(partition, None)
        elif partition not in self.partitions:
            return False
        now_us = self._now_us()
        for item in portion.items:
            with suppress(UsageError):  # larger than this node takes: as if it had been evicted
                self._store.apply(partition, item, now_us)
        if table is not None and len(table.parts[partition].replicas) > 1:
            self._remember(partition, portion)
        return True

    def _remember(self, partition: int, portion: Portion) -> None:
        """Keep for a moment what other copies may not have been told."""
        recent = self._recent.setdefault(partition, deque(maxlen=RECENT_MAX))
        now_s = self._clock.monotonic_s()
        while recent and now_s - recent[0][0] > RECENT_S:
            recent.popleft()
        recent.extend((now_s, item) for item in portion.items)
