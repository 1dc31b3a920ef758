"""What a node does with a state that it cannot hold."""

from __future__ import annotations

from agent99.errors import UsageError
from agent99.systems.cache._item import Item
from agent99.systems.cache._store import Store


def take_over(store: Store, partition: int, item: Item, now_us: int) -> None:
    """Take over a key's state, as `Store.apply`; one that does not fit counts as evicted at once.

    Nodes have budgets of their own, and quotas change: what fits where it was written need not fit
    where a copy is kept. What was there before must not stay, or it would come back one day.
    """
    try:
        store.apply(partition, item, now_us)
    except UsageError:
        store.apply(partition, Item(item.key, item.version, is_deleted=True), now_us)
