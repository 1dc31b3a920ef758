"""One stream of the memory journal: the rules of `StreamConfig`, on lists."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

import msgspec

from agent99.clock import Clock
from agent99.errors import StreamFullError, WrongSequenceError
from agent99.journal._grammar import matches
from agent99.journal._port import Record, Stored, StreamConfig


class Kept(msgspec.Struct, frozen=True):
    """A record and what the stream knows of it."""

    record: Record
    message_id: str
    stored_s: float
    """Monotonic: ages are measured with it."""


class MemoryStream:
    """What one stream holds.

    Invariant: `_kept` is in order of sequence, and each record of it stands in the list of its
    subject, in the same order.
    """

    def __init__(self, config: StreamConfig, clock: Clock) -> None:
        self.config = config
        self._clock = clock
        self._kept: list[Kept] = []
        self._by_subject: dict[str, list[Kept]] = {}
        self._ids: dict[str, int] = {}
        self._id_times: deque[tuple[float, str]] = deque()
        self._bytes = 0
        self._sequence = 0

    def __repr__(self) -> str:
        return f"MemoryStream({self.config.name!r}, messages={len(self._kept)})"

    def takes(self, subject: str) -> bool:
        """Tell whether the stream stores messages of `subject`."""
        return any(matches(pattern, subject) for pattern in self.config.subjects)

    def append(
        self, subject: str, payload: bytes, message_id: str, expected_sequence: int | None
    ) -> Stored:
        """Store a message, or find it stored.

        Raises:
            WrongSequenceError, StreamFullError
        """
        now = self._clock.monotonic_s()
        self._forget(now)
        known = self._ids.get(message_id) if message_id else None
        if known is not None:
            return Stored(self.config.name, known, duplicate=True)
        if expected_sequence is not None:
            repeated = self._compare(subject, expected_sequence, message_id)
            if repeated is not None:
                return repeated
        size = len(subject) + len(payload)
        self._check_room(size)
        self._sequence += 1
        record = Record(subject, self._sequence, payload, self._clock.wall_us())
        kept = Kept(record, message_id, now)
        self._kept.append(kept)
        self._by_subject.setdefault(subject, []).append(kept)
        self._bytes += size
        if message_id:
            self._ids[message_id] = self._sequence
            self._id_times.append((now, message_id))
        return Stored(self.config.name, self._sequence)

    def last(self, subject: str) -> Record | None:
        """Return the subject's last record."""
        self._forget(self._clock.monotonic_s())
        kept = self._by_subject.get(subject)
        return kept[-1].record if kept else None

    def held(self, pattern: str, from_sequence: int) -> tuple[Record, ...]:
        """Return the records that match, in order."""
        self._forget(self._clock.monotonic_s())
        exact = "*" not in pattern and ">" not in pattern
        kept = self._by_subject.get(pattern, []) if exact else self._kept
        start = bisect_left(kept, from_sequence, key=lambda each: each.record.sequence)
        return tuple(
            each.record for each in kept[start:] if exact or matches(pattern, each.record.subject)
        )

    def _compare(self, subject: str, expected: int, message_id: str) -> Stored | None:
        """Check the subject's last sequence; a repeat of the append that won is a duplicate."""
        kept = self._by_subject.get(subject, [])
        actual = kept[-1].record.sequence if kept else 0
        if actual == expected:
            return None
        after = next((each for each in kept if each.record.sequence > expected), None)
        if message_id and after is not None and after.message_id == message_id:
            return Stored(self.config.name, after.record.sequence, duplicate=True)
        raise WrongSequenceError(subject, expected, actual)

    def _check_room(self, size: int) -> None:
        config = self.config
        if config.messages_max != -1 and len(self._kept) >= config.messages_max:
            raise StreamFullError(f"stream {config.name!r}: maximum messages exceeded")
        if config.bytes_max != -1 and self._bytes + size > config.bytes_max:
            raise StreamFullError(f"stream {config.name!r}: maximum bytes exceeded")

    def _forget(self, now: float) -> None:
        """Drop records past their age, and message ids past their window."""
        while self._id_times and now - self._id_times[0][0] >= self.config.duplicate_window_s:
            del self._ids[self._id_times.popleft()[1]]
        age_s_max = self.config.age_s_max or float("inf")
        young = 0
        while young < len(self._kept) and now - self._kept[young].stored_s >= age_s_max:
            young += 1
        for each in self._kept[:young]:
            subject = each.record.subject
            self._by_subject[subject].pop(0)
            if not self._by_subject[subject]:
                del self._by_subject[subject]
            self._bytes -= len(subject) + len(each.record.payload)
        del self._kept[:young]
