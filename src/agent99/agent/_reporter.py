"""What a caller tells of its requests, to whoever listens."""

from __future__ import annotations

from agent99.agent._ask import Ask
from agent99.clock import Clock
from agent99.dispatch import find_context
from agent99.observe import (
    Hooks,
    RequestFinished,
    RequestRetried,
    RequestSent,
    TraceContext,
    sent_trace,
)


class Reporter:
    """Tells of the requests of one instance, or of a connection's own."""

    def __init__(self, agent: str, instance: str, hooks: Hooks, clock: Clock) -> None:
        self._agent = agent
        self._instance = instance
        self._hooks = hooks
        self._clock = clock

    def __repr__(self) -> str:
        return f"Reporter({self._agent!r}, {self._instance!r})"

    def begin_span(self, ask: Ask) -> None:
        """Let a request hang beneath the span that makes it."""
        parent = self._span()
        if parent is not None:
            ask.traceparent = sent_trace(ask.event_id, parent).traceparent
            ask.parent_span_id = parent.span_id

    def traceparent(self) -> str | None:
        """Return what an event carries that is published here and now."""
        span = self._span()
        return span.traceparent if span is not None else None

    def sent(self, ask: Ask) -> None:
        """An attempt has left."""
        if (tell := self._hooks.sent) is not None:
            tell(
                RequestSent(
                    agent=self._agent,
                    instance=self._instance,
                    target=ask.destination.target,
                    operation=ask.destination.operation,
                    event_id=ask.event_id,
                    traceparent=ask.traceparent,
                    attempt=ask.attempt,
                )
            )

    def finished(self, ask: Ask, code: str) -> None:
        """A request has ended, with this code."""
        if (tell := self._hooks.finished) is None:
            return
        destination = ask.destination
        tell(
            RequestFinished(  # by place: by name it takes twice the time, and every request is told
                "caller",
                self._agent,
                self._instance,
                destination.target,
                destination.operation,
                ask.event_id,
                self._clock.wall_us(),
                self._clock.monotonic_s() - ask.sent_s,
                code,
                ask.traceparent,
                ask.parent_span_id,
                ask.attempt,
            )
        )

    def retried(self, ask: Ask, code: str, delay_s: float) -> None:
        """A request will be made again."""
        if (tell := self._hooks.retried) is not None:
            tell(
                RequestRetried(
                    target=ask.destination.target,
                    operation=ask.destination.operation,
                    event_id=ask.event_id,
                    attempt=ask.attempt,
                    code=code,
                    delay_s=delay_s,
                    traceparent=ask.traceparent,
                )
            )

    def _span(self) -> TraceContext | None:
        """Return the span in which the running code is."""
        current = self._hooks.current
        span = current() if current is not None else None
        if span is None and (context := find_context()) is not None:
            span = context.trace
        return span
