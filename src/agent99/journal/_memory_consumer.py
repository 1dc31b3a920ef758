"""Consumers of the memory journal: the rules of `ConsumerConfig`, on dictionaries."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from agent99.clock import Clock, TimerHandle
from agent99.journal._grammar import matches
from agent99.journal._hands import Verdict
from agent99.journal._port_consumers import ConsumerConfig, ConsumerState
from agent99.journal._port_streams import Record


class Kept(msgspec.Struct, frozen=True):
    """A record and what the stream knows of it."""

    record: Record
    message_id: str
    stored_s: float
    """Monotonic: ages are measured with it."""


class Source(Protocol):
    """The stream behind a consumer."""

    def at(self, sequence: int) -> Kept | None:
        """Return the record of a sequence."""
        ...

    def following(self, sequence: int, fits: Callable[[str], bool]) -> Kept | None:
        """Return the first record at or past a sequence whose subject fits."""
        ...

    def count(self, sequence: int, fits: Callable[[str], bool]) -> int:
        """Return how many records at or past a sequence fit."""
        ...

    def note_finished(self, sequence: int) -> None:
        """Take note that a consumer has no more use for a record."""
        ...

    def forget(self, consumer: MemoryConsumer) -> None:
        """Remove a consumer that nobody has used for long."""
        ...


class Taker(Protocol):
    """Somebody who consumes."""

    def room(self) -> int:
        """Return how many more deliveries he takes."""
        ...

    def take(self, kept: Kept, attempt: int) -> None:
        """Take a delivery."""
        ...

    def lose(self) -> None:
        """Learn that the consumer was deleted."""
        ...


class _Flight(msgspec.Struct):
    """A message that was delivered and is not finished."""

    attempt: int
    due_s: float
    """When it comes again; infinity: it waits for somebody who takes it."""


class MemoryConsumer:
    """One consumer, from its start.

    Invariant: every message before `_next` that fits is in `_flights`, or finished, or was
    delivered as often as is allowed; whatever in `_flights` waits for a time is in `_due` with it.
    """

    def __init__(self, config: ConsumerConfig, source: Source, clock: Clock, start: int) -> None:
        self.config = config
        self._source = source
        self._clock = clock
        self._next = start
        self._delivered = start - 1
        self._flights: dict[int, _Flight] = {}
        self._again: deque[int] = deque()
        self._due: list[tuple[float, int]] = []
        self._timer: TimerHandle | None = None
        self._takers: deque[Taker] = deque()
        self._rest()

    def __repr__(self) -> str:
        return f"MemoryConsumer({self.config.name!r}, in_flight={len(self._flights)})"

    def change(self, config: ConsumerConfig) -> None:
        """Fit another configuration; where it starts does not count any more."""
        begin = self.config
        self.config = msgspec.structs.replace(
            config, start=begin.start, from_sequence=begin.from_sequence, from_us=begin.from_us
        )
        self.offer()

    def join(self, taker: Taker) -> None:
        """Deliver to somebody, too."""
        self._takers.append(taker)
        self.offer()

    def leave(self, taker: Taker) -> None:
        """Deliver to him no more."""
        if taker in self._takers:
            self._takers.remove(taker)
        self._rest()

    def end(self) -> None:
        """The consumer is deleted: whoever consumes learns of it."""
        takers, self._takers = self._takers, deque()
        for taker in takers:
            taker.lose()
        self._flights.clear()
        if self._timer is not None:
            self._timer.cancel()

    def offer(self) -> None:
        """Deliver what there is to those who have room, in turns."""
        while True:
            taker = next((each for each in self._takers if each.room() > 0), None)
            found = None if taker is None else self._repeated() or self._new()
            if taker is None or found is None:
                return
            self._takers.remove(taker)
            self._takers.append(taker)
            sequence = found.record.sequence
            flight = self._flights[sequence]
            self._wait(sequence, self.config.ack_wait_s)
            taker.take(found, flight.attempt)

    def settle(self, sequence: int, verdict: Verdict) -> None:
        """Take note of what became of a delivery; one that is not in flight is over already."""
        flight = self._flights.get(sequence)
        if flight is not None and verdict.kind != "retry":
            del self._flights[sequence]
            self._source.note_finished(sequence)
        elif flight is not None and verdict.delay_s > 0:
            self._wait(sequence, verdict.delay_s)
        elif flight is not None and flight.due_s != math.inf:
            flight.due_s = math.inf
            self._again.append(sequence)
        self.offer()

    def keep(self, sequence: int) -> None:
        """Begin the time of a delivery anew."""
        flight = self._flights.get(sequence)
        if flight is not None and flight.due_s != math.inf:
            self._wait(sequence, self.config.ack_wait_s)

    def state(self) -> ConsumerState:
        """Return how far it is."""
        return ConsumerState(
            config=self.config,
            pending=self._source.count(self._next, self._fits),
            in_flight=len(self._flights),
            redelivered=sum(flight.attempt > 1 for flight in self._flights.values()),
            delivered_sequence=self._delivered,
            acknowledged_sequence=min(self._flights, default=self._delivered + 1) - 1,
        )

    def _fits(self, subject: str) -> bool:
        patterns = self.config.subjects
        return not patterns or any(matches(pattern, subject) for pattern in patterns)

    def _repeated(self) -> Kept | None:
        while self._again:
            sequence = self._again.popleft()
            flight = self._flights.get(sequence)
            if flight is None or flight.due_s != math.inf:
                continue  # finished, or put off, in the meantime
            found = self._source.at(sequence)
            if found is None or flight.attempt == self.config.deliveries_max:
                del self._flights[sequence]
                continue
            flight.attempt += 1
            return found
        return None

    def _new(self) -> Kept | None:
        if len(self._flights) == self.config.in_flight_max:
            return None
        found = self._source.following(self._next, self._fits)
        if found is not None:
            self._delivered = found.record.sequence
            self._next = self._delivered + 1
            self._flights[self._delivered] = _Flight(1, math.inf)
        return found

    def _wait(self, sequence: int, delay_s: float) -> None:
        """Let a flight come again after so long."""
        due_s = self._clock.monotonic_s() + delay_s
        self._flights[sequence].due_s = due_s
        heapq.heappush(self._due, (due_s, sequence))
        if self._due[0] == (due_s, sequence):
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(0.0, self._due[0][0] - self._clock.monotonic_s())
        self._timer = self._clock.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock.monotonic_s()
        while self._due and self._due[0][0] <= now:
            due_s, sequence = heapq.heappop(self._due)
            flight = self._flights.get(sequence)
            if flight is not None and flight.due_s == due_s:
                flight.due_s = math.inf
                self._again.append(sequence)
        if self._due:
            self._set_timer()
        self.offer()

    def _rest(self) -> None:
        """Look in `inactive_s` whether there is still nobody who consumes."""
        if self.config.inactive_s and not self._takers:
            self._clock.call_later(self.config.inactive_s, self._retire)

    def _retire(self) -> None:
        if self._flights:
            self._rest()
        elif not self._takers:
            self._source.forget(self)
