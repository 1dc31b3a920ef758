"""The last requests that ended in this process, for whoever asks later."""

from __future__ import annotations

from collections import deque

from agent99.observe._hooks import Hooks
from agent99.observe._records import RequestFinished

RECORDS_MAX = 10_000


class Ring:
    """Keeps the newest records of requests that ended; a full one costs about 4 MB.

    Invariant: it holds `size_max` records at most, the newest, in the order in which they came.
    """

    def __init__(self, hooks: Hooks, *, size_max: int = RECORDS_MAX) -> None:
        self._records: deque[RequestFinished] = deque(maxlen=size_max)
        append = self._records.append  # one object: it is what `forget` compares
        self._forget = hooks.listen_unguarded(RequestFinished, append)

    def __repr__(self) -> str:
        return f"Ring({len(self._records)}/{self._records.maxlen})"

    def __len__(self) -> int:
        return len(self._records)

    def find(self, name: str) -> list[RequestFinished]:
        """Return every record of a trace, the oldest first; looks at each (about 10 ms if full).

        Args:
            name: The trace's id, with or without dashes, or the id of any request in it. A request
                that has left the ring, or was never here, names no trace but the one it began.
        """
        traces = {name.replace("-", "").lower()}
        traces |= {record.trace_id for record in self._records if record.event_id == name}
        return [record for record in self._records if record.trace_id in traces]

    def close(self) -> None:
        """Listen no longer; what is kept stays. Idempotent."""
        self._forget()
