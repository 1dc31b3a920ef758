"""The caller's side of a request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from agent99.agent._link import Destination, Link, Local
from agent99.agent._targets import Peer, Target
from agent99.dispatch import DEFAULT_OPERATION, Context, Route, find_context
from agent99.envelope import (
    AnswerCodec,
    Header,
    decode_error,
    decode_header,
    encode_body,
    encode_error,
    encode_message,
    encode_user_headers,
    parse_topic,
)
from agent99.errors import (
    Agent99Error,
    BadAnswerError,
    BadRequestError,
    DeadlineExceededError,
    NoRespondersError,
    OverloadedError,
    PausedError,
    PayloadTooLargeError,
    RequestError,
    UsageError,
)

ENVELOPE_BYTES = 16 * 1024
"""What is kept free of the server's largest payload, for the header."""
NESTED_MARGIN_S = 0.005
"""A nested request ends so much before the one that it serves, that its outcome can be told."""
KEY_CHARACTERS_MAX = 256
SUSPECT_S = 10.0
"""How long an instance that did not answer is avoided."""


class Caller:
    """Makes requests in the name of one instance, or of the connection."""

    def __init__(self, link: Link, from_uuid: str) -> None:
        self._link = link
        self.from_uuid = from_uuid

    def __repr__(self) -> str:
        return f"Caller({self.from_uuid!r})"

    async def request(
        self,
        target: Target,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        returns: Any = Any,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Ask, and return the typed result; see `Mesh.request`."""
        link = self._link
        destination = link.destination(target, operation)
        codec = link.answer_codec(returns)
        body = self._body(payload)
        user = encode_user_headers(headers) if headers else b""
        context = find_context()
        deadline_s = self.deadline(timeout_s, context, destination)
        header = self._header(destination, deadline_s, context, idempotency_key)
        local = link.find_local(destination)
        instance = destination.instance
        if instance:
            link.loads[instance] = link.loads.get(instance, 0) + 1
        try:
            if local is not None:
                try:
                    return await self._ask_local(local, destination, header, body, headers, codec)
                except _NotTaken:
                    local = None  # this instance is at its bounds; others may not be
            data = encode_message(header, body, user)
            answer = await link.wire.request(destination.subject, data, deadline_s=deadline_s)
            return self._decode(answer.payload, header, codec)
        except asyncio.CancelledError:
            if local is None:
                self.cancel(destination, header)
            raise
        except NoRespondersError:
            raise link.explain(destination) from None
        except DeadlineExceededError:
            raise self._unanswered(destination, timeout_s) from None
        finally:
            if instance:
                link.release(instance)

    def _unanswered(self, destination: Destination, timeout_s: float) -> DeadlineExceededError:
        if destination.instance:
            self._link.registry.suspect(destination.instance, SUSPECT_S)
        return DeadlineExceededError(
            f"no answer to {destination.text!r} within {timeout_s:g} s, or by the deadline of the"
            " request that it serves",
            details={"target": destination.target, "operation": destination.operation},
        )

    def _body(self, payload: Any) -> bytes:
        body = encode_body(payload)
        limit = self._link.wire.payload_bytes_max - ENVELOPE_BYTES
        if len(body) > limit:
            raise PayloadTooLargeError("payload", len(body), limit)
        return body

    def deadline(
        self, timeout_s: float, context: Context | None, destination: Destination | None = None
    ) -> float:
        """Return the monotonic time by which a request made now must end.

        Args:
            context: The request in hand, which it serves.

        Raises:
            UsageError: `timeout_s` is no positive number.
            DeadlineExceededError: the request that this one serves has no time left.
        """
        if not 0 < timeout_s < math.inf:
            raise UsageError(f"timeout_s is a number of seconds above 0, not {timeout_s!r}")
        now_s = self._link.clock.monotonic_s()
        deadline_s = now_s + timeout_s
        if context is not None and context.deadline_s - NESTED_MARGIN_S < deadline_s:
            deadline_s = context.deadline_s - NESTED_MARGIN_S
            if deadline_s <= now_s:
                what = f"{destination.text!r}" if destination is not None else "it"
                raise DeadlineExceededError(
                    f"no time is left to ask for {what}: the request in hand is at its deadline"
                )
        return deadline_s

    def _header(
        self,
        destination: Destination,
        deadline_s: float,
        context: Context | None,
        idempotency_key: str | None,
    ) -> Header:
        if idempotency_key is not None and not 0 < len(idempotency_key) <= KEY_CHARACTERS_MAX:
            raise UsageError(f"an idempotency key has 1 to {KEY_CHARACTERS_MAX} characters")
        link = self._link
        wall_us = link.clock.wall_us()
        ttl_us = int((deadline_s - link.clock.monotonic_s()) * 1e6)
        return Header(
            type="request",
            from_uuid=self.from_uuid,
            to_uuid=destination.instance or destination.target,
            event_uuid=link.ids.uuid(),
            timestamp=wall_us,
            operation=destination.operation,
            ttl_us=max(ttl_us, 0),
            deadline=wall_us + ttl_us,
            traceparent=context.request.traceparent if context is not None else None,
            idempotency_key=idempotency_key,
        )

    def cancel(self, destination: Destination, header: Header) -> None:
        """Tell whoever runs a request that nobody waits for it any longer."""
        link = self._link
        note = Header(
            type="control",
            from_uuid=self.from_uuid,
            to_uuid=destination.target,
            event_uuid=link.ids.uuid(),
            timestamp=link.clock.wall_us(),
        )
        body = encode_body({"event_uuids": [header.event_uuid]})
        try:
            link.wire.publish(link.subjects.cancel(destination.target), encode_message(note, body))
        except Agent99Error:
            return  # best effort: the callee's own deadline ends it otherwise

    def _decode(self, data: bytes, request: Header, codec: AnswerCodec[Any]) -> Any:
        try:
            header = decode_header(data)
        except BadRequestError as error:
            raise BadAnswerError(
                f"the answer cannot be read: {error.message}", details=error.details
            ) from error
        if header.type != "response" or header.event_uuid != request.event_uuid:
            raise BadAnswerError("what came back is no answer to this request")
        if header.outcome == "error":
            raise decode_error(data)
        return codec.decode(header.outcome, data)

    # --- in the same process ----------------------------------------------------------------------

    async def _ask_local(
        self,
        local: tuple[Local, Route],
        destination: Destination,
        header: Header,
        body: bytes,
        headers: Mapping[str, str] | None,
        codec: AnswerCodec[Any],
    ) -> Any:
        instance, route = local
        dispatcher = instance.dispatcher
        try:
            if destination.operation == DEFAULT_OPERATION:
                route = dispatcher.routes.choose_by_payload(body)
            call = dispatcher.submit(
                route,
                lambda: header,
                body,
                sender=self._link.subjects.sender,
                deadline_s=self._link.clock.monotonic_s() + (header.ttl_us or 0) * 1e-6,
                headers=headers or {},
            )
        except (PausedError, OverloadedError) as error:
            raise _NotTaken from error
        if call.outcome is None:
            await dispatcher.wait(call)
        answer = call.answer
        if isinstance(answer, RequestError):
            raise decode_error(encode_error(answer))  # a copy, as if it had travelled
        return codec.decode_body(call.outcome, answer)

    # --- events -----------------------------------------------------------------------------------

    def publish(self, topic: str, event: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send an event to whoever listens now; see `Mesh.publish`."""
        link = self._link
        subject = link.subjects.event(parse_topic(topic))
        body = self._body(event)
        user = encode_user_headers(headers) if headers else b""
        context = find_context()
        header = Header(
            type="event",
            from_uuid=self.from_uuid,
            to_uuid=topic,
            event_uuid=link.ids.uuid(),
            timestamp=link.clock.wall_us(),
            traceparent=context.request.traceparent if context is not None else None,
        )
        link.wire.publish(subject, encode_message(header, body, user))

    def discover(self, capabilities: tuple[str, ...]) -> list[Peer]:
        """Return who offers all of the capabilities; see `Mesh.discover`."""
        return [Peer(found, self) for found in self._link.registry.table.discover(*capabilities)]


class _NotTaken(Exception):  # noqa: N818 - no error: it is tried elsewhere
    pass
