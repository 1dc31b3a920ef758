"""Which schedules are due when, as one process has heard. Pure."""

from __future__ import annotations

import heapq
from typing import NamedTuple

from agent99.journal import Change, Entry, Snapshot
from agent99.schedules._schedule import Schedule, decode

_STALE_MAX = 1_024
"""Places that mean nothing any more; with more of them than others, the heap is made anew."""


class Due(NamedTuple):
    """A schedule whose moment comes, as it was when that was heard."""

    look_us: int
    id: str
    revision: int


class Agenda:
    """When each schedule is to be looked at next. What they say is not kept: only where they are.

    Invariant: each known schedule has a place in the heap under its last revision, or was taken and
    not put back; a place under another revision means nothing.
    """

    def __init__(self) -> None:
        self._known: dict[str, Due] = {}
        self._heap: list[Due] = []

    def __repr__(self) -> str:
        return f"Agenda(known={len(self._known)})"

    def __len__(self) -> int:
        return len(self._known)

    @property
    def look_us(self) -> int | None:
        """When the first one is to be looked at; None: there is none."""
        while self._heap and not self.is_current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0].look_us if self._heap else None

    def apply(self, news: Snapshot | Change) -> None:
        """Take note of what was heard."""
        if isinstance(news, Snapshot):
            self._known.clear()
            self._heap.clear()
            for entry in news.entries:
                self._put_entry(entry)
        elif news.kind == "put":
            self._put_entry(Entry(news.key, news.value, news.revision))
        else:
            self.forget(news.key)

    def note(self, schedule: Schedule, revision: int) -> None:
        """Take note of what was read or written here; what was heard may be newer already."""
        known = self._known.get(schedule.id)
        if known is None or revision > known.revision:
            self._put(Due(schedule.look_us, schedule.id, revision))

    def forget(self, schedule_id: str) -> None:
        """There is no such schedule any more."""
        self._known.pop(schedule_id, None)

    def is_current(self, due: Due) -> bool:
        """Tell whether nothing newer was heard of a schedule."""
        known = self._known.get(due.id)
        return known is not None and known.revision == due.revision

    def take(self, now_us: int, count_max: int) -> list[Due]:
        """Take what is to be looked at now, the earliest first."""
        taken: list[Due] = []
        while len(taken) < count_max and (look_us := self.look_us) is not None:
            if look_us > now_us:
                break
            taken.append(heapq.heappop(self._heap))
        return taken

    def put_off(self, due: Due, until_us: int) -> None:
        """Put back what was taken, for later; not if something newer was heard of it."""
        if self.is_current(due):
            self._put(due._replace(look_us=until_us))

    def _put_entry(self, entry: Entry) -> None:
        schedule = decode(entry.value)
        known = self._known.get(entry.key)
        if schedule is None or schedule.id != entry.key:
            self.forget(entry.key)
        elif known is None or known.revision != entry.revision:  # else it was noted here before
            self._put(Due(schedule.look_us, schedule.id, entry.revision))

    def _put(self, due: Due) -> None:
        self._known[due.id] = due
        heapq.heappush(self._heap, due)
        if len(self._heap) > 2 * len(self._known) + _STALE_MAX:
            # What was taken and is in hand is among them: it is found out of date, or put back.
            self._heap = [one for one in self._heap if self._known.get(one.id) == one]
            heapq.heapify(self._heap)
