"""OpenTelemetry: spans of both sides of every hop make one trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import copy_context

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode

from agent99.errors import UsageError
from agent99.observe import Hooks, RequestFinished, TraceContext
from agent99.observe.otel import RequestIds, trace_requests
from tests.observe._records import EVENT, INSTANCE, finished, make_trace


class Place:
    """Hooks that make spans, and the spans."""

    def __init__(self) -> None:
        self.hooks = Hooks()
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(id_generator=RequestIds(), shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.end = trace_requests(self.hooks, self.provider)

    def tell(self, *records: RequestFinished) -> list[ReadableSpan]:
        """Tell records; returns the spans that they became."""
        self.exporter.clear()
        for record in records:
            assert self.hooks.finished is not None
            self.hooks.finished(record)
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def place() -> Iterator[Place]:
    """Give hooks that make spans."""
    place = Place()
    yield place
    place.end()
    assert "Hooks()" == repr(place.hooks)
    assert place.hooks.current is None
    place.provider.shutdown()


def _id(span: ReadableSpan) -> str:
    assert span.context is not None
    return trace.format_span_id(span.context.span_id)


def _trace(span: ReadableSpan) -> str:
    assert span.context is not None
    return trace.format_trace_id(span.context.trace_id)


@given(st.integers(0, 10_000), st.integers(1, 15))
def test_spans_make_the_tree_of_the_trace(seed: int, size: int) -> None:
    """Every hop's spans stand in one trace: the server's beneath the client's, the next beneath."""
    place = Place()
    made = make_trace(seed, size)
    spans = place.tell(*(record for asked in made for record in (asked.sent, asked.served)))
    place.end()
    place.provider.shutdown()
    assert {made[0].served.trace_id} == {_trace(span) for span in spans}
    parents = {
        _id(span): trace.format_span_id(span.parent.span_id) if span.parent else ""
        for span in spans
    }
    assert size * 2 == len(parents)
    served = {asked.event_id: asked.served.span_id for asked in made}
    for asked in made:
        assert asked.sent.span_id == parents[asked.served.span_id]
        assert (served[asked.maker] if asked.maker else "") == parents[asked.sent.span_id]


def test_span_says_what_the_record_says(place: Place) -> None:
    """A span has the record's times, kind, outcome and names."""
    records = [
        finished(),
        finished(side="caller", code="SOLD_OUT", attempt=2),
        finished(kind="event", target="order.placed", event_id="e"),
        finished(kind="job", event_id="j"),
    ]
    served, asked, heard, worked = place.tell(*records)
    assert [SpanKind.SERVER, SpanKind.CLIENT, SpanKind.CONSUMER, SpanKind.CONSUMER] == [
        span.kind for span in (served, asked, heard, worked)
    ]
    assert "inventory reserve" == served.name
    assert records[0].started_us * 1000 == served.start_time
    assert records[0].ended_us * 1000 == served.end_time
    assert StatusCode.UNSET is served.status.status_code
    assert (StatusCode.ERROR, "SOLD_OUT") == (asked.status.status_code, asked.status.description)
    assert {
        "rpc.system": "agent99",
        "rpc.service": "inventory",
        "rpc.method": "reserve",
        "agent99.agent": "stock",
        "agent99.instance": INSTANCE,
        "agent99.event_id": EVENT,
        "agent99.attempt": 2,
        "error.type": "SOLD_OUT",
    } == dict(asked.attributes or {})
    assert heard.parent is None
    assert served.parent is not None
    assert served.parent.is_remote


def test_users_own_spans_belong_to_the_trace(place: Place) -> None:
    """In a handler the request's span is the current one, and what is asked there its child."""
    tracer = place.provider.get_tracer("the user's")
    request = TraceContext("1" * 32, "2" * 16)
    current, enter = place.hooks.current, place.hooks.enter
    assert current is not None
    assert enter is not None

    def handle() -> tuple[TraceContext | None, ...]:
        enter(request)
        at_first = current()
        with tracer.start_as_current_span("query"):
            return at_first, current()

    assert current() is None
    at_first, within = copy_context().run(handle)
    assert current() is None
    assert request == at_first
    (span,) = place.exporter.get_finished_spans()
    assert within is not None
    assert (_trace(span), _id(span)) == (within.trace_id, within.span_id)
    assert request.trace_id == within.trace_id
    assert span.parent is not None
    assert request.span_id == trace.format_span_id(span.parent.span_id)


def test_other_spans_have_ids_of_their_own(place: Place) -> None:
    """A span that is no request's gets ids by chance, also after one that is."""
    tracer = place.provider.get_tracer("the user's")
    place.tell(finished())
    ids = set()
    for _ in range(3):
        span = tracer.start_span("own")
        ids.add(span.get_span_context().span_id)
        span.end()
    assert 3 == len(ids)
    assert int(finished().span_id, 16) not in ids
    assert isinstance(RequestIds().is_trace_id_random(), bool)


@given(st.integers(0, 500))
def test_ratio_keeps_traces_whole(seed: int) -> None:
    """A sampler that looks at the trace's id takes all spans of a trace, or none."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(
        id_generator=RequestIds(), sampler=TraceIdRatioBased(0.5), shutdown_on_exit=False
    )
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    hooks = Hooks()
    trace_requests(hooks, provider)
    for asked in make_trace(seed, 4):
        assert hooks.finished is not None
        hooks.finished(asked.sent)
        hooks.finished(asked.served)
    assert len(exporter.get_finished_spans()) in {0, 8}
    provider.shutdown()


def test_provider_without_our_ids_is_refused() -> None:
    """A provider that makes up ids would tear the trace apart: it is refused, with the remedy."""
    provider = TracerProvider(shutdown_on_exit=False)
    with pytest.raises(UsageError, match=r"TracerProvider\(id_generator=RequestIds\(\)\)"):
        trace_requests(Hooks(), provider)
    provider.shutdown()
