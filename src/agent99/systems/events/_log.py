"""The audit log in SQL: entries are added in the order of the chain, and looked at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from agent99.clock import Clock
from agent99.envelope import parse_pattern
from agent99.groups import Batch
from agent99.ids import Ids
from agent99.systems.events._entry import AuditEntry, Fact, Head, fact_of, link
from agent99.systems.events._query import Query
from agent99.systems.events._verify import Proof, Verifier

if TYPE_CHECKING:
    from agent99.store import Store, Transaction

PAGE_ROWS: Final = 5_000

_COLUMNS = AuditEntry.__struct_fields__
_NAMES = ", ".join("partition_number" if name == "partition" else name for name in _COLUMNS)
_VALUES = ", ".join(f":{name}" for name in _COLUMNS)
_ADD = f"INSERT INTO audit_entries ({_NAMES}) VALUES ({_VALUES})"  # noqa: S608 - our names
_SELECT = f"SELECT {_NAMES} FROM audit_entries"  # noqa: S608 - our names
_PAGE = f"{_SELECT} WHERE number > :after AND number <= :last ORDER BY number LIMIT :rows"
_KNOWN = "SELECT event_id FROM audit_entries WHERE is_repeat = 0 AND event_id IN"
# Takes the row's lock, and returns what whoever had it before has written.
_TAKE_HEAD = "UPDATE audit_head SET number = number WHERE id = 1 RETURNING number, hash"
_READ_HEAD = "SELECT number, hash FROM audit_head WHERE id = 1"
_MOVE_HEAD = "UPDATE audit_head SET number = :number, hash = :hash WHERE id = 1"


class AuditLog:
    """An append-only, hash-chained log of events in a database; many writers may share it.

    Invariant: the entries are a chain without a gap, each event once with its bytes, in the order
    in which they were added; an event that the mesh's log holds twice is a second time there as a
    repeat. Entries and the positions of their group are written in one transaction.

    Args:
        store: Where it is, with `AUDIT_MIGRATIONS`.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def __repr__(self) -> str:
        return f"AuditLog({self.store!r})"

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, url: str, clock: Clock | None = None, ids: Ids | None = None
    ) -> AsyncGenerator[Self]:
        """Give the audit log of a database; its tables are made there.

        Raises:
            StoreError or one of its kinds; UsageError: the URL is none.
            ImportError: SQLAlchemy is not installed; says how to get it.
        """
        from agent99.store import open_store  # noqa: PLC0415 - loads SQLAlchemy
        from agent99.systems.events._tables import (  # noqa: PLC0415 - loads SQLAlchemy
            AUDIT_MIGRATIONS,
            AUDIT_SCHEMA,
        )

        store = open_store(
            url, schema=AUDIT_SCHEMA, migrations=AUDIT_MIGRATIONS, clock=clock, ids=ids
        )
        async with store:
            yield cls(store)

    async def add(self, batch: Batch) -> Head:
        """Add a batch's events, once each however often it comes; returns the end of the chain.

        Raises:
            LeaseLostError: another member of the group owns the partition; nothing was added.
            StoreError or one of its kinds: nothing was added.
        """
        return await self.store.transaction(partial(_add, batch))

    async def head(self) -> Head:
        """Return the end of the chain."""
        return await self.store.read(partial(_head, statement=_READ_HEAD))

    async def find(self, query: Query) -> list[AuditEntry]:
        """Return the entries that match, the oldest first; repeats are left out."""
        statement, values = _find(query)
        return await self.store.read(
            lambda transaction: _entries(transaction.execute(statement, values))
        )

    async def pages(self) -> AsyncIterator[list[AuditEntry]]:
        """Yield all entries that are there now, repeats too, in their order, some at a time."""
        last, after = (await self.head()).number, 0
        while after < last:
            page = await self.store.read(partial(_page, after=after, last=last))
            if not page:
                return
            yield page
            after = page[-1].number

    async def verify(self, reader: str, anchors: Mapping[int, bytes] | None = None) -> Proof:
        """Look at every entry, and at the end; returns the first breach, if there is one.

        What is added meanwhile is not looked at.

        Args:
            reader: Whose positions tell how far the chain must go: `Group.reader`.
            anchors: Hashes by number of entry, as they were written down elsewhere in their time.
        """
        verifier = Verifier(anchors)
        head, positions = await self.store.read(partial(_end, reader=reader))
        after = 0
        while after < head.number:
            look = partial(_look_at_page, verifier=verifier, after=after, last=head.number)
            after = await self.store.read(look)
        return verifier.end(head, positions)


