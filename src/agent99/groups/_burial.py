"""How an event that a reader cannot handle goes into quarantine."""

from __future__ import annotations

from agent99.envelope import Name, peek_header
from agent99.groups._parts import Parts
from agent99.journal import Record
from agent99.work import Outcome, Place, Reason

OPERATION = Name("event")
"""Under which the quarantine keeps the events of a group, beside the group's name."""


async def bury(
    parts: Parts, reader: Name, record: Record, outcome: Outcome, *, reason: Reason, attempts: int
) -> None:
    """Keep an event that a reader could not handle, with the reason.

    Raises:
        StreamFullError: the quarantine is full.
        JournalError, DeadlineExceededError, TransportError, ClosedError
    """
    place = Place(parts.streams.log, reader, OPERATION, subject=record.subject)
    header = peek_header(record.payload)
    await parts.quarantine.bury(record, header, outcome, place, reason=reason, attempts=attempts)
