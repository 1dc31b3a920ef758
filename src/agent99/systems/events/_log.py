"""The audit log in SQL: entries are added in the order of the chain, and looked at."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from agent99.clock import Clock
from agent99.envelope import parse_pattern
from agent99.errors import StoreError
from agent99.groups import Batch
from agent99.ids import Ids
from agent99.systems.events._entry import (
    FIELDS,
    AuditEntry,
    Fact,
    Head,
    Row,
    entry_of,
    fact_of,
    link,
    renamed,
    repeats,
)
from agent99.systems.events._query import Query
from agent99.systems.events._verify import End, Proof, Verifier

if TYPE_CHECKING:
    from agent99.store import Store, Transaction

PAGE_ROWS: Final = 500
"""More do not stay in a processor's cache until they are looked at."""
PAGES_AT_ONCE: Final = 10
"""In one trip to the database."""
PAGE_BYTES: Final = 16 * 1024**2
"""Of the events of a page, about: the next one has fewer rows where they are large."""
_ROWS_AT_FIRST: Final = 100
_BEYOND: Final = 2**63 - 1

_TEXTS = frozenset({"event_id", "type", "actor", "entity", "correlation"})
_TEXT_PLACES = [FIELDS.index(name) for name in sorted(_TEXTS)]
_EVENT = FIELDS.index("event")
_RENAMED = {"partition": "partition_number"}
_SQL = [_RENAMED.get(name, name) for name in FIELDS]
_VALUES = ", ".join(f":{name}" for name in FIELDS)
_ADD = f"INSERT INTO audit_entries ({', '.join(_SQL)}) VALUES ({_VALUES})"  # noqa: S608 - our names
_SELECT = f"SELECT {', '.join(_SQL)} FROM audit_entries"  # noqa: S608 - our names
_PLACE = " WHERE number > :after AND number <= :last ORDER BY number LIMIT :rows"
_BYTES = ", ".join(f"CAST({name} AS BLOB)" if name in _TEXTS else name for name in _SQL)
_SELECT_BYTES = f"SELECT {_BYTES} FROM audit_entries"  # noqa: S608 - our names
_KNOWN = "SELECT event_id, event FROM audit_entries WHERE is_repeat = 0 AND event_id IN"
# Takes the row's lock, and returns what whoever had it before has written.
_TAKE_HEAD = "UPDATE audit_head SET number = number WHERE id = 1 RETURNING number, hash"
_READ_HEAD = "SELECT number, hash FROM audit_head WHERE id = 1"
_READ_CHAIN = "SELECT chain FROM audit_head WHERE id = 1"
_READ_NUMBER = "SELECT number FROM audit_entries WHERE event_id = :event_id AND is_repeat = 0"
_MOVE_HEAD = "UPDATE audit_head SET number = :number, hash = :hash WHERE id = 1"
_RANGE = "SELECT min(number) AS first, max(number) AS last FROM audit_entries"


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

    async def chain(self) -> str:
        """Return the name of the chain: one that begins anew has another one."""
        name: str = await self.store.read(lambda t: t.execute(_READ_CHAIN).scalar() or "")
        return name

    async def find(self, query: Query) -> list[AuditEntry]:
        """Return the entries that match, the oldest first; repeats are left out."""
        statement, values = _find(query)
        return await self.store.read(partial(_entries, statement=statement, values=values))

    async def number_of(self, event_id: str) -> int | None:
        """Return the number of the entry that keeps an event, or None."""
        number: int | None = await self.store.read(
            lambda one: one.execute(_READ_NUMBER, {"event_id": event_id}).scalar()
        )
        return number

    async def pages(self) -> AsyncIterator[list[AuditEntry]]:
        """Yield all entries that are there now, repeats too, in their order, some at a time."""
        async for page in self.rows():
            yield [entry_of(row) for row in page]

    async def rows(self) -> AsyncIterator[Sequence[Row]]:
        """Yield what `pages` yields, without making entries of it."""
        last, after, rows = (await self.head()).number, 0, _ROWS_AT_FIRST
        while after < last:
            page = await self.store.read(partial(_page, after=after, last=last, rows=rows))
            if not page:
                return
            yield page
            after, rows = page[-1][0], _rows_after(page)

    async def verify(self, reader: str, anchors: Mapping[int, bytes] | None = None) -> Proof:
        """Look at every entry, and at the end; returns the first breach, if there is one.

        What is added meanwhile is not looked at.

        Args:
            reader: Whose positions tell how far the chain must go: `Group.reader`.
            anchors: Hashes by number of entry, as they were written down elsewhere in their time.

        Raises:
            StoreError or one of its kinds: the database cannot be read.
        """
        verifier = Verifier(anchors)
        end = await self.store.read(partial(_end, reader=reader))
        rows = _ROWS_AT_FIRST
        while rows:
            look = partial(_look, verifier=verifier, last=end.head.number, rows=rows)
            try:
                rows = await self.store.read(look)
            except StoreError:
                if self.store.dialect != "sqlite":
                    raise
                # A text may be none there. Then they are read as bytes, which takes longer.
                rows = await self.store.read(partial(look, select=_SELECT_BYTES))
        return verifier.end(end)


