"""The partitions of which a node has copies: what their owners tell it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from agent99.systems.cache._book import TableBook
from agent99.systems.cache._fit import take_over
from agent99.systems.cache._item import Item
from agent99.systems.cache._options import RECENT_MAX, RECENT_S
from agent99.systems.cache._staging import Staging
from agent99.systems.cache._store import Store
from agent99.systems.cache._words import Copied, Copy, Portion

NEWS_US = 300_000
"""So long it waits to hear of an owner that it does not know yet; then it is to be told again."""


class Copies:
    """Takes what owners tell of their partitions.

    Args:
        staging: Where the values are that were sent ahead.
        is_owned: Whether this node owns a partition: then nobody tells it anything of that.

    Invariant: nothing is taken but from the owner of whom the table says so, as it is known here.
    """

    def __init__(
        self,
        store: Store,
        book: TableBook,
        now_us: Callable[[], int],
        staging: Staging,
        is_owned: Callable[[int], bool],
    ) -> None:
        self.partitions: set[int] = set()
        """Of which there is a copy here, whole or not."""
        self._store = store
        self._book = book
        self._now_us = now_us
        self._staging = staging
        self._is_owned = is_owned
        self._recent: dict[int, dict[str, int]] = {}
        """By partition: the keys that it was told of last, with the moment, the oldest first."""

    def __repr__(self) -> str:
        return f"Copies({len(self.partitions)})"

    async def take(self, copy: Copy) -> Copied:
        """Take what an owner tells; one of whom the table does not tell yet is waited for."""
        await self._wait_for_table(copy)
        fenced: list[int] = []
        lacking: list[int] = []
        for portion in copy.portions:
            whole = self._whole(portion)
            if whole is None or portion.epoch > self._epoch(portion.partition):
                lacking.append(portion.partition)
            elif not self._take(whole):
                fenced.append(portion.partition)
        return Copied(tuple(fenced), tuple(lacking))

    def recent(self, partition: int) -> tuple[Item, ...]:
        """Return what was told last of a partition: perhaps other copies were not told of it.

        Each key is as it is now: that is at least what was told.
        """
        keys = tuple(self._recent.get(partition, ()))
        return tuple(self._store.items(partition, keys, self._now_us()))

    def forget(self, partition: int) -> None:
        """It is no copy any more."""
        self.partitions.discard(partition)
        self._recent.pop(partition, None)

    # --- inside -----------------------------------------------------------------------------------

    def _epoch(self, partition: int) -> int:
        """Return since when its owner owns it, as far as is known here."""
        table = self._book.table
        return table.parts[partition].epoch if table is not None else 0

    async def _wait_for_table(self, copy: Copy) -> None:
        """Wait for news of new owners: they have read them a moment earlier than this node."""
        until_us = self._now_us() + NEWS_US
        while any(portion.epoch > self._epoch(portion.partition) for portion in copy.portions):
            left_s = (until_us - self._now_us()) / 1e6
            epoch = self._book.table.epoch if self._book.table is not None else 0
            if left_s <= 0 or not await self._book.wait_newer(epoch, left_s):
                return

    def _whole(self, portion: Portion) -> Portion | None:
        """Return a portion with the value that was sent ahead; None: that is not here."""
        if not portion.upload:
            return portion
        value = self._staging.claim(portion.upload)
        if value is None or len(portion.items) != 1:
            return None
        item = msgspec.structs.replace(portion.items[0], value=value)
        return msgspec.structs.replace(portion, items=(item,))

    def _take(self, portion: Portion) -> bool:
        partition = portion.partition
        if portion.epoch < self._epoch(partition) or self._is_owned(partition):
            return False
        if portion.is_first:
            self._store.drop(partition)
            self._store.open(partition, is_owned=False)
            self.partitions.add(partition)
            self._recent[partition] = {}
        elif partition not in self.partitions:
            return False
        now_us = self._now_us()
        recent = self._recent.setdefault(partition, {})
        for item in portion.items:
            take_over(self._store, partition, item, now_us)
            recent.pop(item.key, None)
            recent[item.key] = now_us
        while recent:
            oldest = next(iter(recent))
            if len(recent) <= RECENT_MAX and now_us - recent[oldest] <= RECENT_S * 1e6:
                break
            del recent[oldest]
        return True
