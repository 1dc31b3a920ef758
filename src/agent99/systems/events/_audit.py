"""The agent that keeps the audit log: every stored event of its mesh, once, in a chain."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from agent99 import Agent, operation
from agent99.clock import Clock, SystemClock
from agent99.envelope import split_message
from agent99.errors import BadRequestError
from agent99.groups import Batch, Group
from agent99.ids import Ids, SystemIds
from agent99.settings import load_settings
from agent99.systems.events._anchors import Anchoring, Anchors
from agent99.systems.events._entry import AuditEntry
from agent99.systems.events._log import AuditLog
from agent99.systems.events._query import Query
from agent99.systems.events._verify import Proof

GROUP: Final = "audit"
DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class GetAuditLog(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are asked for; what is not said does not matter."""

    event_type: str = ""
    """The topic, or a pattern of topics."""
    actor: str = ""
    entity: str = ""
    correlation: str = ""
    since: datetime | None = None
    """Stored then or later; None: a day ago."""
    until: datetime | None = None
    after: int = 0
    """Entries with a higher number: the `audit_id` of the last one of the page before."""
    limit: int = 100


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An entry, for who reads it."""

    audit_id: int
    event_id: str
    event_type: str
    actor: str
    entity: str
    correlation: str
    occurred_at: datetime
    stored_at: datetime
    event: msgspec.Raw
    """What was appended, a JSON object; null: nobody can read it."""
    hash: str


class AuditAnswer(msgspec.Struct, frozen=True):
    """A page of the audit log."""

    audit_entries: tuple[AuditRecord, ...]
    count: int


class AuditAgent(Agent):
    """Keeps every stored event of its mesh in an append-only, hash-chained log in SQL.

    Any number of instances may run: they share the work, and one chain in one database.

    Args:
        url: The database; None: as AGENT99_AUDIT_STORE says, or SQLite in the
            project's state folder.
        clock: The source of time.
        ids: The source of randomness.
    """

    capabilities = ("audit", "logging", "compliance")

    _log: AuditLog
    _group: Group
    _anchors: Anchors
    _anchoring: Anchoring

    def __init__(
        self, url: str | None = None, *, clock: Clock | None = None, ids: Ids | None = None
    ) -> None:
        self._url = url
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIds()
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Open the log, and read the events that are stored from where it ends."""
        url = self._url or audit_url()
        async with AsyncExitStack() as stack:
            opening = AuditLog.opened(url, self._clock, self._ids)
            self._log = await stack.enter_async_context(opening)
            self._anchors = Anchors(self)
            self._anchoring = Anchoring(self._anchors, self._clock)
            self._anchoring.note(await self._log.head())
            self._anchoring.start()
            stack.push_async_callback(self._anchoring.stop)
            self._group = Group(self, GROUP, (">",), self._add, store=self._log.store)
            await stack.enter_async_context(self._group)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """Hand over what is in hand, anchor the end, and close."""
        await self._stack.aclose()

    @operation(idempotent=True)
    async def get_audit_log(self, request: GetAuditLog) -> AuditAnswer:
        """Return entries of the log, the oldest first, a page at a time."""
        now = _EPOCH + self._clock.wall_us() * _MICROSECOND
        query = Query(
            type=request.event_type,
            actor=request.actor,
            entity=request.entity,
            correlation=request.correlation,
            since_us=_micros(request.since or now - DAY),
            until_us=_micros(request.until) if request.until else None,
            after=request.after,
            limit=request.limit,
        )
        records = tuple(record_of(entry) for entry in await self._log.find(query))
        return AuditAnswer(records, len(records))

    @operation(idempotent=True)
    async def verify(self) -> Proof:
        """Look at the whole chain, its anchors and its end; returns the first breach, if any."""
        return await self._log.verify(self._group.reader, await self._anchors.read())

    async def _add(self, batch: Batch) -> None:
        self._anchoring.note(await self._log.add(batch))


def audit_url(environ: Mapping[str, str] | None = None) -> str:
    """Return where the audit log is: what AGENT99_AUDIT_STORE says, or a file in the project."""
    environ = os.environ if environ is None else environ
    url = environ.get("AGENT99_AUDIT_STORE", "")
    if url:
        return url
    folder = load_settings(environ=environ).state_folder / "audit"
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'audit.db'}"


def reader_of(mesh: str) -> str:
    """Return whose positions tell how far the audit log of a mesh must go."""
    return f"{mesh}/{GROUP}"


def record_of(entry: AuditEntry) -> AuditRecord:
    """Return an entry as those see it who ask for it."""
    event = msgspec.Raw(b"null")
    with suppress(BadRequestError):
        event = msgspec.Raw(split_message(entry.event)[1])
    return AuditRecord(
        audit_id=entry.number,
        event_id=entry.event_id,
        event_type=entry.type,
        actor=entry.actor,
        entity=entry.entity,
        correlation=entry.correlation,
        occurred_at=_EPOCH + entry.occurred_us * _MICROSECOND,
        stored_at=_EPOCH + entry.stored_us * _MICROSECOND,
        event=event,
        hash=entry.hash.hex(),
    )


def _micros(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND
