"""The caller's side of a request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from agent99.agent._destination import Destination
from agent99.agent._link import Link, Local, Taker
from agent99.agent._targets import Peer, Target
from agent99.dispatch import DEFAULT_OPERATION, Call, Context, find_context
from agent99.envelope import (
    AnswerCodec,
    Header,
    decode_error,
    encode_body,
    encode_message,
    encode_request,
    encode_user_headers,
    parse_topic,
    request_prefix,
    split_message,
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
from agent99.registry import Description

ENVELOPE_BYTES = 16 * 1024
"""What is kept free of the server's largest payload, for the header."""
NESTED_MARGIN_S = 0.005
"""A nested request ends so much before the one that it serves, that its outcome can be told."""
KEY_CHARACTERS_MAX = 256
_SMALL_BYTES = 1024  # so much fits every server: most payloads need not ask for the bound
_PREFIXES_MAX = 4096
_DISCOVERED_MAX = 256
_NO_HEADERS: Mapping[str, str] = {}
_Asked = tuple[Destination, float, float, Context | None, str | None]
"""Of a request: where to, sent when, to be answered when, serving whom, under which key."""
TIMEOUT_S_MAX = 1e9
"""Longer is no time but a mistake: 30 years."""
SUSPECT_S = 10.0
"""How long an instance that did not answer is avoided."""


class Caller:
    """Makes requests in the name of one instance, or of the connection."""

    def __init__(self, link: Link, from_uuid: str) -> None:
        self._link = link
        self.from_uuid = from_uuid
        self._prefixes: dict[bytes, bytes] = {}
        self._discovered: dict[tuple[str, ...], tuple[tuple[Description, ...], list[Peer]]] = {}

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
        body = self.body(payload)
        user = encode_user_headers(headers) if headers else b""
        context = find_context()
        sent_s = link.clock.monotonic_s()
        deadline_s = self.deadline(timeout_s, context, destination)
        asked = (destination, sent_s, deadline_s, context, _checked(idempotency_key))
        local = link.find_local(destination)
        if local is not None:
            call = self._submit(local, asked, body, headers)
            if call is not None:
                return await self._local_answer(local[0], call, asked, codec)
        if link.health.ejected:
            destination = link.health.around(destination)
            asked = (destination, *asked[1:])
        if user or context is not None or idempotency_key is not None:
            header = self._header(*asked)
            event_id, data = header.event_uuid, encode_message(header, body, user)
        else:
            event_id = link.ids.uuid()
            ttl_us = int((deadline_s - sent_s) * 1e6)
            prefix = self._prefixes.get(destination.subject) or self._prefix(destination)
            data = encode_request(prefix, event_id, link.clock.wall_us(), ttl_us, body)
        link.begin(destination, event_id, sent_s, deadline_s)
        try:
            answer = await link.wire.request(destination.subject, data, deadline_s=deadline_s)
            return _read(answer.payload, event_id, codec)
        except asyncio.CancelledError:
            self.cancel(destination, event_id)
            raise
        except (NoRespondersError, RequestError) as error:
            failed = self._outcome(error, destination, deadline_s - sent_s)
            raise _of_event(failed, event_id) from failed.__cause__
        finally:
            link.end(destination, event_id)

    async def _local_answer(
        self, local: Local, call: Call, asked: _Asked, codec: AnswerCodec[Any]
    ) -> Any:
        """Return the result of a request that an instance in this process has taken on."""
        destination, sent_s, deadline_s, _, _ = asked
        try:
            if call.outcome is None:
                with self._link.loading(destination.instance):
                    await local.dispatcher.wait(call)
            return _local_result(call, codec)
        except RequestError as error:
            failed = self._outcome(error, destination, deadline_s - sent_s)
            raise _of_event(failed, call.event_id) from failed.__cause__

    def _outcome(
        self, error: NoRespondersError | RequestError, destination: Destination, waited_s: float
    ) -> RequestError:
        """Return what the caller is told."""
        if isinstance(error, NoRespondersError):
            return self._link.explain(destination)
        if not isinstance(error, DeadlineExceededError):
            return error
        if destination.instance:
            self._link.registry.suspect(destination.instance, SUSPECT_S)
        return DeadlineExceededError(
            f"no answer to {destination.text!r} within {waited_s:.3g} s;"
            " whether it ran, in part or whole, is unknown",
            details={"target": destination.target, "operation": destination.operation},
        )

    def body(self, payload: Any) -> bytes:
        """Return a payload as it travels.

        Raises:
            UsageError: it cannot travel.
            PayloadTooLargeError: it is larger than the server takes.
        """
        body = encode_body(payload)
        if len(body) > _SMALL_BYTES:
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
            UsageError: `timeout_s` is no number above 0, or one beyond 30 years.
            DeadlineExceededError: the request that this one serves has no time left.
        """
        try:
            is_time = 0 < timeout_s <= TIMEOUT_S_MAX
        except (TypeError, ValueError):
            is_time = False
        if not is_time:
            raise UsageError(
                f"timeout_s is a number of seconds above 0 and up to {TIMEOUT_S_MAX:,.0f},"
                f" not {str(timeout_s)[:80]!r}"
            )
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
        sent_s: float,
        deadline_s: float,
        context: Context | None,
        idempotency_key: str | None,
    ) -> Header:
        link = self._link
        sent_us = link.clock.wall_us() - int((link.clock.monotonic_s() - sent_s) * 1e6)
        ttl_us = int((deadline_s - sent_s) * 1e6)
        return Header(
            type="request",
            from_uuid=self.from_uuid,
            to_uuid=destination.instance or destination.target,
            event_uuid=link.ids.uuid(),
            timestamp=sent_us,
            operation=destination.operation,
            ttl_us=ttl_us,
            deadline=sent_us + ttl_us,
            traceparent=context.request.traceparent if context is not None else None,
            idempotency_key=idempotency_key,
        )

    def _prefix(self, destination: Destination) -> bytes:
        """Make what is the same in every plain request to there, and keep it."""
        if len(self._prefixes) >= _PREFIXES_MAX:
            self._prefixes.clear()
        to_uuid = destination.instance or destination.target
        prefix = request_prefix(self.from_uuid, to_uuid, destination.operation)
        self._prefixes[destination.subject] = prefix
        return prefix

    def cancel(self, destination: Destination, event_id: str) -> None:
        """Tell whoever runs a request that nobody waits for it any longer."""
        link = self._link
        note = Header(
            type="control",
            from_uuid=self.from_uuid,
            to_uuid=destination.target,
            event_uuid=link.ids.uuid(),
            timestamp=link.clock.wall_us(),
        )
        body = encode_body({"event_uuids": [event_id]})
        try:
            link.wire.publish(link.subjects.cancel(destination.target), encode_message(note, body))
        except Agent99Error:
            return  # best effort: the callee's own deadline ends it otherwise

    def _submit(
        self, local: Taker, asked: _Asked, body: bytes, headers: Mapping[str, str] | None
    ) -> Call | None:
        """Hand a request to an instance in this process; None: it is at its bounds or pauses."""
        instance, route = local
        destination, _, deadline_s, _, _ = asked
        dispatcher = instance.dispatcher
        try:
            if destination.operation == DEFAULT_OPERATION:
                route = dispatcher.routes.choose_by_payload(body)
            return dispatcher.submit(
                route,
                partial(self._header, *asked),
                body,
                sender=self._link.subjects.sender,
                deadline_s=deadline_s,
                headers=headers or _NO_HEADERS,
            )
        except (PausedError, OverloadedError):
            return None

    # --- events -----------------------------------------------------------------------------------

    def publish(self, topic: str, event: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send an event to whoever listens now; see `Mesh.publish`."""
        link = self._link
        subject = link.subjects.event(parse_topic(topic))
        body = self.body(event)
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
        found = self._link.registry.table.discover(*capabilities)  # the same until it changes
        known = self._discovered.get(capabilities)
        if known is None or known[0] is not found:
            if len(self._discovered) >= _DISCOVERED_MAX:
                self._discovered.clear()
            peers = [Peer(description, self) for description in found]
            known = self._discovered[capabilities] = (found, peers)
        return known[1].copy()


def _checked(idempotency_key: str | None) -> str | None:
    if idempotency_key is not None and not 0 < len(idempotency_key) <= KEY_CHARACTERS_MAX:
        raise UsageError(f"an idempotency key has 1 to {KEY_CHARACTERS_MAX} characters")
    return idempotency_key


def _of_event(error: RequestError, event_id: str) -> RequestError:
    """Return an error that names its request, as the agent's log does."""
    error.event_id = event_id
    error.add_note(f"event {event_id}")
    return error


def _local_result(call: Call, codec: AnswerCodec[Any]) -> Any:
    if call.outcome == "error":
        raise decode_error(call.answer)
    return codec.decode_body(call.outcome, call.answer)


def _read(data: bytes, event_id: str, codec: AnswerCodec[Any]) -> Any:
    try:
        header, body = split_message(data)
    except BadRequestError as error:
        raise BadAnswerError(
            f"the answer cannot be read: {error.message}", details=error.details
        ) from error
    if header.type != "response" or header.event_uuid != event_id:
        raise BadAnswerError("what came back is no answer to this request")
    if header.outcome == "error":
        raise decode_error(data)
    return codec.decode_body(header.outcome, body)
