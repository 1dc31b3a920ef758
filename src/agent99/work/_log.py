"""Append events: stored before it returns, in the order of their keys."""

from __future__ import annotations

from agent99.envelope import Key, Subjects, Topic
from agent99.journal import Stored
from agent99.work._streams import Streams
from agent99.work._turns import Turns


class Log:
    """Appends to the stream of a mesh's events."""

    def __init__(self, subjects: Subjects, streams: Streams) -> None:
        self._subjects = subjects
        self._streams = streams
        self._turns = Turns()

    def __repr__(self) -> str:
        return f"Log({self._streams.log!r}, {self._turns!r})"

    async def append(self, topic: Topic, key: Key, message: bytes, *, message_id: str) -> Stored:
        """Store an event; of one key at most one is under way, so that a retry reorders nothing.

        Delivery: returned = stored (and replicated). On an error the outcome is unknown, but for
            those that say otherwise; repeat it with the same `message_id`.

        Raises:
            StreamFullError: the stream, or the disk, is full: nothing was stored.
            PayloadTooLargeError: nothing was sent.
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        subject = self._subjects.log(topic, key)
        ensure = self._streams.ensure_log
        async with self._turns.take(key):
            return await self._streams.append(
                self._streams.log, subject, message, message_id=message_id, ensure=ensure
            )
