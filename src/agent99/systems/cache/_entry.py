"""A key in a node's memory: its state, and where it hangs."""

from __future__ import annotations

from typing import Final, TypeAlias

from agent99.systems.cache._arc import Arc
from agent99.systems.cache._fifo import UNLINKED, Fifo, Link
from agent99.systems.cache._item import Item

ENTRY_BYTES: Final = 544
"""What an entry takes besides its key and value: the entry itself, its numbers, the heads of its
key and value, its places in the partition and on the wheel."""
TAG_BYTES: Final = 120
"""What a tag takes besides its letters."""
_WIDE: Final = 8
"""Bytes of a character where not all are ASCII: as Python keeps it, and as UTF-8 beside that."""
_SMALL: Final = 512
_SLACK_SHIFT: Final = 3
"""What is larger than small comes from the C library, whose heap has gaps when sizes vary: it
counts an eighth more."""


class Entry(Link, gc=False, eq=False, kw_only=True):
    """A key's state, as a node keeps it.

    It changes in place when the key is written: read it at once, and do not keep it. The `key` is
    the full one, `namespace:key`.
    """

    partition: int
    version: int
    value: bytes
    kind: int
    expires_us: int
    """From then on it is never served; 0: never. Of a tombstone: until when it is kept."""
    fresh_us: int
    cost_us: int
    tags: tuple[str, ...]
    is_deleted: bool
    """A tombstone: it stands for the version at which the key was deleted."""
    is_near: bool = False
    """Some client holds it near, and is to be told when it changes: for the caller to mark."""
    account: Account = UNLINKED
    """What it is booked to."""
    slot: dict[Entry, None] | None = None
    """Where it hangs on the timing wheel; None: it never ends."""

    def __repr__(self) -> str:
        what = "deleted" if self.is_deleted else f"{len(self.value)} bytes"
        return f"<Entry {self.key!r} {what}, version {self.version}>"


Queue: TypeAlias = Arc[Entry] | Fifo[Entry]
"""Out of which entries are evicted."""


class Account:
    """What a namespace has in a node, owned or as copies."""

    __slots__ = ("bytes", "bytes_max", "count", "namespace", "queue", "tombstones")

    def __init__(self, namespace: str, queue: Queue) -> None:
        self.namespace = namespace
        self.queue = queue
        """Out of which its entries are evicted: its own if it has a quota, else one for all."""
        self.bytes_max: int | None = None
        """Its quota."""
        self.bytes = 0
        self.count = 0
        """Its entries, tombstones included."""
        self.tombstones = 0

    def __repr__(self) -> str:
        return f"<Account {self.namespace!r} {self.count:,} entries, {self.bytes:,} bytes>"

    def link(self, entry: Entry) -> None:
        """Book an entry, as the youngest in the queue."""
        entry.account = self
        self.queue.push(entry)
        self.bytes += entry.size
        self.count += 1
        self.tombstones += entry.is_deleted

    def unlink(self, entry: Entry) -> None:
        """Take an entry off the books."""
        entry.account = UNLINKED
        self.queue.remove(entry)
        self.bytes -= entry.size
        self.count -= 1
        self.tombstones -= entry.is_deleted


def size_of(item: Item) -> int:
    """Return what an item counts in a node's budget, in bytes."""
    key, length = item.key, len(item.value)
    size = ENTRY_BYTES + length + (length >> _SLACK_SHIFT if length > _SMALL else 0)
    size += len(key) if key.isascii() else len(key) * _WIDE
    if item.tags:
        size += sum(TAG_BYTES + len(tag) * _WIDE for tag in item.tags)
    return size


def namespace_of(key: str) -> str:
    """Return the namespace of a full key."""
    return key[: key.find(":")]


def item_of(entry: Entry, now_us: int) -> Item:
    """Return the state of an entry, for another node; what has expired is told as deleted."""
    if entry.is_deleted or 0 < entry.expires_us <= now_us:
        return Item(entry.key, entry.version, is_deleted=True)
    return Item(
        key=entry.key,
        version=entry.version,
        value=entry.value,
        kind=entry.kind,
        expires_us=entry.expires_us,
        fresh_us=entry.fresh_us,
        cost_us=entry.cost_us,
        tags=entry.tags,
    )
