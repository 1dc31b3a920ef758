"""Tells what became of one instance's messages, to whoever listens."""

from __future__ import annotations

import logging
from typing import Any

from agent99.clock import Clock
from agent99.dispatch._call import Call
from agent99.envelope import Header
from agent99.errors import RequestError
from agent99.observe import (
    OK,
    HandlerBroke,
    Hooks,
    Kind,
    MessageDropped,
    RequestFinished,
    RequestReceived,
)

_log = logging.getLogger("agent99.dispatch")


class Witness:
    """Who an instance is, and who wants to hear of it.

    A caller asks first whether anybody listens (`hooks.finished` and so on), so that a message of
    which nobody wants to hear costs one look at an attribute.
    """

    def __init__(
        self, agent: str, instance: str, *, kind: Kind = "request", hooks: Hooks, clock: Clock
    ) -> None:
        self.agent = agent
        self.instance = instance
        self.kind: Kind = kind
        """The kind of message that is taken here."""
        self.hooks = hooks
        self._clock = clock

    def __repr__(self) -> str:
        return f"Witness({self.agent!r}, {self.instance!r}, {self.kind!r})"

    async def handle(self, call: Any, payload: Any) -> Any:
        """Run the handler of a call within the span that a tracing library is told of."""
        if (enter := self.hooks.enter) is not None:
            enter(call.trace)
        return await call.route.handle(call, payload)

    def received(self, call: Call) -> None:
        """A message was taken on."""
        if (tell := self.hooks.received) is None:
            return
        request = call.request
        tell(
            RequestReceived(
                agent=self.agent,
                instance=self.instance,
                operation=call.route.operation,
                event_id=request.event_uuid,
                traceparent=request.traceparent,
                attempt=request.attempt or 1,
                kind="job" if call.route.is_job else self.kind,
                sender=call.sender,
            )
        )

    def finished(self, call: Call, duration_s: float, error: RequestError | None) -> None:
        """A message that was taken on has ended."""
        if (tell := self.hooks.finished) is None:
            return
        kind: Kind = "job" if call.route.is_job else self.kind
        event_id, traceparent, attempt = call.about()
        tell(
            RequestFinished(  # by place: by name it takes twice the time, and every request is told
                "callee",
                self.agent,
                self.instance,
                call.operation if kind == "event" else self.agent,
                call.route.operation,
                event_id,
                self._clock.wall_us(),
                duration_s,
                OK if error is None else error.code,
                traceparent,
                "",
                attempt,
                kind,
            )
        )

    def refused(self, header: Header | None, error: RequestError) -> None:
        """A message was answered with an error before it came to an operation."""
        if (tell := self.hooks.finished) is None or header is None:
            return
        tell(
            RequestFinished(
                side="callee",
                agent=self.agent,
                instance=self.instance,
                target=self.agent,
                operation=header.operation or "",
                event_id=header.event_uuid,
                ended_us=self._clock.wall_us(),
                duration_s=0.0,
                code=error.code,
                traceparent=header.traceparent,
                attempt=header.attempt or 1,
                kind=self.kind,
            )
        )

    def dropped(self, reason: str, call: Call | None = None) -> None:
        """A message ended without an answer."""
        if (tell := self.hooks.dropped) is None:
            return
        operation = call.route.operation if call is not None else ""
        event_id = call.event_id if call is not None else ""
        tell(MessageDropped(reason, self.agent, self.instance, operation, event_id))

    def broke(self, call: Call, error: BaseException) -> None:
        """An operation raised what it should not: it is logged, whoever listens besides."""
        request = call.request
        about = {
            "agent": self.agent,
            "instance": self.instance,
            "event_id": request.event_uuid,
            "trace_id": call.trace.trace_id,
        }
        text = "operation %s broke, event %s"
        _log.error(text, call.operation, request.event_uuid, exc_info=error, extra=about)
        if (tell := self.hooks.broke) is None:
            return
        tell(
            HandlerBroke(
                agent=self.agent,
                instance=self.instance,
                operation=call.route.operation,
                event_id=request.event_uuid,
                error=error,
                traceparent=request.traceparent,
            )
        )
