"""Who gets a message that arrived: the table of subscriptions of one connection."""

from __future__ import annotations

import msgspec

from agent99.wire._encoder import encode_sub
from agent99.wire._events import Events
from agent99.wire._port import Message, Receive


class Interest(msgspec.Struct, frozen=True):
    """What a subscription asks the server for."""

    pattern: bytes
    queue: bytes


class Routes:
    """Subscription ids, their receivers, and what must be asked for again after a reconnect.

    Invariant: every id in `_interests` has a receiver; one that drains has only the receiver.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._receivers: dict[bytes, Receive] = {}
        self.find = self._receivers.get
        """Return the receiver of a subscription id, or None."""
        self._interests: dict[bytes, Interest] = {}
        self._next_sid = 0

    def __repr__(self) -> str:
        return f"Routes(subscriptions={len(self._receivers)})"

    def count_unrouted(self, _message: Message) -> None:
        """Take a message that came after its subscription was ended."""
        self._events.drop("unsubscribed")

    def add(self, pattern: bytes, queue: bytes, receive: Receive) -> bytes:
        """Enter a subscription; returns its new id."""
        self._next_sid += 1
        sid = b"%d" % self._next_sid
        self._receivers[sid] = receive
        self._interests[sid] = Interest(pattern, queue)
        return sid

    def interests(self) -> tuple[tuple[bytes, Interest], ...]:
        """Return every subscription id that is asked for, in the order of subscribing."""
        return tuple(self._interests.items())

    def forget_interest(self, sid: bytes) -> Interest | None:
        """Stop asking for it, but deliver what comes; returns what was asked for."""
        return self._interests.pop(sid, None)

    def remove(self, sid: bytes) -> None:
        """Deliver nothing more to it."""
        self._interests.pop(sid, None)
        self._receivers.pop(sid, None)

    def clear(self) -> None:
        """Deliver nothing more to anybody."""
        self._interests.clear()
        self._receivers.clear()

    def encode_all(self) -> bytes:
        """Return the SUB lines of everything that is asked for."""
        return b"".join(
            encode_sub(interest.pattern, interest.queue, sid)
            for sid, interest in self._interests.items()
        )
