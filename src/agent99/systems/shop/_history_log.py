"""The events of orders, read from the mesh's log: all of them, or those of one order."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import msgspec

from agent99.envelope import Subjects, parse_key, parse_log, parse_pattern
from agent99.errors import StreamNotFoundError
from agent99.journal import Journal, Record
from agent99.systems.shop._events import Told, read_told
from agent99.systems.shop._history_model import EventSeen

_log = logging.getLogger("agent99.shop")

BATCH_EVENTS: Final = 2_000


class HistoryLog:
    """Reads the stored events of one mesh.

    All methods raise `JournalError`, `DeadlineExceededError`, `TransportError` and `ClosedError`.

    Args:
        journal: Where they are stored.
        subjects: Of the mesh.
        stream: Of its events.
    """

    def __init__(self, journal: Journal, subjects: Subjects, stream: str) -> None:
        self.stream = stream
        self._journal = journal
        self._subjects = subjects

    def __repr__(self) -> str:
        return f"HistoryLog({self.stream!r})"

    async def first_sequence(self) -> int:
        """Return the place of the oldest event that is kept; 1: nothing is gone yet."""
        try:
            return (await self._journal.stream_state(self.stream)).first_sequence
        except StreamNotFoundError:  # nothing was ever stored
            return 1

    async def batches(self) -> AsyncIterator[list[Told]]:
        """Yield what the shop has told of its orders so far, the oldest first, some at a time."""
        batch: list[Told] = []
        async for record in self._read(self._subjects.log_listen()):
            told = told_by(record)
            if told is not None:
                batch.append(told)
            if len(batch) >= BATCH_EVENTS:
                yield batch
                batch = []
        if batch:
            yield batch

    async def of_order(self, order_id: UUID) -> tuple[EventSeen, ...]:
        """Return every event of an order, in the log's order."""
        found = self._read(self.subject_of(order_id))
        return tuple([_seen(record) async for record in found])

    def subject_of(self, order_id: UUID, pattern: str = ">") -> str:
        """Return where the events of an order are stored whose topics match."""
        key = parse_key(str(order_id))
        return self._subjects.log_listen_key(key, parse_pattern(pattern))

    async def _read(self, subject: str) -> AsyncIterator[Record]:
        try:
            async for record in self._journal.read(self.stream, subject):
                yield record
        except StreamNotFoundError:  # nothing was ever stored
            return


def topic_of(record: Record) -> str:
    """Return the topic of a stored event."""
    return parse_log(record.subject).topic


def told_by(record: Record) -> Told | None:
    """Return what a stored event tells of an order; None: nothing that the shop would tell.

    One that cannot be read is logged, and passed over: whoever follows has it in quarantine.
    """
    try:
        return read_told(topic_of(record), record.payload)
    except msgspec.DecodeError as error:
        _log.warning("event %d of %s cannot be read: %s", record.sequence, topic_of(record), error)
        return None


def _seen(record: Record) -> EventSeen:
    """Return a stored event as it is; of one that cannot be read there is only its place."""
    try:
        content = msgspec.json.decode(record.payload, type=dict[str, Any])
        header = msgspec.convert(content.pop("header", None), _Header)
    except msgspec.DecodeError:
        content, header = {}, _Header("")
    place = record.sequence, header.event_uuid, topic_of(record), record.stored_us
    return EventSeen(*place, content)


class _Header(msgspec.Struct):
    event_uuid: str
