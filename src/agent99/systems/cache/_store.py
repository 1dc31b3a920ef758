"""A node's memory: partitions of keys within a budget, with an end and a version each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from agent99.errors import UsageError
from agent99.systems.cache._entry import Account, Entry, item_of, namespace_of, size_of
from agent99.systems.cache._item import Item
from agent99.systems.cache._place import Place, Role
from agent99.systems.cache._wheel import Wheel

TOMBSTONE_S: Final = 60
"""How long it is known of a deleted key that it was deleted, if there is room."""
_TOMBSTONE_US: Final = TOMBSTONE_S * 1_000_000
_ITEM_SHARE: Final = 4
"""An item may be as large as the budget divided by this."""


class NamespaceStatistics(msgspec.Struct, frozen=True):
    """What a node owns of a namespace."""

    entries: int
    """Without tombstones."""
    bytes: int
    """With tombstones."""
    bytes_max: int | None
    """The quota; None: as much as the node has."""


class StoreStatistics(msgspec.Struct, frozen=True):
    """What a node has in its memory."""

    entries: int
    """Owned ones and copies, without tombstones. What has expired counts until it is removed."""
    owned_entries: int
    bytes: int
    """With tombstones; never more than `bytes_max`."""
    bytes_max: int
    evictions: int
    """What had to make room, so far, tombstones included."""
    expirations: int
    """Entries that reached their end, so far."""
    tombstones: int
    namespaces: dict[str, NamespaceStatistics]
    """Of what is owned."""


class Store:
    """The keys that a node has, by partition: what it owns, and what it keeps as copies.

    It never serves what has expired or was deleted, and stays within its budget. What it owns and
    its copies share that by how many partitions of each are here; who has more than that makes
    room first. Owned entries go by SIEVE, in which a read counts; copies, which nobody reads, go
    oldest first.

    **What was forgotten does not come back.** Of a key that is here, an item is believed only if
    its version is higher. Of one that is not, it must be higher than every version that the
    partition ever evicted, let expire or ended the tombstone of: its floor. Its owner's own writes
    always are. A copy that is being filled has no floor yet, since it gets items in no order and
    older than what it may already have forgotten: it remembers each forgotten version, up to a
    bound, until `filled`. After that, an item can be refused though the key is not here, because
    something younger was forgotten: `apply` returns False and `version` 0. Then the copy lacks it.

    Invariant: the bytes of both roles are the sum of their entries' sizes, and each entry is in
    one queue, and on the wheel if it has an end.
    """

    def __init__(self, bytes_max: int, *, partitions: int = 256) -> None:
        self._bytes_max = bytes_max
        self._item_bytes_max = bytes_max // _ITEM_SHARE
        self._owned = Role(bytes_max, is_owned=True)
        self._copies = Role(bytes_max, is_owned=False)
        self._places: list[Place | None] = [None] * partitions
        # Beside the places, since `get` must not look for one.
        self._entries: list[dict[str, Entry]] = [{} for _ in range(partitions)]
        self._wheel = Wheel()
        self._evictions = 0
        self._expirations = 0
        self.outdated: Callable[[str, int], object] | None = None
        """Told the key of what was marked near and changed, or was evicted, and a version below
        which nothing is right any more; the mark is off then. What expires is told to nobody."""

    def __repr__(self) -> str:
        here = self._owned.places + self._copies.places
        used = self._owned.bytes + self._copies.bytes
        return f"<Store {here} partitions, {used:,} of {self._bytes_max:,} bytes>"

    def __del__(self) -> None:
        # Links and slots hold each other, out of the garbage collector's sight.
        self.close()

    def close(self) -> None:
        """Forget everything, and free it."""
        for partition in range(len(self._places)):
            self.drop(partition)

    def open(self, partition: int, *, is_owned: bool) -> None:
        """Take a partition in, as owner or as a copy; one that is here changes its role.

        A new copy is being filled, until `filled` is called or it becomes the owner.
        """
        role = self._owned if is_owned else self._copies
        place = self._places[partition]
        if place is None:
            place = self._places[partition] = Place(role)
            self._entries[partition] = place.entries
            role.places += 1
        elif place.role is not role:
            self._change(place, role)
        if is_owned:
            place.settle()

    def filled(self, partition: int) -> None:
        """Note that a copy has been given all that its owner has."""
        self._place(partition).settle()

    def drop(self, partition: int) -> int:
        """Forget a partition, its floor too; returns how many entries it had."""
        place = self._places[partition]
        if place is None:
            return 0
        for entry in place.entries.values():
            place.role.unlink(entry)
            self._wheel.remove(entry)
        count = len(place.entries)
        place.entries.clear()
        place.role.places -= 1
        self._places[partition], self._entries[partition] = None, {}
        return count

    def keys(self, partition: int) -> list[str]:
        """Return the keys of a partition, those of tombstones too."""
        return list(self._entries[partition])

    def items(self, partition: int, keys: Sequence[str], now_us: int) -> list[Item]:
        """Return the states of keys, for another node; those that are not here are left out.

        What has expired is told as deleted: its version counts, its value does not.
        """
        entries = self._entries[partition]
        return [item_of(entries[key], now_us) for key in keys if key in entries]

    def digest(self, partition: int) -> int:
        """Return a number that two copies of a partition share if they have the same versions.

        It is made of every key and version, tombstones included, in whatever order. What one of
        them evicted or let expire, and the other did not yet, makes a difference, too.
        """
        total = 0
        for key, entry in self._entries[partition].items():
            text = f"{entry.version} {key}".encode()
            total += int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        return total & 0xFFFF_FFFF_FFFF_FFFF

    def get(self, partition: int, key: str, now_us: int) -> Entry | None:
        """Return a key's entry, and note that it was read; None: not here, deleted or expired."""
        entry = self._entries[partition].get(key)
        if entry is None or entry.is_deleted or 0 < entry.expires_us <= now_us:
            return None
        queue = entry.account.queue
        if entry.moved < queue.settled:
            queue.touch(entry)
        return entry

    def peek(self, partition: int, key: str, now_us: int) -> Entry | None:
        """Return what `get` would, and note nothing."""
        entry = self._entries[partition].get(key)
        if entry is None or entry.is_deleted or 0 < entry.expires_us <= now_us:
            return None
        return entry

    def version(self, partition: int, key: str) -> int:
        """Return the version of a key, deleted or expired or not; 0: nothing is known of it."""
        entry = self._entries[partition].get(key)
        return 0 if entry is None else entry.version

    def apply(self, partition: int, item: Item, now_us: int) -> bool:
        """Take over a key's state if it is newer than what is known; others may have to make room.

        Returns:
            False if nothing changed, because the item is not newer.

        Raises:
            UsageError: The partition is not here, or the item is too large for the budget or for
                its namespace's quota.
        """
        place = self._place(partition)
        role = place.role
        entry = place.entries.get(item.key)
        if item.version <= (place.version(item.key) if entry is None else entry.version):
            return False
        size = size_of(item)
        if size > self._item_bytes_max or role.quotas:
            self._check_size(item, size, role)
        if entry is None:
            entry = _entry(partition, item, size)
            place.put(entry)
            role.link(entry)
        else:
            if size != entry.size:
                role.resize(entry, size)
            _overwrite(entry, item)
            if entry.is_near:
                self._tell(entry, entry.version)
        ends_us = now_us + _TOMBSTONE_US if item.is_deleted else item.expires_us
        if ends_us != entry.expires_us:
            self._end_at(entry, ends_us, now_us)
        account = entry.account
        if account.bytes_max is not None and account.bytes > account.bytes_max:
            self._shrink(account, entry)
        if self._owned.bytes + self._copies.bytes > self._bytes_max:
            self._make_room(entry)
        return True

    def expire(self, now_us: int, limit: int) -> int:
        """Remove what has ended, tombstones too, and return how many.

        Args:
            limit: Steps of work, at most, each of some microseconds at most. So fewer than have
                ended may be removed, even none: `is_behind` tells whether there is more to do.
        """
        ended = self._wheel.advance(now_us, limit)
        for entry in ended:
            self._forget(entry)
        self._expirations += len(ended)
        return len(ended)

    def is_behind(self, now_us: int) -> bool:
        """Tell whether `expire` has more to do until then."""
        return self._wheel.is_behind(now_us)

    def tagged(self, partition: int, namespace: str, tag: str) -> list[str]:
        """Return the keys of a namespace that bear a tag; it looks at the whole partition."""
        prefix = f"{namespace}:"
        return [
            key
            for key, entry in self._entries[partition].items()
            if tag in entry.tags and key.startswith(prefix)
        ]

    def prefixed(self, partition: int, prefix: str) -> list[str]:
        """Return the full keys that begin so, without tombstones; it looks at all of them."""
        return [
            key
            for key, entry in self._entries[partition].items()
            if key.startswith(prefix) and not entry.is_deleted
        ]

    def limit(self, namespace: str, bytes_max: int | None) -> None:
        """Give a namespace a quota of what is owned here, in bytes, or take it back.

        To change one is cheap; to begin or to end one looks at everything that is owned here.
        """
        role = self._owned
        if bytes_max is None:
            role.quotas.pop(namespace, None)
        elif bytes_max < 1:
            raise UsageError(f"the quota of {namespace!r} must be at least 1 byte, not {bytes_max}")
        else:
            role.quotas[namespace] = bytes_max
        account = role.accounts.get(namespace)
        if account is None:
            return
        if account.bytes_max is None or bytes_max is None:
            entries = [entry for entry in self._all(role) if entry.account is account]
            for entry in entries:
                role.unlink(entry)  # the last one closes the account
            for entry in entries:
                role.link(entry)
            account = role.account(namespace)
        account.bytes_max = bytes_max
        self._shrink(account, None)

    def statistics(self) -> StoreStatistics:
        """Return what is here, and what became of the rest."""
        owned, copies = self._owned, self._copies
        accounts = [*owned.accounts.values(), *copies.accounts.values()]
        return StoreStatistics(
            entries=sum(one.count - one.tombstones for one in accounts),
            owned_entries=sum(one.count - one.tombstones for one in owned.accounts.values()),
            bytes=owned.bytes + copies.bytes,
            bytes_max=self._bytes_max,
            evictions=self._evictions,
            expirations=self._expirations,
            tombstones=sum(one.tombstones for one in accounts),
            namespaces={
                name: NamespaceStatistics(one.count - one.tombstones, one.bytes, one.bytes_max)
                for name, one in owned.accounts.items()
            },
        )

    def _place(self, partition: int) -> Place:
        place = self._places[partition]
        if place is None:
            raise UsageError(f"partition {partition} is not here: open it first")
        return place

    def _all(self, role: Role) -> Iterator[Entry]:
        for place in self._places:
            if place is not None and place.role is role:
                yield from place.entries.values()

    def _change(self, place: Place, role: Role) -> None:
        place.role.places -= 1
        role.places += 1
        for entry in place.entries.values():
            place.role.unlink(entry)
            role.link(entry)
        place.role = role

    def _check_size(self, item: Item, size: int, role: Role) -> None:
        if size > self._item_bytes_max:
            raise UsageError(
                f"an item of {size:,} bytes is too large for a node of {self._bytes_max:,}: "
                f"at most {self._item_bytes_max:,}"
            )
        namespace = namespace_of(item.key)
        quota = role.quotas.get(namespace, size)
        if size > quota:
            raise UsageError(
                f"an item of {size:,} bytes is larger than the quota of {namespace!r}: {quota:,}"
            )

    def _shrink(self, account: Account, spared: Entry | None) -> None:
        """Evict until a namespace is within its quota."""
        while account.bytes_max is not None and account.bytes > account.bytes_max:
            entry = account.queue.choose(spared)
            if entry is None:
                return
            self._evict(entry)

    def _make_room(self, spared: Entry) -> None:
        """Evict until everything is within the budget."""
        owned, copies = self._owned, self._copies
        while owned.bytes + copies.bytes > self._bytes_max:
            share = self._bytes_max * owned.places // (owned.places + copies.places)
            first, second = (owned, copies) if owned.bytes > share else (copies, owned)
            entry = first.choose(spared) or second.choose(spared)
            if entry is None:
                return
            self._evict(entry)

    def _evict(self, entry: Entry) -> None:
        self._evictions += 1
        if entry.slot is not None:
            self._wheel.remove(entry)
        self._forget(entry)
        if entry.is_near:  # the next version of the key is higher than all that were
            self._tell(entry, entry.version + 1)

    def _end_at(self, entry: Entry, ends_us: int, now_us: int) -> None:
        if entry.slot is not None:
            self._wheel.remove(entry)
        entry.expires_us = ends_us
        if ends_us:
            self._wheel.add(entry, now_us)

    def _tell(self, entry: Entry, version: int) -> None:
        entry.is_near = False
        if self.outdated is not None:
            self.outdated(entry.key, version)

    def _forget(self, entry: Entry) -> None:
        place = self._place(entry.partition)
        place.role.unlink(entry)
        place.forget(entry)


def _entry(partition: int, item: Item, size: int) -> Entry:
    return Entry(
        partition=partition,
        key=item.key,
        version=item.version,
        value=item.value,
        kind=item.kind,
        expires_us=0,  # until it hangs on the wheel
        fresh_us=item.fresh_us,
        cost_us=item.cost_us,
        tags=item.tags,
        is_deleted=item.is_deleted,
        size=size,
    )


def _overwrite(entry: Entry, item: Item) -> None:
    entry.version = item.version
    entry.value = item.value
    entry.kind = item.kind
    entry.fresh_us = item.fresh_us
    entry.cost_us = item.cost_us
    entry.tags = item.tags
    entry.account.tombstones += item.is_deleted - entry.is_deleted
    entry.is_deleted = item.is_deleted
