"""Post work: stored before it returns, until somebody has done it."""

from __future__ import annotations

from functools import partial

from agent99.envelope import Name, Subjects
from agent99.journal import Stored
from agent99.work._streams import Streams


class Jobs:
    """Posts to the streams of a mesh's work."""

    def __init__(self, subjects: Subjects, streams: Streams) -> None:
        self._subjects = subjects
        self._streams = streams

    def __repr__(self) -> str:
        return f"Jobs({self._streams!r})"

    async def post(
        self, capability: Name, operation: Name, message: bytes, *, message_id: str
    ) -> Stored:
        """Store work for a capability.

        Delivery: returned = stored (and replicated). On an error the outcome is unknown, but for
            those that say otherwise; repeat it with the same `message_id`.

        Raises:
            StreamFullError: too much waits for this capability, or the disk is full.
            PayloadTooLargeError: nothing was sent.
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        subject = self._subjects.job(capability, operation)
        ensure = partial(self._streams.ensure_jobs, capability)
        stream = self._streams.jobs(capability)
        return await self._streams.append(
            stream, subject, message, message_id=message_id, ensure=ensure
        )
