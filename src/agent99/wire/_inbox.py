"""Answers: one wildcard subscription, a random token per request, deadlines on a shared timer."""

from __future__ import annotations

import asyncio
from asyncio import Future

from agent99.clock import Clock, DeadlineSlot, DeadlineSlots
from agent99.errors import (
    Agent99Error,
    ClosedError,
    DeadlineExceededError,
    NoRespondersError,
    PermissionDeniedError,
)
from agent99.ids import Ids
from agent99.wire._events import Events
from agent99.wire._headers import is_no_responders
from agent99.wire._port import Message, Receive

_SWEEP_MIN = 1_024

_Waiting = tuple[Future[Message], bytes]  # the future, and the subject that was asked


class Inbox:
    """Everyone on this connection who waits for an answer.

    A request costs four dictionary operations and no timer of its own. A request that was cancelled
    stays in the table until its deadline, or until the table has doubled, whichever comes first.

    Invariant: a token in `_slots` is a key of the slot that it maps to, and the other way round.
    """

    def __init__(
        self,
        prefix: bytes,
        *,
        clock: Clock,
        ids: Ids,
        loop: asyncio.AbstractEventLoop,
        events: Events,
    ) -> None:
        self.prefix = prefix
        """What every inbox begins with, the dot included."""
        self._prefix_size = len(prefix)
        self._draw_token = ids.token
        self._create_future = loop.create_future
        self._events = events
        self._deadlines: DeadlineSlots[bytes, _Waiting] = DeadlineSlots(clock, self._expire)
        self._slots: dict[bytes, DeadlineSlot[bytes, _Waiting]] = {}
        self._receivers: dict[bytes, Receive] = {}
        self._sweep_at = _SWEEP_MIN

    def __repr__(self) -> str:
        return f"Inbox({self.prefix!r}, waiting={len(self._slots)}, open={len(self._receivers)})"

    def __len__(self) -> int:
        return len(self._slots)

    def expect(self, subject: bytes, deadline_s: float) -> tuple[bytes, Future[Message]]:
        """Return a fresh token and the future of the first answer to `prefix` and token."""
        token = self._draw_token()
        future: Future[Message] = self._create_future()
        slot = self._deadlines.slot(deadline_s)
        slot[token] = (future, subject)
        self._slots[token] = slot
        if len(self._slots) > self._sweep_at:
            self._sweep()
        return token, future

    def forget(self, token: bytes) -> None:
        """Expect no answer any more: the request could not be sent."""
        if token in self._slots:
            self._remove(token)

    def receive(self, message: Message) -> None:
        """Take what came to any inbox of this connection."""
        token = message.subject[self._prefix_size :]
        slot = self._slots.pop(token, None)
        if slot is None:
            self._receive_open(token, message)
            return
        future, subject = slot.pop(token)
        if not slot:
            self._deadlines.release(slot)
        if future.done():  # cancelled by the caller
            self._events.dropped["late_answer"] += 1
        elif message.headers and is_no_responders(message):
            future.set_exception(NoRespondersError(subject.decode()))
        else:
            future.set_result(message)

    def open(self, receive: Receive) -> bytes:
        """Return a fresh inbox whose every message goes to `receive`."""
        token = self._draw_token()
        self._receivers[token] = receive
        return self.prefix + token

    def close(self, inbox: bytes) -> None:
        """Forget an inbox; what still comes to it counts as a late answer."""
        if inbox.startswith(self.prefix):
            self._receivers.pop(inbox[self._prefix_size :], None)

    def deny(self, subject: bytes) -> bool:
        """End every request to `subject` (compared without case); returns whether there was one."""
        wanted = subject.lower()
        tokens = [token for token, slot in self._slots.items() if slot[token][1].lower() == wanted]
        for token in tokens:
            asked = self._slots[token][token][1].decode()
            self._end(token, PermissionDeniedError("publish to", asked))
        return bool(tokens)

    def deny_reply(self, reply: bytes) -> bool:
        """End the request that wanted its answer at `reply`; returns whether there was one."""
        token = reply[self._prefix_size :]
        if not reply.startswith(self.prefix) or token not in self._slots:
            return False
        self._end(token, PermissionDeniedError("want answers at", reply.decode()))
        return True

    def end_all(self) -> None:
        """End everything with `ClosedError`."""
        for token in tuple(self._slots):
            self._end(token, ClosedError("wire"))
        self._deadlines.close()
        self._receivers.clear()

    def _remove(self, token: bytes) -> _Waiting:
        slot = self._slots.pop(token)
        waiting = slot.pop(token)
        if not slot:
            self._deadlines.release(slot)
        return waiting

    def _end(self, token: bytes, error: Agent99Error) -> None:
        future, _ = self._remove(token)
        if not future.done():
            future.set_exception(error)

    def _expire(self, token: bytes, waiting: _Waiting) -> None:
        self._slots.pop(token, None)
        future, subject = waiting
        if not future.done():
            error = DeadlineExceededError(f"no answer from {subject.decode()!r} by the deadline")
            future.set_exception(error)

    def _receive_open(self, token: bytes, message: Message) -> None:
        receive = self._receivers.get(token)
        if receive is None:
            self._events.dropped["late_answer"] += 1
        else:
            receive(message)

    def _sweep(self) -> None:
        """Forget the cancelled; the next sweep comes when the table has doubled: amortised O(1)."""
        for token in [token for token, slot in self._slots.items() if slot[token][0].done()]:
            self._remove(token)
        self._sweep_at = max(_SWEEP_MIN, 2 * len(self._slots))
