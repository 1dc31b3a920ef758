"""Answers on their way back over the wire."""

from __future__ import annotations

import logging

from agent99.clock import Clock
from agent99.dispatch._call import Call
from agent99.dispatch._counts import Counts
from agent99.envelope import (
    Header,
    Outcome,
    encode_error,
    encode_message,
    encode_user_headers,
    peek_header,
)
from agent99.errors import (
    Agent99Error,
    HandlerError,
    PayloadTooLargeError,
    RequestError,
    UsageError,
)
from agent99.wire import Message, Wire

_log = logging.getLogger("agent99.dispatch")

ENVELOPE_BYTES = 16 * 1024
"""What is kept free of the server's largest payload, for the header."""
_SMALL_BYTES = 1024  # so much fits every server: most answers need not ask for the bound


class Replier:
    """Sends the answers of one instance."""

    def __init__(self, instance: str, wire: Wire, clock: Clock, counts: Counts) -> None:
        self._instance = instance
        self._wire = wire
        self._clock = clock
        self._counts = counts

    def __repr__(self) -> str:
        return f"Replier({self._instance!r})"

    def check(self, call: Call, answer: bytes | RequestError) -> HandlerError | None:
        """Return what is wrong with an answer, be it for a caller elsewhere or in this process."""
        try:
            if isinstance(answer, bytes) and len(answer) > _SMALL_BYTES:
                limit = self._wire.payload_bytes_max - ENVELOPE_BYTES
                if len(answer) > limit:
                    raise PayloadTooLargeError("answer", len(answer), limit)
            if call.answer_headers:
                encode_user_headers(call.answer_headers)
        except UsageError as error:
            call.answer_headers.clear()
            return HandlerError(f"the answer cannot be sent: {error}")
        return None

    def respond(self, call: Call, outcome: Outcome, answer: bytes | RequestError) -> None:
        """Answer a call, whose answer was checked; what cannot be sent is a counted drop."""
        request, headers = call.request, call.answer_headers
        user = encode_user_headers(headers) if headers else b""
        body = answer if isinstance(answer, bytes) else encode_error(answer)
        self._send(call.reply or b"", request, outcome, body, user)

    def refuse(self, message: Message, error: RequestError) -> None:
        """Answer a message that never became a call."""
        self._counts.refused += 1
        self._send(message.reply, peek_header(message.payload), "error", encode_error(error), b"")

    def _send(
        self, reply: bytes, request: Header | None, outcome: Outcome, body: bytes, user: bytes
    ) -> None:
        header = Header(
            type="response",
            from_uuid=self._instance,
            to_uuid=request.from_uuid if request is not None else "",
            event_uuid=request.event_uuid if request is not None else "unreadable",
            timestamp=self._clock.wall_us(),
            outcome=outcome,
        )
        try:
            self._wire.publish(reply, encode_message(header, body, user))
        except Agent99Error as error:
            self._counts.drop("answer_not_sent")
            _log.warning("the answer to %s could not be sent: %s", header.event_uuid, error)
