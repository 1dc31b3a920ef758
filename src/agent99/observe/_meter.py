"""Counts and latencies, from records; what shows them reads it now and then.

The library that shows them would take some microseconds for each request, and a request takes some
tens. Here a record costs a look-up and two additions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import msgspec

from agent99.observe._hooks import Hooks
from agent99.observe._records import (
    ConnectionChanged,
    HandlerBroke,
    InstanceEjected,
    Load,
    LoopBlocked,
    MessageDropped,
    RequestFinished,
    RequestRetried,
)

LATENCY_BOUNDS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
"""Upper bounds of the latency buckets in seconds, inclusive; one more bucket is above them."""
SERIES_MAX = 2_000
"""Sets of labels in each table; what comes beyond them is counted under `MORE`."""
MORE = "_more"

Labels = tuple[str, ...]


class Series(msgspec.Struct, frozen=True):
    """Requests of one set of labels, so far."""

    labels: Labels
    buckets: tuple[int, ...]
    """How many took so long: one for each of `LATENCY_BOUNDS_S`, then those above."""
    seconds: float
    """In all."""

    @property
    def count(self) -> int:
        """How many requests."""
        return sum(self.buckets)


class _Cell:
    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self.seconds = 0.0

    def __repr__(self) -> str:
        return f"_Cell({sum(self.buckets)})"


class Meter:
    """Counts what it is told, on the event loop; may be read from any thread.

    Invariant: a table has `SERIES_MAX` sets of labels at most, and one for the rest; no record is
    left uncounted.
    """

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._served: dict[Labels, _Cell] = {}
        self._asked: dict[Labels, _Cell] = {}
        self._dropped: dict[Labels, int] = {}
        self._retried: dict[Labels, int] = {}
        self._ejected: dict[Labels, int] = {}
        self._broke: dict[Labels, int] = {}
        self.reconnects = 0
        """How often the connection was made again."""
        self.blocks = 0
        """How often the event loop was blocked."""
        self.blocked_s = 0.0
        """How long, in all."""
        self.is_connected: bool | None = None
        """None until the connection's state was told."""
        self._forget: list[Callable[[], None]] = [
            hooks.listen_unguarded(RequestFinished, self._on_finished),
            hooks.listen_unguarded(MessageDropped, self._on_dropped),
            hooks.listen_unguarded(RequestRetried, self._on_retried),
            hooks.listen_unguarded(InstanceEjected, self._on_ejected),
            hooks.listen_unguarded(HandlerBroke, self._on_broke),
            hooks.listen_unguarded(ConnectionChanged, self._on_connection),
            hooks.listen_unguarded(LoopBlocked, self._on_blocked),
        ]

    def __repr__(self) -> str:
        return f"Meter(served={len(self._served)}, asked={len(self._asked)})"

    def served(self) -> list[Series]:
        """Return what instances here served: `(kind, agent, operation, code)`."""
        return _series(self._served)

    def asked(self) -> list[Series]:
        """Return what was asked from here: `(target, operation, code)`."""
        return _series(self._asked)

    def dropped(self) -> dict[Labels, int]:
        """Return the drops: `(agent, reason)`."""
        return self._dropped.copy()

    def retried(self) -> dict[Labels, int]:
        """Return the retries: `(target, operation, code)`."""
        return self._retried.copy()

    def ejected(self) -> dict[Labels, int]:
        """Return how often instances were left out: `(agent,)`."""
        return self._ejected.copy()

    def broke(self) -> dict[Labels, int]:
        """Return the operations that broke: `(agent, operation)`."""
        return self._broke.copy()

    def loads(self) -> list[Load]:
        """Return how much each instance here has to do now."""
        return self._hooks.loads()

    def close(self) -> None:
        """Listen no longer; the counts stay. Idempotent."""
        for forget in self._forget:
            forget()

    def _on_finished(self, record: RequestFinished) -> None:
        key: Labels
        if record.side == "callee":
            table = self._served
            key = (record.kind, record.agent, record.operation, record.code)
        else:
            table = self._asked
            key = (record.target, record.operation, record.code)
        cell = table.get(key)
        if cell is None:
            key = _bounded(table, key)
            cell = table.get(key) or table.setdefault(key, _Cell())
        seconds = record.duration_s
        cell.seconds += seconds
        cell.buckets[bisect_left(LATENCY_BOUNDS_S, seconds)] += 1

    def _on_dropped(self, record: MessageDropped) -> None:
        _add(self._dropped, (record.agent, record.reason), record.count)

    def _on_retried(self, record: RequestRetried) -> None:
        _add(self._retried, (record.target, record.operation, record.code), 1)

    def _on_ejected(self, record: InstanceEjected) -> None:
        if not record.is_back:
            _add(self._ejected, (record.agent,), 1)

    def _on_broke(self, record: HandlerBroke) -> None:
        _add(self._broke, (record.agent, record.operation), 1)

    def _on_connection(self, record: ConnectionChanged) -> None:
        self.is_connected = record.state == "connected"
        self.reconnects = record.reconnects

    def _on_blocked(self, record: LoopBlocked) -> None:
        self.blocks += 1
        self.blocked_s += record.lag_s


def _add(table: dict[Labels, int], key: Labels, count: int) -> None:
    key = key if key in table else _bounded(table, key)
    table[key] = table.get(key, 0) + count


def _bounded(table: dict[Labels, int] | dict[Labels, _Cell], key: Labels) -> Labels:
    """Return the key under which something new is counted."""
    return key if len(table) < SERIES_MAX else (MORE,) * len(key)


def _series(table: dict[Labels, _Cell]) -> list[Series]:
    # A copy is made in one go, so that the event loop may go on counting meanwhile.
    return [
        Series(labels, tuple(cell.buckets), cell.seconds) for labels, cell in table.copy().items()
    ]
