"""Answers on their way back over the wire."""

from __future__ import annotations

import logging

from agent99.clock import Clock
from agent99.dispatch._call import Call
from agent99.dispatch._counts import Counts
from agent99.envelope import (
    Header,
    Outcome,
    decode_header,
    encode_error,
    encode_message,
    encode_user_headers,
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

    def respond(self, call: Call, outcome: Outcome, answer: bytes | RequestError) -> None:
        """Answer a call; what cannot be sent becomes an error answer, or a counted drop."""
        request = call.request
        try:
            body = answer if isinstance(answer, bytes) else encode_error(answer)
            if len(body) > _SMALL_BYTES:
                limit = self._wire.payload_bytes_max - ENVELOPE_BYTES
                if len(body) > limit:
                    raise PayloadTooLargeError("answer", len(body), limit)
            headers = call.answer_headers
            user = encode_user_headers(headers) if headers else b""
        except UsageError as error:
            outcome, user = "error", b""
            body = encode_error(HandlerError(f"the answer cannot be sent: {error}"))
        self._send(call.reply or b"", request.from_uuid, request.event_uuid, outcome, body, user)

    def refuse(self, message: Message, error: RequestError) -> None:
        """Answer a message that never became a call."""
        self._counts.refused += 1
        try:
            header = decode_header(message.payload)
            to_uuid, event_uuid = header.from_uuid, header.event_uuid
        except RequestError:
            to_uuid, event_uuid = "", "unreadable"
        self._send(message.reply, to_uuid, event_uuid, "error", encode_error(error), b"")

    def _send(
        self,
        reply: bytes,
        to_uuid: str,
        event_uuid: str,
        outcome: Outcome,
        body: bytes,
        user: bytes,
    ) -> None:
        header = Header(
            type="response",
            from_uuid=self._instance,
            to_uuid=to_uuid,
            event_uuid=event_uuid,
            timestamp=self._clock.wall_us(),
            outcome=outcome,
        )
        try:
            self._wire.publish(reply, encode_message(header, body, user))
        except Agent99Error as error:
            self._counts.drop("answer_not_sent")
            _log.warning("the answer to %s could not be sent: %s", event_uuid, error)
