"""Find out why a stream is silent: one whose disk is full takes a message, and says nothing.

nats-server answers an append that it could not write by silence, and goes on so until it is
restarted. But it still refuses what breaks a condition, and it takes the appends of a connection in
their order. So where the receipt of an append is late, another one is sent that must be refused; if
that answer comes first, the message before it was taken and not stored. Where the stream has
replicas it may only wait for them, so they are asked for before the append is given up. And where
it was deleted and made anew meanwhile, it was another one that took the message.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from functools import partial

import msgspec

from agent99.clock import Clock, TimerHandle
from agent99.errors import (
    Agent99Error,
    RemoteProtocolError,
    StreamFullError,
    StreamNotFoundError,
)
from agent99.journal._api import API, WRONG_SEQUENCE, PublishAck, StreamInfo, microseconds
from agent99.wire import Message, Wire

_NEVER = b"NATS/1.0\r\nNats-Expected-Last-Sequence: %d\r\n\r\n" % 2**62
"""A sequence that no stream is at."""
_ANSWER_S = 1.0

_decode_ack = msgspec.json.Decoder(PublishAck).decode
_decode_info = msgspec.json.Decoder(StreamInfo).decode


class Doubts:
    """Looks at appends whose receipts are late; those that were not stored end with an error.

    It has no task: what comes of a question leads to the next one. An append costs two dictionary
    operations; one timer looks at the oldest of them.

    Invariant: `_sent` has the appends under way that were not doubted yet, the oldest first; while
    there are any, the timer is set.

    Args:
        after_s: So long a receipt may take before it is late.
    """

    def __init__(self, wire: Wire, *, clock: Clock, after_s: float) -> None:
        self._wire = wire
        self._clock = clock
        self._after_s = after_s
        self._sent: dict[Future[Message], tuple[bytes, float]] = {}
        self._timer: TimerHandle | None = None
        self._links = 0

    def __repr__(self) -> str:
        return f"Doubts(appends={len(self._sent)})"

    def watch(self, subject: bytes, answer: Future[Message]) -> None:
        """Look at an append that was just sent, unless `unwatch` comes first."""
        self._sent[answer] = (subject, self._clock.monotonic_s())
        if self._timer is None:
            self._timer = self._clock.call_later(self._after_s, self._look)

    def unwatch(self, answer: Future[Message]) -> None:
        """Look no more: it has ended."""
        self._sent.pop(answer, None)

    def lose_link(self) -> None:
        """Know nothing of what was sent so far: it may have been lost with the link."""
        self._links += 1
        self._sent.clear()

    def _look(self) -> None:
        late_s = self._clock.monotonic_s() - self._after_s
        late: list[Future[Message]] = []
        for answer, (_, sent_s) in self._sent.items():
            if sent_s > late_s:
                break
            late.append(answer)
        for answer in late:
            self._doubt(*self._sent.pop(answer), answer)
        self._timer = None
        if self._sent:
            self._timer = self._clock.call_later(self._after_s / 4, self._look)

    def _doubt(self, subject: bytes, sent_s: float, answer: Future[Message]) -> None:
        link = self._links
        if not answer.done():
            refused = partial(self._refused, link=link, sent_s=sent_s, answer=answer)
            self._ask(subject, b"", _NEVER, refused)

    def _refused(self, told: Message, link: int, sent_s: float, answer: Future[Message]) -> None:
        ack = _decode_ack(told.payload)
        if link != self._links or ack.error is None or ack.error.err_code not in WRONG_SEQUENCE:
            return
        info = API + b"STREAM.INFO." + ack.stream.encode()
        end = partial(self._end, stream=ack.stream, sent_s=sent_s, answer=answer)
        self._ask(info, b"", b"", end)

    def _end(self, told: Message, stream: str, sent_s: float, answer: Future[Message]) -> None:
        info = _decode_info(told.payload)
        if info.error is not None or info.config.get("num_replicas") != 1 or answer.done():
            return
        age_us = _age_us(info)
        if age_us is not None and age_us < (self._clock.monotonic_s() - sent_s) * 1e6:
            reason = f"stream {stream!r} was deleted, and made anew, while a message was under way"
            answer.set_exception(StreamNotFoundError(reason))
            return
        answer.set_exception(
            StreamFullError(
                f"stream {stream!r} takes messages and does not store them: its disk is full,"
                " or broken. Make room, then restart its server"
            )
        )

    def _ask(
        self, subject: bytes, body: bytes, headers: bytes, tell: Callable[[Message], None]
    ) -> None:
        """Ask, and tell of the answer; where there is none the doubt stays, and harms nobody."""
        until_s = self._clock.monotonic_s() + _ANSWER_S

        def done(answer: Future[Message]) -> None:
            if answer.cancelled() or answer.exception() is not None:
                return
            try:
                tell(answer.result())
            except (msgspec.DecodeError, RemoteProtocolError):
                return  # somebody who is no stream

        try:
            asked = self._wire.request(subject, body, deadline_s=until_s, headers=headers)
        except Agent99Error:
            return
        asked.add_done_callback(done)


def _age_us(info: StreamInfo) -> int | None:
    """Return for how long a stream has been there, by the server's clock; None: it does not say."""
    if not (info.created and info.ts):
        return None
    return microseconds(info.ts.encode()) - microseconds(info.created.encode())
