"""The agent that keeps the audit log: every stored event of its mesh, once, in a chain."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import msgspec

from agent99 import Agent, Failure, operation
from agent99.clock import Clock, SystemClock
from agent99.envelope import split_message
from agent99.errors import BadRequestError, InvalidNameError, UsageError
from agent99.groups import Batch, CloudEvent, Group, reader_name
from agent99.ids import Ids, SystemIds
from agent99.settings import load_settings
from agent99.systems.events._anchors import Anchoring, Anchors
from agent99.systems.events._entry import AuditEntry
from agent99.systems.events._log import AuditLog
from agent99.systems.events._moments import MICROSECOND, micros_of, moment_of
from agent99.systems.events._query import Query
from agent99.systems.events._verify import Proof
from agent99.systems.events._words import INVALID_QUERY, refusal

GROUP: Final = "audit"
DAY: Final = timedelta(days=1)
KEPT_S_MAX: Final = 3.0
"""So long an event that is handed over is waited for, in seconds: it comes by the log."""
KEPT_AGAIN_S: Final = 0.05
NOT_LOGGED: Final = "NOT_LOGGED"
ANSWER_BYTES_MAX: Final = 512 * 1024
_RECORD_BYTES: Final = 1024
"""Of an entry without its event, at most; about."""


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


class Logged(msgspec.Struct, frozen=True):
    """An event is in the audit log."""

    audit_id: int
    logged: bool


class AuditAnswer(msgspec.Struct, frozen=True):
    """A page of the audit log."""

    audit_entries: tuple[AuditRecord, ...]
    count: int
    more: bool = False
    """There may be more: ask again, with the last `audit_id` as `after`."""


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
        from agent99.store import make_folder  # noqa: PLC0415 - loads SQLAlchemy

        url = self._url or audit_url()
        make_folder(url)
        async with AsyncExitStack() as stack:
            opening = AuditLog.opened(url, self._clock, self._ids)
            self._log = await stack.enter_async_context(opening)
            self._anchors = Anchors(self)
            write = partial(self._anchors.write, await self._log.chain())
            self._anchoring = Anchoring(write, self._log.head, self._clock)
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
        try:
            query = Query(
                type=request.event_type,
                actor=request.actor,
                entity=request.entity,
                correlation=request.correlation,
                since_us=micros_of(request.since) if request.since else self._a_day_ago_us(),
                until_us=micros_of(request.until) if request.until else None,
                after=request.after,
                limit=request.limit,
            )
        except (UsageError, InvalidNameError) as error:
            raise Failure(str(error), code=INVALID_QUERY) from error
        found = await self._log.find(query)
        records = tuple(_page_of(found))
        is_all = len(records) == len(found) < query.limit
        return AuditAnswer(records, len(records), more=not is_all)

    @operation(idempotent=True)
    async def handle_event(self, event: CloudEvent) -> Logged:
        """Answer once an event is in the log: it gets there by the mesh's own log, unasked."""
        until_s = self._clock.monotonic_s() + KEPT_S_MAX
        while self._clock.monotonic_s() < until_s:
            number = await self._log.number_of(event.id)
            if number is not None:
                return Logged(number, logged=True)
            await self._clock.sleep(KEPT_AGAIN_S)
        raise Failure(
            f"event {event.id!r} is not in the log: it was never stored on this mesh, or has gone",
            code=NOT_LOGGED,
            retryable=True,
        )

    async def process_request(self, action: str = "", operation: str = "") -> None:
        """Refuse what names none of the operations."""
        raise refusal(operation or action, ("handle_event", "get_audit_log", "verify"))

    @operation(idempotent=True)
    async def verify(self) -> Proof:
        """Look at the whole chain, its anchors and its end; returns the first breach, if any."""
        anchors = await self._anchors.read(await self._log.chain())
        return await self._log.verify(self._group.reader, anchors)

    def _a_day_ago_us(self) -> int:
        return self._clock.wall_us() - DAY // MICROSECOND

    async def _add(self, batch: Batch) -> None:
        self._anchoring.note(await self._log.add(batch))


def audit_url(environ: Mapping[str, str] | None = None) -> str:
    """Return where the audit log is: what AGENT99_AUDIT_STORE says, or a file in the project."""
    environ = os.environ if environ is None else environ
    url = environ.get("AGENT99_AUDIT_STORE", "")
    if url:
        return url
    path = load_settings(environ=environ).state_folder / "audit" / "audit.db"
    return f"sqlite:///{path}"


def reader_of(mesh: str) -> str:
    """Return whose positions tell how far the audit log of a mesh must go."""
    return reader_name(mesh, GROUP)


def record_of(entry: AuditEntry) -> AuditRecord:
    """Return an entry as those see it who ask for it."""
    return AuditRecord(
        audit_id=entry.number,
        event_id=entry.event_id,
        event_type=entry.type,
        actor=entry.actor,
        entity=entry.entity,
        correlation=entry.correlation,
        occurred_at=moment_of(entry.occurred_us),
        stored_at=moment_of(entry.stored_us),
        event=_readable(entry.event),
        hash=entry.hash.hex(),
    )


def _page_of(entries: list[AuditEntry]) -> Iterator[AuditRecord]:
    """Yield as many entries as an answer can hold; at least one."""
    held = 0
    for entry in entries:
        size = len(entry.event) + _RECORD_BYTES
        if held and held + size > ANSWER_BYTES_MAX:
            return
        held += size
        yield record_of(entry)


def _readable(event: bytes) -> msgspec.Raw:
    """Return what was appended, on one line, or null."""
    try:
        return msgspec.Raw(msgspec.json.format(split_message(event)[1], indent=-1))
    except (BadRequestError, msgspec.MsgspecError):
        return msgspec.Raw(b"null")
