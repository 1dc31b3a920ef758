"""When each record leaves its till: in the order of time, but for those held back. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, NamedTuple, TypeAlias

from agent99.systems.analytics._demo_retail import Line, Order, Retail

HOUR_US: Final = 3_600_000_000
HOLD_US_MIN: Final = 2 * HOUR_US
HOLD_US_MAX: Final = 30 * HOUR_US
"""For so long records are held back: the window of their hour, or of their day, is closed then."""
Record: TypeAlias = Line | Order


class Parcel(NamedTuple):
    """Records of a source that leave a till at once, in their order."""

    source: str
    till: int
    records: Sequence[Record]


class Schedule(NamedTuple):
    """What leaves when."""

    hours: Sequence[tuple[int, Sequence[Parcel]]]
    """By hour of the file's time, counted from the epoch: at its end they leave."""
    sent: dict[str, int]
    """Records, by source."""
    held: int
    """Records that are held back."""


def make_schedule(retail: Retail, *, late: float, seed: int) -> Schedule:
    """Return when which records leave; the same for the same seed.

    Args:
        late: The share that is held back, 0 to 1.
        seed: Which ones these are, and for how long.
    """
    hours: dict[int, list[Parcel]] = {}
    sent: dict[str, int] = {}
    held = 0
    sources: dict[str, Sequence[Sequence[Record]]]
    sources = {"lines": retail.lines, "orders": retail.orders}
    for source, tills in sources.items():
        sent[source] = sum(map(len, tills))
        for till, records in enumerate(tills):
            held += _add(hours, Parcel(source, till, records), late, f"{seed} {source} {till}")
    return Schedule(sorted(hours.items()), sent, held)


def _add(hours: dict[int, list[Parcel]], whole: Parcel, late: float, seed: str) -> int:
    """Add what a till sends of a source, hour by hour; returns how many are held back."""
    holds = list(_holds(len(whole.records), late, seed))
    dues = [
        (time_us(record) + hold_us, record)
        for record, hold_us in zip(whole.records, holds, strict=True)
    ]
    dues.sort(key=lambda due: due[0])  # stable: what leaves at one time keeps its order
    by_hour: dict[int, list[Record]] = {}
    for due_us, record in dues:
        by_hour.setdefault(due_us // HOUR_US, []).append(record)
    for hour, records in by_hour.items():
        hours.setdefault(hour, []).append(whole._replace(records=records))
    return sum(hold_us > 0 for hold_us in holds)


def _holds(count: int, late: float, seed: str) -> Iterator[int]:
    """Yield for how long each is held back, microseconds: most of them for 0."""
    for at in range(count):
        drawn = sha256(f"{seed} {at}".encode()).digest()
        if int.from_bytes(drawn[:8], "big") < late * 2**64:
            yield HOLD_US_MIN + int.from_bytes(drawn[8:16], "big") % (HOLD_US_MAX - HOLD_US_MIN)
        else:
            yield 0


def time_us(record: Record) -> int:
    """Return when it happened, microseconds since the epoch."""
    moment: datetime = record.sold_at if isinstance(record, Line) else record.placed_at
    return round(moment.timestamp() * 1e6)
