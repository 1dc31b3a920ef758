"""What namespaces may take: rules that stand beside the table, and each node's share of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

import msgspec

from agent99.clock import Clock
from agent99.errors import UsageError
from agent99.journal import Change, Entry
from agent99.systems.cache._book import TableBook
from agent99.systems.cache._client import MAY_PASS, CacheClient
from agent99.systems.cache._store import Store
from agent99.systems.cache._table import PARTITIONS, Table

NAMESPACE = "ns."
"""What the keys of the namespaces' rules begin with, in the bucket of the cache."""
RENEW_S = 0.2
"""Between two changes of a node's shares, however often the table changes."""
ASK_S = 2.0

_log = logging.getLogger("agent99.systems.cache")


class Rules(msgspec.Struct, frozen=True, omit_defaults=True):
    """What holds for a namespace."""

    quota_bytes: int | None = None
    """Of what is owned at all nodes together, copies not counted; None: as much as there is."""


class Holds(msgspec.Struct, frozen=True):
    """What a node owns of a namespace."""

    entries: int = 0
    bytes: int = 0


class NamespaceTotals(msgspec.Struct, frozen=True):
    """What a namespace has at all nodes, copies not counted."""

    entries: int
    """Keys; what has expired counts until it is removed, a tenth of a second later."""
    bytes: int
    """With what it takes to hold them."""
    quota_bytes: int | None
    """None: as much as there is."""


class Quotas:
    """Has a node's store keep each namespace within the node's share of its quota.

    The share goes by how many partitions the node owns. Where partitions have just come, it is too
    small for a moment, and something may be evicted that would have had room.

    Args:
        me: This node's id.
    """

    def __init__(self, store: Store, book: TableBook, clock: Clock, me: str) -> None:
        self.shares: dict[str, int] = {}
        """In bytes, by namespace; of those that have a quota."""
        self._rules: dict[str, Rules] = {}
        self._store = store
        self._book = book
        self._clock = clock
        self._me = me
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"Quotas({self.shares})"

    def wake(self) -> None:
        """Look again: the table has changed."""
        self._news.set()

    def all_entries(self, entries: Iterable[Entry]) -> None:
        """These are all that stand in the bucket, the rules among them."""
        self._rules = {
            entry.key.removeprefix(NAMESPACE): _decoded(entry.value)
            for entry in entries
            if entry.key.startswith(NAMESPACE)
        }
        self.wake()

    def entry(self, change: Change) -> None:
        """The rules of a namespace were written, or are gone."""
        namespace = change.key.removeprefix(NAMESPACE)
        if change.kind == "put":
            self._rules[namespace] = _decoded(change.value)
        else:
            self._rules.pop(namespace, None)
        self.wake()

    async def run(self) -> None:
        """Keep the shares true, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            self._renew()
            await self._clock.sleep(RENEW_S)

    # --- inside -----------------------------------------------------------------------------------

    def _renew(self) -> None:
        owned = _owned(self._book.table, self._me)
        wanted = {
            namespace: max(rules.quota_bytes * owned // PARTITIONS, 1)
            for namespace, rules in self._rules.items()
            if owned and rules.quota_bytes is not None
        }
        for namespace in self.shares.keys() - wanted.keys():
            self._store.limit(namespace, None)
        for namespace, share in wanted.items():
            if self.shares.get(namespace) != share:
                self._store.limit(namespace, share)
        self.shares.clear()
        self.shares.update(wanted)


async def write_rules(client: CacheClient, namespace: str, quota_bytes: int | None) -> None:
    """Write the rules of a namespace; returned = they are stored, and nodes hear of them soon.

    Raises:
        UsageError: a quota of less than a byte.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    is_number = isinstance(quota_bytes, int) and not isinstance(quota_bytes, bool)
    if quota_bytes is not None and (not is_number or not 1 <= quota_bytes < 2**62):
        raise UsageError(f"a quota is a number of bytes, at least 1, or None; not {quota_bytes!r}")
    bucket = await client.book.bucket()
    await bucket.put(NAMESPACE + namespace, msgspec.json.encode(Rules(quota_bytes)))


async def read_totals(client: CacheClient, namespace: str) -> NamespaceTotals:
    """Return what a namespace has at all nodes; a node that does not answer counts for nothing.

    Raises:
        BadAnswerError, HandlerError
        as `write_rules`
    """
    entry = await (await client.book.bucket()).get(NAMESPACE + namespace)
    asked = [
        client.peers.ask(node, "holds", {"namespace": namespace}, returns=Holds, timeout_s=ASK_S)
        for node in client.lookup.table.nodes
    ]
    entries = size = 0
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, Holds):
            entries, size = entries + answer.entries, size + answer.bytes
        elif isinstance(answer, MAY_PASS):
            _log.info("what a node holds of %s is not known: %s", namespace, answer)
        else:
            raise answer
    rules = _decoded(entry.value) if entry is not None else Rules()
    return NamespaceTotals(entries, size, rules.quota_bytes)


def holds_here(store: Store, namespace: str) -> Holds:
    """Return what a node's store has of a namespace as its owner."""
    found = store.statistics().namespaces.get(namespace)
    return Holds() if found is None else Holds(found.entries, found.bytes)


def _owned(table: Table | None, node: str) -> int:
    return sum(part.owner == node for part in table.parts) if table is not None else 0


def _decoded(value: bytes) -> Rules:
    """Return rules as they stand; what cannot be read holds for nothing."""
    try:
        rules = msgspec.json.decode(value, type=Rules)
    except (msgspec.DecodeError, UnicodeDecodeError):
        _log.error("the rules of a namespace of the cache cannot be read: %r", value[:80])
        return Rules()
    is_sound = rules.quota_bytes is None or rules.quota_bytes >= 1
    return rules if is_sound else Rules()
