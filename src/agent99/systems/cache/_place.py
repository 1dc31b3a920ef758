"""A partition in a node's memory, and what all partitions of one role have together."""

from __future__ import annotations

from typing import Final

from agent99.systems.cache._arc import Arc
from agent99.systems.cache._entry import Account, Entry, Queue, namespace_of
from agent99.systems.cache._fifo import Fifo

GHOSTS_MAX: Final = 512
"""Forgotten keys whose versions are known one by one while a copy is filled."""


class Role:
    """What a node owns, or what it has copies of: a queue for all, and one for each quota."""

    __slots__ = ("accounts", "bytes", "is_owned", "places", "queue", "quotas")

    def __init__(self, bytes_max: int, *, is_owned: bool) -> None:
        self.is_owned = is_owned
        self.bytes = 0
        self.places = 0
        """Partitions here."""
        # Nobody reads copies: all that can be known of one is its age.
        self.queue: Queue = Arc(bytes_max) if is_owned else Fifo()
        self.accounts: dict[str, Account] = {}
        self.quotas: dict[str, int] = {}
        """In bytes, by namespace; of what is owned only, and copies follow their owner."""

    def __repr__(self) -> str:
        return f"<Role {'owned' if self.is_owned else 'copies'} {self.bytes:,} bytes>"

    def account(self, namespace: str) -> Account:
        """Return the account of a namespace, opened if there is none."""
        account = self.accounts.get(namespace)
        if account is None:
            account = self.accounts[namespace] = Account(namespace, self.queue)
            quota = self.quotas.get(namespace)
            if quota is not None:
                account.queue, account.bytes_max = Arc(quota), quota
        return account

    def link(self, entry: Entry) -> None:
        """Book an entry, as the youngest."""
        self.account(namespace_of(entry.key)).link(entry)
        self.bytes += entry.size

    def unlink(self, entry: Entry) -> None:
        """Take an entry off the books."""
        account = entry.account
        account.unlink(entry)
        self.bytes -= entry.size
        if not account.count:
            del self.accounts[account.namespace]  # names come and go, and must not pile up

    def resize(self, entry: Entry, size: int) -> None:
        """Book another size of an entry."""
        grown = size - entry.size
        self.bytes += grown
        entry.account.bytes += grown
        entry.account.queue.resize(entry, size)

    def choose(self, spared: Entry | None) -> Entry | None:
        """Return who must go next: out of the largest queue, so that a quota is no reservation."""
        if not self.quotas:
            return self.queue.choose(spared)
        queues = [one.queue for one in self.accounts.values() if one.bytes_max is not None]
        queues.append(self.queue)
        queues.sort(key=lambda queue: -queue.bytes)
        for queue in queues:
            entry = queue.choose(spared)
            if entry is not None:
                return entry
        return None


class Place:
    """A partition: its entries, and how much is known of those that it forgot."""

    __slots__ = ("entries", "floor", "ghosts", "role")

    def __init__(self, role: Role) -> None:
        self.role = role
        self.entries: dict[str, Entry] = {}
        self.floor = 0
        """The highest version that was forgotten: of a key that is not here, no version up to it is
        believed."""
        self.ghosts: dict[str, int] | None = None if role.is_owned else {}
        """While a copy is filled: the versions of forgotten keys. A floor would shut out what is
        still to come, which comes in no order."""

    def __repr__(self) -> str:
        return f"<Place {len(self.entries):,} entries, floor {self.floor}>"

    def version(self, key: str) -> int:
        """Return the version up to which nothing is believed of a key that is not here."""
        return max(self.floor, self.ghosts.get(key, 0)) if self.ghosts else self.floor

    def put(self, entry: Entry) -> None:
        """Take an entry in."""
        self.entries[entry.key] = entry
        if self.ghosts:
            self.ghosts.pop(entry.key, None)

    def forget(self, entry: Entry) -> None:
        """Remove an entry, and remember enough of it that it never comes back."""
        del self.entries[entry.key]
        if self.ghosts is None:
            self.floor = max(self.floor, entry.version)
            return
        self.ghosts[entry.key] = entry.version
        if len(self.ghosts) > GHOSTS_MAX:
            self.settle()

    def settle(self) -> None:
        """Make a floor of all that was forgotten so far, and of what will be."""
        if self.ghosts is not None:
            self.floor = max(self.floor, *self.ghosts.values(), 0)
            self.ghosts = None
