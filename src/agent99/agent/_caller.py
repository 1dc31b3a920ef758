"""The caller's side of a request."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import Future
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any

from agent99.agent._answers import (
    checked_key,
    local_result,
    of_event,
    outcome_of,
    pass_on,
    read_answer,
)
from agent99.agent._ask import Ask, deadline_of
from agent99.agent._destination import Destination
from agent99.agent._link import Link, Local, Taker
from agent99.agent._reporter import Reporter
from agent99.agent._retries import Budget, Lane, is_harmless, wait_s
from agent99.agent._targets import Peer, Target
from agent99.dispatch import DEFAULT_OPERATION, Call, find_context
from agent99.envelope import (
    ENVELOPE_BYTES,
    Header,
    encode_body,
    encode_message,
    encode_request,
    encode_user_headers,
    parse_topic,
    request_prefix,
)
from agent99.errors import (
    Agent99Error,
    DeadlineExceededError,
    NoAgentError,
    NoRespondersError,
    OverloadedError,
    PausedError,
    PayloadTooLargeError,
    RequestCancelledError,
    RequestError,
)
from agent99.observe import OK
from agent99.registry import Description
from agent99.wire import Message

_SMALL_BYTES = 1024  # so much fits every server: most payloads need not ask for the bound
_LANES_MAX, _DISCOVERED_MAX = 4096, 256
_NO_HEADERS: Mapping[str, str] = {}


class Caller:
    """Makes requests in the name of one instance, or of the connection."""

    def __init__(self, link: Link, from_uuid: str, *, agent: str = "") -> None:
        self._link = link
        self.from_uuid = from_uuid
        self._reporter = Reporter(agent, from_uuid, link.hooks, link.clock)
        self._lanes: dict[bytes, Lane] = {}
        self._discovered: dict[tuple[str, ...], tuple[tuple[Description, ...], list[Peer]]] = {}

    def __repr__(self) -> str:
        return f"Caller({self.from_uuid!r})"

    def request(
        self,
        target: Target,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        returns: Any = Any,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Ask; await what is returned, at once, for the typed result; see `Mesh.request`.

        It is a coroutine as if this were an `async def`, but one layer less to go through.
        """
        link = self._link
        destination = link.destination(target, operation)
        context = find_context()
        ask = Ask(
            self,
            target,
            destination,
            destination,
            link.answer_codec(returns),
            self.body(payload),
            encode_user_headers(headers) if headers else b"",
            checked_key(idempotency_key),
            context,
            now_s := link.clock.monotonic_s(),  # once all is encoded
            deadline_of(now_s, timeout_s, context, destination),
            link.ids.uuid(),
        )
        if context is not None or link.hooks.current is not None:
            self._reporter.begin_span(ask)
        local = link.find_local(destination)
        if local is not None:
            call = self._submit(local, ask, headers)
            if call is not None:
                return self._local_answer(local[0], call, ask)
        return self._answer(ask)

    async def _answer(self, ask: Ask) -> Any:
        """Return the result of a request that travels, after as many attempts as it may take."""
        link, event_id = self._link, ask.event_id
        if link.health.ejected:
            ask.destination = link.health.around(ask.destination)
        while True:
            destination = ask.destination
            try:
                future = ask.future = self._send(ask, destination)
                link.begin(ask)
                try:
                    answer = await future
                finally:
                    link.end(ask)
                result = read_answer(answer.payload, ask)
            except asyncio.CancelledError:
                self.cancel(destination, event_id)
                self._reporter.finished(ask, RequestCancelledError.code)
                raise
            except (NoRespondersError, RequestError) as error:
                failed = outcome_of(error, ask, link)
                delay_s = self._wait_s(ask, failed)
            except Agent99Error as error:
                self._reporter.finished(ask, error.code)
                raise
            else:
                if link.hooks.finished is not None:
                    self._reporter.finished(ask, OK)
                return result
            if delay_s is None:
                self._reporter.finished(ask, failed.code)
                raise of_event(failed, ask) from failed.__cause__
            await self._wait_again(ask, failed, delay_s)

    def _send(self, ask: Ask, destination: Destination) -> Future[Message]:
        """Send one attempt; a plain request, as most are, is put together at half the cost."""
        link = self._link
        lane = self._lanes.get(destination.subject) or self._make_lane(destination)
        if ask.attempt > 1 or ask.headers or ask.traceparent or ask.idempotency_key is not None:
            data = encode_message(self.header(ask, destination), ask.body, ask.headers)
        else:
            ttl_us = int((ask.deadline_s - ask.sent_s) * 1e6)
            now_us = link.clock.wall_us()
            data = encode_request(lane.prefix, ask.event_id, now_us, ttl_us, ask.body)
        lane.budget.asked += 1
        future = link.wire.request(destination.subject, data, deadline_s=ask.deadline_s)
        if link.hooks.sent is not None and not ask.is_told:
            self._reporter.sent(ask)
        ask.is_told = False
        return future

    async def _local_answer(self, local: Local, call: Call, ask: Ask) -> Any:
        """Return the result of a request that an instance in this process has taken on."""
        destination, code = ask.destination, RequestCancelledError.code
        try:
            if call.outcome is None:
                with self._link.loading(destination.instance):
                    await local.dispatcher.wait(call)
            result = local_result(call, ask.codec)
            code = OK
        except RequestError as error:
            failed = outcome_of(error, ask, self._link)
            delay_s = self._wait_s(ask, failed)
            if delay_s is None:
                code = failed.code
                raise of_event(failed, ask) from failed.__cause__
            code = ""
            await self._wait_again(ask, failed, delay_s)
            return await self._answer(ask)
        finally:
            if code and self._link.hooks.finished is not None:  # else told of the last attempt
                self._reporter.finished(ask, code)
        return result

    # --- once more --------------------------------------------------------------------------------

    def _wait_s(self, ask: Ask, failed: RequestError) -> float | None:
        """Return how long to wait before the next attempt; None: there is none."""
        link, destination = self._link, ask.destination
        if ask.attempt >= link.attempts_max:
            return None
        if not is_harmless(failed, may_run_twice=partial(self._may_run_twice, ask)):
            return None
        if isinstance(failed, NoAgentError) and not link.is_listed(destination):
            return None  # nobody offers it: that is no moment of weakness
        if isinstance(failed, PausedError) and isinstance(ask.target, Peer):
            return None  # that very instance was asked
        delay_s = wait_s(failed, ask.attempt, link.ids.fraction())
        now_s = link.clock.monotonic_s()
        if now_s + delay_s >= ask.deadline_s:
            return None
        return delay_s if self._make_lane(destination).budget.take(now_s) else None

    async def _wait_again(self, ask: Ask, failed: RequestError, delay_s: float) -> None:
        """Wait, and choose anew whom to ask: somebody may have come, or gone.

        Raises:
            NoAgentError: nobody fits a `pick` any more.
        """
        link, ask.attempt = self._link, ask.attempt + 1
        self._reporter.retried(ask, failed.code, delay_s)
        try:
            await link.clock.sleep(delay_s)
            operation = ask.destination.operation
            ask.destination = link.destination(ask.target, operation, without=ask.refused_by)
        except asyncio.CancelledError:
            self._reporter.finished(ask, RequestCancelledError.code)
            raise
        except RequestError as error:
            self._reporter.finished(ask, error.code)
            raise of_event(error, ask) from None
        ask.destination = link.health.around(ask.destination, without=ask.refused_by)

    def repeat(self, ask: Ask, destination: Destination) -> None:
        """Ask somebody else the same while the first is silent; whoever answers first counts.

        Only what may run twice is asked twice.
        """
        link, future = self._link, ask.future
        if future is None or future.done() or ask.attempt >= link.attempts_max:
            return
        if not self._may_run_twice(ask):
            return
        if not self._make_lane(ask.destination).budget.take(link.clock.monotonic_s()):
            return
        ask.attempt += 1
        self._reporter.retried(ask, DeadlineExceededError.code, 0.0)
        with contextlib.suppress(Agent99Error):  # the first attempt goes on all the same
            self._send(ask, destination).add_done_callback(partial(pass_on, future))

    def _may_run_twice(self, ask: Ask) -> bool:
        return ask.idempotency_key is not None or self._link.is_idempotent(ask.meant)

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

    def header(self, ask: Ask, destination: Destination) -> Header:
        """Write the header with which a request travels."""
        link = self._link
        sent_us = link.clock.wall_us() - int((link.clock.monotonic_s() - ask.sent_s) * 1e6)
        left_us = max(int((ask.deadline_s - link.clock.monotonic_s()) * 1e6), 1)
        whole_us = int((ask.deadline_s - ask.sent_s) * 1e6)
        return Header(
            type="request",
            from_uuid=self.from_uuid,
            to_uuid=destination.instance or destination.target,
            event_uuid=ask.event_id,
            timestamp=sent_us,
            operation=destination.operation,
            ttl_us=left_us,
            deadline=sent_us + whole_us,
            traceparent=ask.traceparent,
            attempt=ask.attempt if ask.attempt > 1 else None,
            idempotency_key=ask.idempotency_key,
        )

    def _make_lane(self, destination: Destination) -> Lane:
        """Return what is the same for every request to there; it is kept."""
        lane = self._lanes.get(destination.subject)
        if lane is None:
            if len(self._lanes) >= _LANES_MAX:
                self._lanes.clear()
            to_uuid = destination.instance or destination.target
            prefix = request_prefix(self.from_uuid, to_uuid, destination.operation)
            lane = Lane(prefix, Budget(self._link.clock.monotonic_s()))
            self._lanes[destination.subject] = lane
        return lane

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

    def _submit(self, local: Taker, ask: Ask, headers: Mapping[str, str] | None) -> Call | None:
        """Hand a request to an instance in this process; None: it is at its bounds or pauses."""
        instance, route = local
        destination = ask.destination
        dispatcher = instance.dispatcher
        if self._link.hooks.sent is not None:
            ask.is_told = True
            self._reporter.sent(ask)
        try:
            if destination.operation == DEFAULT_OPERATION:
                route = dispatcher.routes.choose_by_payload(ask.body)
            return dispatcher.submit(
                route,
                ask,
                ask.body,
                sender=self._link.subjects.sender,
                deadline_s=ask.deadline_s,
                headers=headers or _NO_HEADERS,
            )
        except (PausedError, OverloadedError):
            return None
        except RequestError as error:  # its payload names no operation that there is
            self._reporter.finished(ask, error.code)
            raise of_event(error, ask) from error.__cause__

    # --- events -----------------------------------------------------------------------------------

    def publish(self, topic: str, event: Any, headers: Mapping[str, str] | None = None) -> None:
        """Send an event to whoever listens now; see `Mesh.publish`."""
        link = self._link
        subject = link.subjects.event(parse_topic(topic))
        body = self.body(event)
        user = encode_user_headers(headers) if headers else b""
        header = Header(
            type="event",
            from_uuid=self.from_uuid,
            to_uuid=topic,
            event_uuid=link.ids.uuid(),
            timestamp=link.clock.wall_us(),
            traceparent=self.traceparent(),
        )
        link.wire.publish(subject, encode_message(header, body, user))

    def traceparent(self) -> str | None:
        """Return what a message carries that is sent here and now."""
        return self._reporter.traceparent()

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
