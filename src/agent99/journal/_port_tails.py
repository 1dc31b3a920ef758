"""The port of tails: read a stream on and on, from a place that the reader keeps itself."""

from __future__ import annotations

from typing import Protocol

from agent99.journal._port_streams import Record


class Tail(Protocol):
    """What a stream holds from a sequence on, and what it comes to hold, for one task.

    Nothing is acknowledged, and the server remembers nothing: who reads keeps the place.
    """

    async def read(self, count_max: int) -> tuple[Record, ...]:
        """Return the next records: at least one, once there is one; what is there, up to the bound.

        Args:
            count_max: At most so many; at least 1.

        Delivery: in the stream's order, each once for one tail, across restarts of the server and
            losses of the link. What was deleted, or grew too old, before it came is left out.

        Raises:
            StreamNotFoundError: the stream is gone, and did not come back in time (5 s). One that
                is made anew under its name is read from the same sequence on.
            JournalError: the server refuses, and that did not change in time.
            PermissionDeniedError, RemoteProtocolError
            ClosedError: the tail, or the wire, is closed.
            UsageError: two tasks read at once.
        """
        ...
