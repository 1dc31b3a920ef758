"""What instances do per second, from two of their answers to `status`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec


class Counted(msgspec.Struct, frozen=True):
    """Counts of one kind of message, as far as rates need them."""

    requests: int = 0
    errors: int = 0
    refused: int = 0
    in_flight: int = 0
    waiting: int = 0
    processing_ns: int = 0
    dropped: dict[str, int] = {}


class Connected(msgspec.Struct, frozen=True):
    """Of the process's connection."""

    reconnects: int = 0


class Said(msgspec.Struct, frozen=True):
    """An instance's answer to `status`, as far as rates need it."""

    state: str
    uptime_s: float
    operations: Counted = Counted()
    events: Counted = Counted()
    control: Counted = Counted()
    connection: Connected = Connected()

    @property
    def in_flight(self) -> int:
        """Operations and event handlers that run now."""
        return self.operations.in_flight + self.events.in_flight

    @property
    def waiting(self) -> int:
        """Those that wait for a place."""
        return self.operations.waiting + self.events.waiting

    @property
    def dropped(self) -> Counter[str]:
        """Messages that it never answered, by reason."""
        return sum_drops(kind.dropped for kind in (self.operations, self.events, self.control))


class Rates(msgspec.Struct, frozen=True):
    """What one instance, or several, did between two looks."""

    requests: float = 0.0
    """Requests taken on in a second."""
    events: float = 0.0
    """Events taken on in a second."""
    errors: float = 0.0
    """Of both, those that ended with an error, in a second."""
    refused: float = 0.0
    """Requests refused at the door in a second."""
    ended: float = 0.0
    """Requests and events that ended in a second, however."""
    busy_s: float = 0.0
    """Seconds that those took in all, in a second."""

    @property
    def taken(self) -> float:
        """Requests and events taken on in a second."""
        return self.requests + self.events

    @property
    def mean_s(self) -> float | None:
        """How long those that ended took on average; None if none did."""
        return self.busy_s / self.ended if self.ended else None


def read_status(answer: Any) -> Said | None:
    """Return what an answer to `status` says; None if it cannot be read."""
    try:
        return msgspec.convert(answer, Said)
    except msgspec.ValidationError:
        return None


def rates(before: Said | None, after: Said, seconds: float) -> Rates | None:
    """Return what an instance did between two answers; None if that cannot be known.

    Args:
        before: The earlier answer of the same instance, if there is one.
        after: The later.
        seconds: Between the two, by the instance's own clock.
    """
    if before is None or seconds <= 0:
        return None

    def grown(was: int, is_now: int) -> float:
        return max(0, is_now - was) / seconds  # whatever it says: nothing is undone

    pairs = ((before.operations, after.operations), (before.events, after.events))
    return Rates(
        requests=grown(before.operations.requests, after.operations.requests),
        events=grown(before.events.requests, after.events.requests),
        errors=sum(grown(was.errors, now.errors) for was, now in pairs),
        refused=grown(before.operations.refused, after.operations.refused),
        ended=sum(grown(_ended(was), _ended(now)) for was, now in pairs),
        busy_s=sum(grown(was.processing_ns, now.processing_ns) for was, now in pairs) / 1e9,
    )


def sum_rates(several: Iterable[Rates]) -> Rates:
    """Return what several instances did together."""
    found = list(several)
    fields = Rates.__struct_fields__
    return Rates(**{field: sum(getattr(one, field) for one in found) for field in fields})


def sum_drops(several: Iterable[Mapping[str, int]]) -> Counter[str]:
    """Return what several dropped together, by reason."""
    total: Counter[str] = Counter()
    for one in several:
        total.update(one)
    return total


def _ended(counted: Counted) -> int:
    return max(0, counted.requests - counted.in_flight)
