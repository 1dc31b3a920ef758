"""Answers: one wildcard subscription, a random token per request, deadlines on a shared timer."""

from __future__ import annotations

import asyncio
import math
from asyncio import Future
from heapq import heapify, heappop, heappush

from agent99.clock import Clock, TimerHandle
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

_GROWTH_MIN = 1_024
_HORIZON_S = 0.5
_PAUSE_S = 0.002  # expiries closer together than this are handled together

_Waiting = tuple[Future[Message], bytes, float]  # the future, the subject asked, the deadline


class Inbox:
    """Everyone on this connection who waits for an answer.

    A request costs two dictionary operations and no timer of its own. Only deadlines before the
    horizon, half a second away, stand in a heap with a timer at the first; at the horizon all who
    wait are looked through for the next half second. Most are answered long before. A request that
    was cancelled stays until then, or until the table has doubled, whichever comes first.

    Invariant: while somebody waits the timer stands at the earliest of `_soon` or at the horizon;
    `_soon` has every deadline before the horizon, and may have some of requests that are over.
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
        self._clock = clock
        self._draw_token = ids.token
        self._create_future = loop.create_future
        self._events = events
        self._waiting: dict[bytes, _Waiting] = {}
        self._receivers: dict[bytes, Receive] = {}
        self._timer: TimerHandle | None = None
        self._timer_s = math.inf
        self._soon: list[tuple[float, bytes]] = []
        self._horizon_s = math.inf
        self._sweep_at = _GROWTH_MIN

    def __repr__(self) -> str:
        return f"Inbox({self.prefix!r}, waiting={len(self)}, open={len(self._receivers)})"

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, subject: bytes, deadline_s: float) -> tuple[bytes, Future[Message]]:
        """Return a fresh token and the future of the first answer to `prefix` and token."""
        token = self._draw_token()
        future: Future[Message] = self._create_future()
        self._waiting[token] = (future, subject, deadline_s)
        if deadline_s < self._horizon_s:
            self._expect_soon(deadline_s, token)
        if len(self._waiting) > self._sweep_at:
            self._look_ahead(self._clock.monotonic_s())
        return token, future

    def forget(self, token: bytes) -> None:
        """Expect no answer any more: the request could not be sent."""
        self._waiting.pop(token, None)

    def receive(self, message: Message) -> None:
        """Take what came to any inbox of this connection."""
        token = message.subject[self._prefix_size :]
        waiting = self._waiting.pop(token, None)
        if waiting is None:
            self._receive_open(token, message)
            return
        future = waiting[0]
        if future.done():  # cancelled by the caller
            self._events.drop("late_answer")
        elif message.headers and is_no_responders(message):
            future.set_exception(NoRespondersError(waiting[1].decode()))
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
        denied = [token for token, row in self._waiting.items() if row[1].lower() == wanted]
        for token in denied:
            self._end(token, PermissionDeniedError("publish to", self._waiting[token][1].decode()))
        return bool(denied)

    def deny_reply(self, reply: bytes) -> bool:
        """End the request that wanted its answer at `reply`; returns whether there was one."""
        token = reply[self._prefix_size :]
        if not reply.startswith(self.prefix) or token not in self._waiting:
            return False
        self._end(token, PermissionDeniedError("want answers at", reply.decode()))
        return True

    def end_all(self) -> None:
        """End everything with `ClosedError`."""
        for token in tuple(self._waiting):
            self._end(token, ClosedError("wire"))
        self._receivers.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, token: bytes, error: Agent99Error) -> None:
        future = self._waiting.pop(token)[0]
        if not future.done():
            future.set_exception(error)
            future.exception()  # whoever waits gets it; nobody is told of one that was abandoned

    def _receive_open(self, token: bytes, message: Message) -> None:
        receive = self._receivers.get(token)
        if receive is None:
            self._events.drop("late_answer")
        else:
            receive(message)

    def _expect_soon(self, deadline_s: float, token: bytes) -> None:
        heappush(self._soon, (deadline_s, token))
        if self._horizon_s == math.inf:  # nobody waited until now
            self._horizon_s = self._clock.monotonic_s() + _HORIZON_S
        at_s = min(deadline_s, self._horizon_s)
        if at_s < self._timer_s:
            self._set_timer(at_s)

    def _set_timer(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = at_s
        delay_s = max(at_s - self._clock.monotonic_s(), _PAUSE_S)
        self._timer = self._clock.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        """End what has expired, look ahead when the horizon is reached, and set the timer."""
        now, soon = self._clock.monotonic_s(), self._soon
        while soon and soon[0][0] <= now:
            waiting = self._waiting.pop(heappop(soon)[1], None)
            if waiting is not None and not waiting[0].done():
                name = waiting[1].decode()
                error = DeadlineExceededError(f"no answer from {name!r} by the deadline")
                waiting[0].set_exception(error)
        if self._horizon_s <= now:
            self._look_ahead(now)
        self._timer, self._timer_s = None, math.inf
        if self._horizon_s < math.inf:
            self._set_timer(min(soon[0][0], self._horizon_s) if self._soon else self._horizon_s)

    def _look_ahead(self, now: float) -> None:
        """Forget what was cancelled, and move the horizon; it goes when nobody waits."""
        self._waiting = {
            token: waiting for token, waiting in self._waiting.items() if not waiting[0].done()
        }
        self._horizon_s = now + _HORIZON_S if self._waiting else math.inf
        self._soon[:] = [
            (deadline_s, token)
            for token, (_, _, deadline_s) in self._waiting.items()
            if deadline_s < self._horizon_s
        ]
        heapify(self._soon)
        self._sweep_at = max(_GROWTH_MIN, 2 * len(self._waiting))
