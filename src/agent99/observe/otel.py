"""OpenTelemetry: a span for each side of each request, in one trace through every hop.

Needs the extra `otel`. Span ids are derived from a request's id (see `TraceContext`), so the
provider has to take them from here:

    provider = TracerProvider(id_generator=RequestIds())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    end = trace_requests(hooks, provider)
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from agent99.errors import UsageError, how_to_install
from agent99.observe._hooks import Hooks
from agent99.observe._records import OK, RequestFinished
from agent99.observe._trace import SAMPLED, TraceContext, parse_traceparent

try:
    from opentelemetry import context as contexts
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
    from opentelemetry.trace import SpanKind, StatusCode
except ImportError as error:  # pragma: no cover - a test's child process goes this way
    raise UsageError(f"traces need opentelemetry-sdk: {how_to_install('otel')}") from error

_US = 1_000  # OpenTelemetry counts nanoseconds


class _Next(threading.local):
    """The ids of the span that is about to be started on this thread; 0: chance decides."""

    trace_id = 0
    span_id = 0


class RequestIds(IdGenerator):
    """Gives requests' spans the ids that travelled with them, and all other spans ids by chance."""

    def __init__(self, others: IdGenerator | None = None) -> None:
        self._others = others if others is not None else RandomIdGenerator()
        self._next = _Next()

    def __repr__(self) -> str:
        return "RequestIds()"

    def generate_trace_id(self) -> int:
        """Return the id of a trace that begins."""
        return self._next.trace_id or self._others.generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the id of a span."""
        return self._next.span_id or self._others.generate_span_id()

    def is_trace_id_random(self) -> bool:
        """Tell that trace ids are random: a request's own id is."""
        return self._others.is_trace_id_random()

    def announce(self, trace_id: int, span_id: int) -> None:
        """Tell the ids of the next span on this thread; 0 ends that."""
        self._next.trace_id, self._next.span_id = trace_id, span_id


def trace_requests(hooks: Hooks, provider: TracerProvider) -> Callable[[], None]:
    """Make a span of every request that ends, on either side; returns what ends that.

    In a handler the request's span is the current one, so that spans of other libraries hang
    beneath it; a request that is made within a span of the user's own hangs beneath that.

    A sampler that looks at the trace's id alone (`TraceIdRatioBased`) keeps traces whole.

    Raises:
        UsageError: the provider was not made with `RequestIds`, or another one is in use.
    """
    ids = provider.id_generator
    if not isinstance(ids, RequestIds):
        raise UsageError("make the provider so: TracerProvider(id_generator=RequestIds())")
    spans = _Spans(provider, ids)
    end_tracing = hooks.use_tracing(spans)
    end_spans = hooks.listen(RequestFinished, spans.finished)

    def end() -> None:
        end_tracing()
        end_spans()

    return end


class _Spans:
    """Turns records into spans."""

    def __init__(self, provider: TracerProvider, ids: RequestIds) -> None:
        self._tracer = provider.get_tracer("agent99")
        self._ids = ids

    def __repr__(self) -> str:
        return f"_Spans({self._ids!r})"

    def current(self) -> TraceContext | None:
        """See `Tracing`."""
        span = trace.get_current_span().get_span_context()
        if not span.is_valid:
            return None
        return TraceContext(
            trace.format_trace_id(span.trace_id),
            trace.format_span_id(span.span_id),
            span.trace_flags,
        )

    def enter(self, span: TraceContext) -> None:
        """See `Tracing`. Nothing takes it back: a context belongs to its task and ends with it."""
        contexts.attach(_context(span, is_remote=False))

    def finished(self, record: RequestFinished) -> None:
        """Start and end the span of a record."""
        received = parse_traceparent(record.traceparent)
        flags = received.flags if received is not None else SAMPLED
        trace_id, parent_id = record.trace_id, record.parent_id
        parent = contexts.Context()
        if parent_id:
            above = TraceContext(trace_id, parent_id, flags)
            parent = _context(above, is_remote=record.side == "callee")
        self._ids.announce(int(trace_id, 16), int(record.span_id, 16))
        try:
            span = self._tracer.start_span(
                f"{record.target} {record.operation}",
                context=parent,
                kind=_kind(record),
                attributes=_attributes(record),
                start_time=record.started_us * _US,
                record_exception=False,
                set_status_on_exception=False,
            )
        finally:
            self._ids.announce(0, 0)
        if record.code != OK:
            span.set_status(StatusCode.ERROR, record.code)
        span.end(record.ended_us * _US)


def _context(span: TraceContext, *, is_remote: bool) -> contexts.Context:
    above = trace.SpanContext(
        int(span.trace_id, 16),
        int(span.span_id, 16),
        is_remote=is_remote,
        trace_flags=trace.TraceFlags(span.flags),
    )
    base = contexts.Context() if is_remote else None
    return trace.set_span_in_context(trace.NonRecordingSpan(above), base)


def _kind(record: RequestFinished) -> SpanKind:
    if record.side == "caller":
        return SpanKind.CLIENT
    return SpanKind.CONSUMER if record.kind in ("event", "job") else SpanKind.SERVER


def _attributes(record: RequestFinished) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {
        "rpc.system": "agent99",
        "rpc.service": record.target,
        "rpc.method": record.operation,
        "agent99.instance": record.instance,
        "agent99.event_id": record.event_id,
    }
    if record.agent:
        attributes["agent99.agent"] = record.agent
    if record.attempt > 1:
        attributes["agent99.attempt"] = record.attempt
    if record.code != OK:
        attributes["error.type"] = record.code
    return attributes
