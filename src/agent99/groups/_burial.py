"""How an event that a reader cannot handle goes into quarantine."""

from __future__ import annotations

import msgspec

from agent99.envelope import Name, peek_header
from agent99.groups._parts import Parts
from agent99.journal import Record
from agent99.work import Outcome, Place, Reader, Reason

OPERATION = Name("event")
"""Under which the quarantine keeps the events of a group, beside the group's name."""


class Burial(msgspec.Struct, frozen=True):
    """Keeps what one reader of events cannot handle."""

    parts: Parts
    name: Name
    """The reader's."""
    reader: Reader

    async def bury(self, record: Record, outcome: Outcome, reason: Reason, attempts: int) -> None:
        """Keep an event that the reader could not handle, with the reason.

        Raises:
            StreamFullError: the quarantine is full.
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        place = Place(self.parts.streams.log, self.name, OPERATION, record.subject, self.reader)
        header = peek_header(record.payload)
        await self.parts.quarantine.bury(
            record, header, outcome, place, reason=reason, attempts=attempts
        )