def _add(batch: Batch, transaction: Transaction) -> Head:
    head = _head(transaction, statement=_TAKE_HEAD)
    facts = [fact_of(record, batch.partition) for record in batch.fresh(transaction)]
    if not facts:
        return head
    entries = list(_chained(head, facts, _known(transaction, facts)))
    head = Head(entries[-1].number, entries[-1].hash)
    transaction.execute(_ADD, [_values(entry) for entry in entries])
    transaction.execute(_MOVE_HEAD, {"number": head.number, "hash": head.hash})
    return head


def _chained(head: Head, facts: Iterable[Fact], known: dict[str, bytes]) -> Iterator[AuditEntry]:
    """Yield facts as the entries behind `head`; of those with a known id, what is new of them."""
    for fact in facts:
        before = known.get(fact.event_id)
        if before is None:
            known[fact.event_id] = fact.event
            entry = link(head, fact)
        elif repeats(fact, before):
            entry = link(head, fact, is_repeat=True)
        else:
            entry = link(head, renamed(fact))
        yield entry
        head = Head(entry.number, entry.hash)


def _values(entry: AuditEntry) -> dict[str, Any]:
    return {**msgspec.structs.asdict(entry), "is_repeat": int(entry.is_repeat)}


def _head(transaction: Transaction, *, statement: str) -> Head:
    """Return the end of the chain; one that is not there is none that any chain has."""
    row = transaction.execute(statement).first()
    if row is None or not (isinstance(row.number, int) and isinstance(row.hash, bytes)):
        return Head(0, b"")
    return Head(row.number, row.hash)


def _known(transaction: Transaction, facts: Sequence[Fact]) -> dict[str, bytes]:
    """Return the events, of those whose ids are given, that are there already, by id."""
    values = {f"e{index}": fact.event_id for index, fact in enumerate(facts)}
    names = ", ".join(f":{name}" for name in values)
    rows = transaction.execute(f"{_KNOWN} ({names})", values)
    return {row.event_id: row.event for row in rows}


def _page(transaction: Transaction, *, after: int, last: int, rows: int) -> Sequence[Row]:
    values = {"after": after, "last": last, "rows": rows}
    return transaction.tuples(_SELECT + _PLACE, values)


def _rows_after(page: Sequence[Row]) -> int:
    """Return how many rows are read at once after a page."""
    try:
        largest = max(map(len, map(itemgetter(_EVENT), page))) + 1
    except TypeError:  # an event that is none, of which whoever reads on will say so
        return 1
    return max(1, min(PAGE_ROWS, PAGE_BYTES // largest))


def _entries(transaction: Transaction, statement: str, values: dict[str, Any]) -> list[AuditEntry]:
    return [entry_of(row) for row in transaction.tuples(statement, values)]


def _end(transaction: Transaction, *, reader: str) -> End:
    from agent99.store import read_positions  # noqa: PLC0415 - loads SQLAlchemy

    between = transaction.execute(_RANGE).one()
    last = between.last or 0
    if isinstance(last, (str, bytes)):  # which SQLite puts behind all numbers
        last = _BEYOND
    return End(
        head=_head(transaction, statement=_READ_HEAD),
        first=1 if between.first is None else between.first,
        last=last,
        positions=read_positions(transaction, reader),
    )


def _look(
    transaction: Transaction, *, verifier: Verifier, last: int, rows: int, select: str = _SELECT
) -> int:
    """Look at the next pages where they are read; returns the rows of the one after them, or 0.

    It goes on behind what the verifier has seen, so that it may fail and be run again.
    """
    for _ in range(PAGES_AT_ONCE):
        values = {"after": verifier.head.number, "last": last, "rows": rows}
        page = transaction.tuples(select + _PLACE, values)
        if select is _SELECT_BYTES:
            page = [_decoded(row) for row in page]
        if not verifier.look(page) or not page:
            return 0
        rows = _rows_after(page)
    return rows


def _decoded(row: Row) -> Row:
    """Return a row whose texts came as bytes; what is no text will have no hash."""
    fields: list[Any] = list(row)
    for index in _TEXT_PLACES:
        if isinstance(fields[index], bytes):
            fields[index] = fields[index].decode(errors="surrogateescape")
    return tuple(fields)


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

    It has as many dots as the pattern, so that what stands for a `*` has none; `>` stands for more.
    """
    pattern = parse_pattern(pattern)
    tokens = pattern.split(".")
    if "*" not in tokens and tokens[-1] != ">":
        return "type = :type", {"type": pattern}
    like = pattern.replace("_", "!_").replace("*", "%").replace(">", "%")
    dots = "length(type) - length(replace(type, '.', ''))"
    compare = ">=" if tokens[-1] == ">" else "="
    values = {"like": like, "dots": len(tokens) - 1}
    return f"(type LIKE :like ESCAPE '!' AND {dots} {compare} :dots)", values
