"""What waits to be stored: records that are gathered into batches, one after the other. Pure.

A lane is what is stored in order: a shard of a source. Its records are gathered until there are
enough of them, or the first of them cannot wait longer; what comes as a batch is one at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from agent99.errors import UsageError

T = TypeVar("T")


class BufferBounds(msgspec.Struct, frozen=True, kw_only=True):
    """When a batch is full, and how much may wait.

    Raises:
        UsageError: a bound is below 1.
    """

    batch_records_max: int = 100
    """Records that are gathered into one batch."""
    batch_bytes_max: int = 256 * 1024
    """Bytes of records, as they came, that are gathered into one batch."""
    buffer_records_max: int = 100_000
    """Records that are not stored yet, those under way included."""
    buffer_bytes_max: int = 64 * 1024**2
    """Their bytes, as they came."""

    def __post_init__(self) -> None:
        for name in BufferBounds.__struct_fields__:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; at least 1")


class Parcel(msgspec.Struct, Generic[T], eq=False):
    """What is stored at once."""

    lane: str
    items: list[T]
    """In the order in which they came; one, where it came as a batch."""
    rows: int
    bytes: int
    due_s: float
    """When it is to be stored at the latest, by the monotonic clock."""
    number: int
    """Counts the parcels of a buffer: the lowest one is the oldest."""


class _Lane(Generic[T]):
    """The parcels of one lane."""

    __slots__ = ("gathering", "ready")

    def __init__(self) -> None:
        self.ready: deque[Parcel[T]] = deque()
        """Those that can be stored, in their order."""
        self.gathering: Parcel[T] | None = None
        """The one that records are added to."""

    def __repr__(self) -> str:
        return f"_Lane(ready={len(self.ready)}, gathering={self.gathering is not None})"

    def seal(self) -> None:
        """Add nothing more to what is gathered."""
        if self.gathering is not None:
            self.ready.append(self.gathering)
            self.gathering = None


class Buffer(Generic[T]):
    """Parcels by lane, and how much they are.

    Invariant: `records` and `bytes` are the sums over all parcels that were neither `stored` nor
    dropped; a lane that is known has a parcel.
    """

    def __init__(self, bounds: BufferBounds) -> None:
        self.bounds = bounds
        self.records = 0
        self.bytes = 0
        self._lanes: dict[str, _Lane[T]] = {}
        self._number = 0

    def __repr__(self) -> str:
        return f"Buffer(records={self.records}, bytes={self.bytes}, lanes={len(self._lanes)})"

    def fits(self, rows: int, size: int) -> bool:
        """Tell whether so many records of so many bytes may wait as well."""
        bounds = self.bounds
        return (
            self.records + rows <= bounds.buffer_records_max
            and self.bytes + size <= bounds.buffer_bytes_max
        )

    def add(self, lane: str, item: T, size: int, due_s: float) -> None:
        """Gather a record, which is to be stored by `due_s`."""
        of = self._lane(lane)
        parcel = of.gathering
        if parcel is not None and parcel.bytes + size > self.bounds.batch_bytes_max:
            of.seal()
            parcel = None
        if parcel is None:
            parcel = of.gathering = self._parcel(lane, due_s)
        parcel.items.append(item)
        parcel.rows += 1
        parcel.bytes += size
        parcel.due_s = min(parcel.due_s, due_s)
        self.records += 1
        self.bytes += size
        if parcel.rows >= self.bounds.batch_records_max:
            of.seal()

    def add_batch(self, lane: str, item: T, rows: int, size: int) -> None:
        """Take in a batch, behind all that the lane has: that is due now, too.

        Were it stored before records that came before it, these might be late.
        """
        of = self._lane(lane)
        of.seal()
        parcel = self._parcel(lane, 0.0)
        parcel.items.append(item)
        parcel.rows, parcel.bytes = rows, size
        of.ready.append(parcel)
        self.records += rows
        self.bytes += size

    def due_s(self, lane: str) -> float | None:
        """Return when a lane's next parcel is due: in the past, if it is. None: it has none."""
        of = self._lanes.get(lane)
        if of is None:
            return None
        if of.ready:
            return 0.0
        return None if of.gathering is None else of.gathering.due_s

    def next(self, lane: str, now_s: float) -> Parcel[T] | None:
        """Take a lane's next parcel that is due; it counts until it is `stored`."""
        of = self._lanes.get(lane)
        if of is None:
            return None
        if of.gathering is not None and of.gathering.due_s <= now_s:
            of.seal()
        parcel = of.ready.popleft() if of.ready else None
        self._forget_empty(lane, of)
        return parcel

    def stored(self, parcel: Parcel[T]) -> None:
        """Give back the room of a parcel that was taken."""
        self.records -= parcel.rows
        self.bytes -= parcel.bytes

    def drop_oldest(self) -> Parcel[T] | None:
        """Take out the oldest of the lanes' next parcels; None: there is none."""
        heads = (of.ready[0] if of.ready else of.gathering for of in self._lanes.values())
        oldest = min(filter(None, heads), key=lambda parcel: parcel.number, default=None)
        if oldest is None:
            return None
        of = self._lanes[oldest.lane]
        if of.gathering is oldest:
            of.gathering = None
        else:
            of.ready.popleft()
        self._forget_empty(oldest.lane, of)
        self.stored(oldest)
        return oldest

    def flush(self) -> list[T]:
        """Make all that was gathered due now; returns what waits, but for what was taken."""
        for of in self._lanes.values():
            of.seal()
        return [item for parcel in self._waiting() for item in parcel.items]

    # --- inside -----------------------------------------------------------------------------------

    def _parcel(self, lane: str, due_s: float) -> Parcel[T]:
        self._number += 1
        return Parcel(lane, [], 0, 0, due_s, self._number)

    def _lane(self, lane: str) -> _Lane[T]:
        of = self._lanes.get(lane)
        if of is None:
            of = self._lanes[lane] = _Lane()
        return of

    def _forget_empty(self, lane: str, of: _Lane[T]) -> None:
        if not of.ready and of.gathering is None:
            del self._lanes[lane]

    def _waiting(self) -> Iterator[Parcel[T]]:
        for of in self._lanes.values():
            yield from of.ready
            if of.gathering is not None:
                yield of.gathering
