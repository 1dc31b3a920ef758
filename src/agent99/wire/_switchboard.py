"""The inside of the memory broker: who listens, and one queue for everything that is delivered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from agent99.wire._matching import InterestTable
from agent99.wire._port import Message

_NO_RESPONDERS = b"NATS/1.0 503\r\n\r\n"


class Station(Protocol):
    """A connection, as the switchboard sees it."""

    def delivery(self, sid: bytes, message: Message) -> Callable[[], None]:
        """Return the call that delivers a message to one of its subscriptions."""
        ...


Target = tuple[Station, bytes]
"""A connection, and the id of one of its subscriptions."""


class Switchboard:
    """Settles who gets a message, and delivers in the order of sending.

    Invariant: a call of `_pump` is scheduled or under way if and only if the queue is not empty.
    """

    def __init__(self, draw: Callable[[], float]) -> None:
        self._interests: InterestTable[Target] = InterestTable(draw)
        self._queue: deque[Callable[[], None]] = deque()

    def __repr__(self) -> str:
        return f"Switchboard(queued={len(self._queue)})"

    def add_interest(self, pattern: bytes, queue: bytes, target: Target) -> None:
        """Deliver to the target from now on."""
        self._interests.add(pattern, queue, target)

    def remove_interest(self, pattern: bytes, target: Target) -> None:
        """Deliver nothing new to the target."""
        self._interests.remove(pattern, target)

    def send(self, source: Station, message: Message) -> None:
        """Take a message, or tell its source that nobody listens."""
        targets = self._interests.find(message.subject)
        if not targets and message.reply:
            message = Message(message.reply, b"", b"", _NO_RESPONDERS)
            targets = [to for to in self._interests.find(message.subject) if to[0] is source]
        for station, sid in targets:
            self.enqueue(station.delivery(sid, message))

    def enqueue(self, call: Callable[[], None]) -> None:
        """Make a call after everything that waits already; it must not raise."""
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._pump)
        self._queue.append(call)

    def _pump(self) -> None:
        """Make the calls that wait now; what they add comes in the next turn."""
        for _ in range(len(self._queue)):
            # It leaves the queue afterwards, so that what it adds does not schedule a second pump.
            self._queue[0]()
            self._queue.popleft()
        if self._queue:
            asyncio.get_running_loop().call_soon(self._pump)
