"""Answers on their way back over the wire."""

from __future__ import annotations

import logging
from collections.abc import Mapping

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
        body, user = answer if isinstance(answer, bytes) else encode_error(answer), b""
        if len(body) > _SMALL_BYTES or call.answer_headers:
            try:
                user = self._check(body, call.answer_headers)
            except UsageError as error:
                outcome = "error"
                body = encode_error(HandlerError(f"the answer cannot be sent: {error}"))
        header = Header(
            type="response",
            from_uuid=self._instance,
            to_uuid=request.from_uuid,
            event_uuid=request.event_uuid,
            timestamp=self._clock.wall_us(),
            outcome=outcome,
        )
        try:
            self._wire.publish(call.reply or b"", encode_message(header, body, user))
        except Agent99Error as error:
            self._lose(header, error)

    def _check(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Return the handler's headers, encoded.

        Raises:
            UsageError: a header is wrong.
            PayloadTooLargeError: the body is.
        """
        limit = self._wire.payload_bytes_max - ENVELOPE_BYTES
        if len(body) > limit:
            raise PayloadTooLargeError("answer", len(body), limit)
        return encode_user_headers(headers) if headers else b""

    def refuse(self, message: Message, error: RequestError) -> None:
        """Answer a message that never became a call."""
        self._counts.refused += 1
        try:
            header = decode_header(message.payload)
            to_uuid, event_uuid = header.from_uuid, header.event_uuid
        except RequestError:
            to_uuid, event_uuid = "", "unreadable"
        header = Header(
            type="response",
            from_uuid=self._instance,
            to_uuid=to_uuid,
            event_uuid=event_uuid,
            timestamp=self._clock.wall_us(),
            outcome="error",
        )
        try:
            self._wire.publish(message.reply, encode_message(header, encode_error(error)))
        except Agent99Error as trouble:
            self._lose(header, trouble)

    def _lose(self, header: Header, error: Agent99Error) -> None:
        self._counts.drop("answer_not_sent")
        _log.warning("the answer to %s could not be sent: %s", header.event_uuid, error)