def _add(batch: Batch, transaction: Transaction) -> Head:
    head = _head(transaction, statement=_TAKE_HEAD)
    facts = [fact_of(record, batch.partition) for record in batch.fresh(transaction)]
    if not facts:
        return head
    known = _known(transaction, facts)
    entries: list[AuditEntry] = []
    for fact in facts:
        entry = link(head, fact, is_repeat=fact.event_id in known)
        known.add(fact.event_id)
        entries.append(entry)
        head = Head(entry.number, entry.hash)
    transaction.execute(_ADD, [_row(entry) for entry in entries])
    transaction.execute(_MOVE_HEAD, {"number": head.number, "hash": head.hash})
    return head


def _row(entry: AuditEntry) -> dict[str, Any]:
    return {**msgspec.structs.asdict(entry), "is_repeat": int(entry.is_repeat)}


def _head(transaction: Transaction, *, statement: str) -> Head:
    row = transaction.execute(statement).one()
    return Head(row.number, bytes(row.hash))


def _known(transaction: Transaction, facts: Sequence[Fact]) -> set[str]:
    """Return the ids, of those given, that have an entry with an event already."""
    values = {f"e{index}": fact.event_id for index, fact in enumerate(facts)}
    names = ", ".join(f":{name}" for name in values)
    return set(transaction.execute(f"{_KNOWN} ({names})", values).scalars())


def _page(transaction: Transaction, *, after: int, last: int) -> list[AuditEntry]:
    values = {"after": after, "last": last, "rows": PAGE_ROWS}
    return _entries(transaction.execute(_PAGE, values))


def _entries(rows: Any) -> list[AuditEntry]:
    """Return rows as entries: SQL has no truth values."""
    at = _COLUMNS.index("is_repeat")
    return [AuditEntry(*(*row[:at], bool(row[at]), *row[at + 1 :])) for row in rows]


def _end(transaction: Transaction, *, reader: str) -> tuple[Head, dict[int, int]]:
    from agent99.store import read_positions  # noqa: PLC0415 - loads SQLAlchemy

    return _head(transaction, statement=_READ_HEAD), read_positions(transaction, reader)


def _look_at_page(transaction: Transaction, *, verifier: Verifier, after: int, last: int) -> int:
    """Look at a page where it is read; returns the last number that was looked at."""
    page = _page(transaction, after=after, last=last)
    if not verifier.look(page) or not page:
        return last
    return page[-1].number


def _find(query: Query) -> tuple[str, dict[str, Any]]:
    rules = ["is_repeat = 0", "number > :after"]
    values: dict[str, Any] = {"after": query.after, "rows": query.limit}
    for name in ("actor", "entity", "correlation"):
        value = getattr(query, name)
        if value:
            rules.append(f"{name} = :{name}")
            values[name] = value
    if query.since_us is not None:
        rules.append("stored_us >= :since")
        values["since"] = query.since_us
    if query.until_us is not None:
        rules.append("stored_us < :until")
        values["until"] = query.until_us
    if query.type:
        rule, more = _matches(query.type)
        rules.append(rule)
        values |= more
    where = " AND ".join(rules)
    return f"{_SELECT} WHERE {where} ORDER BY number LIMIT :rows", values


def _matches(pattern: str) -> tuple[str, dict[str, Any]]:
    """Return what a type must be to match a pattern.

    It has as many dots as the pattern (`>`: or more), so that what stands for a `*` has none.
    """
    tokens = parse_pattern(pattern).split(".")
    if "*" not in tokens and tokens[-1] != ">":
        return "type = :type", {"type": pattern}
    like = pattern.replace("_", "!_").replace("*", "%").replace(">", "%")
    dots = "length(type) - length(replace(type, '.', ''))"
    compare = ">=" if tokens[-1] == ">" else "="
    values = {"like": like, "dots": len(tokens) - 1}
    return f"(type LIKE :like ESCAPE '!' AND {dots} {compare} :dots)", values
