"""One stream of the memory journal: the rules of `StreamConfig`, on lists."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

import msgspec

from agent99.clock import Clock
from agent99.errors import JournalError, PayloadTooLargeError, StreamFullError, WrongSequenceError
from agent99.journal._grammar import begins_at_first, matches, overlap
from agent99.journal._memory_consumer import Kept, MemoryConsumer
from agent99.journal._port_consumers import ConsumerConfig
from agent99.journal._port_streams import Backlog, Record, Stored, StreamConfig, StreamState


class Append(msgspec.Struct, frozen=True):
    """What is to be stored, and on what conditions."""

    subject: str
    payload: bytes
    message_id: str
    expected_sequence: int | None
    compared: str
    """The pattern whose last sequence is expected."""


class MemoryStream:
    """What one stream holds.

    Invariant: `_kept` is in order of sequence, and each record of it stands in the list of its
    subject, in the same order.
    """

    def __init__(self, config: StreamConfig, clock: Clock) -> None:
        self.config = config
        self.consumers: dict[str, MemoryConsumer] = {}
        self.listeners: set[Callable[[], None]] = set()
        """Are called when a record has come, and when the stream ends."""
        self._clock = clock
        self._kept: list[Kept] = []
        self._by_subject: dict[str, list[Kept]] = {}
        self._ids: dict[str, int] = {}
        self._id_times: deque[tuple[float, str]] = deque()
        self._bytes = 0
        self._sequence = 0

    def __repr__(self) -> str:
        return f"MemoryStream({self.config.name!r}, messages={len(self._kept)})"

    def change(self, config: StreamConfig) -> None:
        """Fit another configuration.

        Raises:
            JournalError: its retention is another.
        """
        if config.retention != self.config.retention:
            raise JournalError("the retention of a stream cannot be changed", server_code=10052)
        is_permanent = config.is_permanent or self.config.is_permanent
        self.config = msgspec.structs.replace(config, is_permanent=is_permanent)

    def end(self) -> None:
        """The stream is deleted, and its consumers with it."""
        for consumer in tuple(self.consumers.values()):
            self.forget(consumer)
        self._tell()

    def takes(self, subject: str) -> bool:
        """Tell whether the stream stores messages of `subject`."""
        return any(matches(pattern, subject) for pattern in self.config.subjects)

    def append(self, append: Append) -> Stored:
        """Store a message, or find it stored.

        Raises:
            WrongSequenceError, StreamFullError, PayloadTooLargeError
        """
        now = self._clock.monotonic_s()
        self._forget_old(now)
        known = self._ids.get(append.message_id) if append.message_id else None
        if known is not None:
            return Stored(self.config.name, known, duplicate=True)
        if append.expected_sequence is not None:
            repeated = self._compare(append, append.expected_sequence)
            if repeated is not None:
                return repeated
        self._check_room(append)
        self._sequence += 1
        record = Record(append.subject, self._sequence, append.payload, self._clock.wall_us())
        kept = Kept(record, append.message_id, now)
        self._kept.append(kept)
        self._by_subject.setdefault(append.subject, []).append(kept)
        self._bytes += _size(record)
        if append.message_id:
            self._ids[append.message_id] = self._sequence
            self._id_times.append((now, append.message_id))
        for consumer in self.consumers.values():
            consumer.offer()
        self._tell()
        return Stored(self.config.name, record.sequence)

    def last(self, subject: str) -> Record | None:
        """Return the subject's last record."""
        kept = self._fitting(subject)
        return kept[-1].record if kept else None

    def held(self, pattern: str, from_sequence: int, from_us: int | None) -> tuple[Record, ...]:
        """Return the records that match, in order, from a sequence or a time on."""
        kept = self._fitting(pattern)
        start = bisect_left(kept, from_sequence, key=_sequence_of)
        return tuple(
            each.record
            for each in kept[start:]
            if from_us is None or each.record.stored_us >= from_us
        )

    def on(
        self, sequence: int, fits: Callable[[str], bool], count_max: int
    ) -> tuple[tuple[Record, ...], int]:
        """Return the next records that fit, from a sequence on, and where to go on after them."""
        records = tuple(kept.record for kept in islice(self._from(sequence, fits), count_max))
        if len(records) == count_max:
            return records, records[-1].sequence + 1
        return records, max(sequence, self._sequence + 1)

    def backlog(self, patterns: tuple[str, ...], from_sequence: int) -> Backlog:
        """Count the records that match, from a sequence on."""
        kept = list(
            self._from(from_sequence, lambda subject: any(matches(p, subject) for p in patterns))
        )
        return Backlog(len(kept), kept[0].record.stored_us if kept else None)

    def delete(self, sequence: int) -> None:
        """Delete one record; to delete none is fine.

        Raises:
            JournalError: the stream is permanent.
        """
        if self.config.is_permanent:
            raise JournalError("message delete not permitted", server_code=10057)
        kept = self.at(sequence)
        if kept is None:
            return
        del self._kept[bisect_left(self._kept, sequence, key=_sequence_of)]
        subject = kept.record.subject
        self._by_subject[subject].remove(kept)
        if not self._by_subject[subject]:
            del self._by_subject[subject]
        self._bytes -= _size(kept.record)

    def state(self) -> StreamState:
        """Return what it holds now."""
        self._forget_old(self._clock.monotonic_s())
        first = self._kept[0].record.sequence if self._kept else self._sequence + 1
        return StreamState(
            config=self.config,
            messages=len(self._kept),
            bytes=self._bytes,
            first_sequence=first,
            last_sequence=self._sequence,
        )

    # --- consumers --------------------------------------------------------------------------------

    def ensure_consumer(self, config: ConsumerConfig) -> MemoryConsumer:
        """Return the consumer: made if it is not there, else changed to fit, but for its start.

        Raises:
            JournalError: the stream is for work, and another consumer has a part of it, or it is
                not to begin at the first message.
        """
        is_work = self.config.retention == "work"
        others = [each for each in self.consumers.values() if each.config.name != config.name]
        if is_work and any(_overlap(config, other.config) for other in others):
            raise JournalError("consumers of a stream for work must not overlap", server_code=10100)
        known = self.consumers.get(config.name)
        if known is not None:
            known.change(config)
            return known
        if is_work and not begins_at_first(config):
            raise JournalError("a stream for work is consumed from its start", server_code=10101)
        consumer = MemoryConsumer(config, self, self._clock, self._start_of(config))
        self.consumers[config.name] = consumer
        return consumer

    def forget(self, consumer: MemoryConsumer) -> None:
        """Remove a consumer."""
        if self.consumers.get(consumer.config.name) is consumer:
            del self.consumers[consumer.config.name]
            consumer.end()

    def at(self, sequence: int) -> Kept | None:
        """Return the record of a sequence."""
        self._forget_old(self._clock.monotonic_s())
        place = bisect_left(self._kept, sequence, key=_sequence_of)
        found = self._kept[place] if place < len(self._kept) else None
        return found if found is not None and found.record.sequence == sequence else None

    def following(self, sequence: int, fits: Callable[[str], bool]) -> Kept | None:
        """Return the first record at or past a sequence whose subject fits."""
        return next(self._from(sequence, fits), None)

    def count(self, sequence: int, fits: Callable[[str], bool]) -> int:
        """Return how many records at or past a sequence fit."""
        return sum(1 for _ in self._from(sequence, fits))

    def note_finished(self, sequence: int) -> None:
        """Let go of a record that was for one consumer's work."""
        if self.config.retention == "work":
            self.delete(sequence)

    # --- inside -----------------------------------------------------------------------------------

    def _tell(self) -> None:
        for listen in tuple(self.listeners):
            listen()

    def _from(self, sequence: int, fits: Callable[[str], bool]) -> Iterator[Kept]:
        self._forget_old(self._clock.monotonic_s())
        for place in range(bisect_left(self._kept, sequence, key=_sequence_of), len(self._kept)):
            if fits(self._kept[place].record.subject):
                yield self._kept[place]

    def _fitting(self, pattern: str) -> list[Kept]:
        self._forget_old(self._clock.monotonic_s())
        if "*" not in pattern and ">" not in pattern:
            return self._by_subject.get(pattern, [])
        return [each for each in self._kept if matches(pattern, each.record.subject)]

    def _start_of(self, config: ConsumerConfig) -> int:
        if config.from_sequence is not None:
            return config.from_sequence
        if config.from_us is not None:
            records = self.held(">", 1, config.from_us)
            return records[0].sequence if records else self._sequence + 1
        return 1 if config.start == "first" else self._sequence + 1

    def _compare(self, append: Append, expected: int) -> Stored | None:
        """Check the last sequence; a repeat of the append that won is a duplicate."""
        kept = self._fitting(append.compared)
        actual = kept[-1].record.sequence if kept else 0
        if actual == expected:
            return None
        after = next((each for each in kept if each.record.sequence > expected), None)
        if append.message_id and after is not None and after.message_id == append.message_id:
            return Stored(self.config.name, after.record.sequence, duplicate=True)
        raise WrongSequenceError(append.compared, expected, actual)

    def _check_room(self, append: Append) -> None:
        config = self.config
        size = len(append.payload) + len(append.message_id)
        if -1 != config.message_bytes_max < size:
            raise PayloadTooLargeError("message", size, config.message_bytes_max)
        if -1 != config.messages_max <= len(self._kept):
            raise StreamFullError(f"stream {config.name!r}: maximum messages exceeded")
        size = len(append.subject) + len(append.payload)
        if -1 != config.bytes_max < self._bytes + size:
            raise StreamFullError(f"stream {config.name!r}: maximum bytes exceeded")

    def _forget_old(self, now: float) -> None:
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
            self._bytes -= _size(each.record)
        del self._kept[:young]


def _size(record: Record) -> int:
    return len(record.subject) + len(record.payload)


def _sequence_of(kept: Kept) -> int:
    return kept.record.sequence


def _overlap(one: ConsumerConfig, two: ConsumerConfig) -> bool:
    return any(
        overlap(mine, other) for mine in one.subjects or (">",) for other in two.subjects or (">",)
    )
