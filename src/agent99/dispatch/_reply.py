"""Answers on their way back: over the wire, or to a caller in this process."""

from __future__ import annotations

import logging

from agent99.clock import Clock
from agent99.dispatch._call import Call
from agent99.dispatch._counts import Counts
from agent99.dispatch._idle import wake
from agent99.envelope import (
    ENVELOPE_BYTES,
    Header,
    Outcome,
    answer_prefix,
    encode_answer,
    encode_error,
    encode_user_headers,
)
from agent99.errors import (
    Agent99Error,
    HandlerError,
    PayloadTooLargeError,
    RequestError,
    UsageError,
)
from agent99.wire import Wire

_log = logging.getLogger("agent99.dispatch")

_PREFIXES_MAX = 4096
_SMALL_BYTES = 1024  # so much fits every server: most answers need not ask for the bound


class Replier:
    """Delivers the answers of one instance."""

    def __init__(self, instance: str, wire: Wire, clock: Clock, counts: Counts) -> None:
        self._instance = instance
        self._wire = wire
        self._clock = clock
        self._counts = counts
        self._prefixes: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Replier({self._instance!r})"

    def deliver(
        self, call: Call, outcome: Outcome, answer: bytes | RequestError
    ) -> RequestError | None:
        """Bring an outcome to its caller, and return the error that it is, if it is one.

        An event was asked by nobody. What cannot be sent is a counted drop.
        """
        reply = call.reply
        if reply == b"":
            return None if isinstance(answer, bytes) else answer
        error, user = None, b""
        if not isinstance(answer, bytes) or len(answer) > _SMALL_BYTES or call.answer_headers:
            outcome, answer, user, error = self._write(call, outcome, answer)
        if reply:
            request = call.request
            self._send(reply, request.from_uuid, request.event_uuid, (outcome, answer, user))
        else:
            call.outcome, call.answer = outcome, answer
            if call.waiter is not None:
                wake(call.waiter)
        return error

    def refuse(self, reply: bytes, request: Header | None, error: RequestError) -> None:
        """Answer a message that never became a call; of one that cannot be read, None is known."""
        self._counts.refused += 1
        body = encode_error(error, bytes_max=self._bytes_max())
        to_uuid = request.from_uuid if request is not None else ""
        event_id = request.event_uuid if request is not None else "unreadable"
        self._send(reply, to_uuid, event_id, ("error", body, b""))

    def _write(
        self, call: Call, outcome: Outcome, answer: bytes | RequestError
    ) -> tuple[Outcome, bytes, bytes, RequestError | None]:
        """Return outcome, body and user's headers as they travel, and the error that it is.

        It fits the server: in place of a result that does not there is an error.
        """
        user = b""
        try:
            headers = call.answer_headers
            if headers:
                user = encode_user_headers(headers)
            if isinstance(answer, bytes):
                if len(answer) > self._bytes_max():
                    raise PayloadTooLargeError("answer", len(answer), self._bytes_max())
                return outcome, answer, user, None
        except UsageError as error:
            answer = HandlerError(f"the answer cannot be sent: {error}")
        return "error", encode_error(answer, bytes_max=self._bytes_max()), user, answer

    def _bytes_max(self) -> int:
        return self._wire.payload_bytes_max - ENVELOPE_BYTES

    def _send(
        self, reply: bytes, to_uuid: str, event_id: str, answer: tuple[Outcome, bytes, bytes]
    ) -> None:
        outcome, body, user = answer
        prefix = self._prefixes.get(to_uuid) or self._make_prefix(to_uuid)
        now_us = self._clock.wall_us()
        try:
            self._wire.publish(reply, encode_answer(prefix, event_id, now_us, outcome, body, user))
        except Agent99Error as error:
            self._counts.drop("answer_not_sent")
            count = self._counts.dropped["answer_not_sent"]
            if count & (count - 1) == 0:  # the 1st, 2nd, 4th, ...: a slow link is no flood of lines
                text = "the answer to %s could not be sent (%d so far): %s"
                _log.warning(text, event_id, count, error)

    def _make_prefix(self, to_uuid: str) -> bytes:
        if len(self._prefixes) >= _PREFIXES_MAX:
            self._prefixes.clear()
        prefix = self._prefixes[to_uuid] = answer_prefix(self._instance, to_uuid)
        return prefix
