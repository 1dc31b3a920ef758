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

    def write(
        self, call: Call, outcome: Outcome, answer: bytes | RequestError
    ) -> tuple[Outcome, bytes, bytes]:
        """Return outcome, body and user's headers as they travel, elsewhere or in this process.

        It fits the server: in place of a result that does not there is an error.
        """
        user = b""
        try:
            headers = call.answer_headers
            if headers:
                user = encode_user_headers(headers)
            if isinstance(answer, bytes):
                if len(answer) > _SMALL_BYTES and len(answer) > self._bytes_max():
                    raise PayloadTooLargeError("answer", len(answer), self._bytes_max())
                return outcome, answer, user
        except UsageError as error:
            answer = HandlerError(f"the answer cannot be sent: {error}")
        return "error", encode_error(answer, bytes_max=self._bytes_max()), user

    def respond(self, call: Call, outcome: Outcome, body: bytes, user: bytes) -> None:
        """Answer a call with what was written; what cannot be sent is a counted drop."""
        self._send(call.reply or b"", call.request, outcome, body, user)

    def refuse(self, message: Message, error: RequestError) -> None:
        """Answer a message that never became a call."""
        self._counts.refused += 1
        body = encode_error(error, bytes_max=self._bytes_max())
        self._send(message.reply, peek_header(message.payload), "error", body, b"")

    def _bytes_max(self) -> int:
        return self._wire.payload_bytes_max - ENVELOPE_BYTES

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
