"""W3C trace context: the grammar, held against a second reading of it and against OpenTelemetry."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agent99.observe import TraceContext, parse_traceparent, sent_trace, served_trace

VALID = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEX = "0123456789abcdef"

hex_digits = st.text(HEX, min_size=1, max_size=40)
traces = st.text(HEX, min_size=32, max_size=32)
spans = st.text(HEX, min_size=16, max_size=16)
near = st.builds(
    "-".join,
    st.tuples(
        st.sampled_from(["00", "01", "cc", "fe", "ff", "0", "000", "0A"]) | hex_digits,
        traces | st.sampled_from(["0" * 32, "A" * 32]) | hex_digits,
        spans | st.sampled_from(["0" * 16, "F" * 16]) | hex_digits,
        st.text(HEX, min_size=2, max_size=2) | hex_digits,
    ),
)
suffixes = st.sampled_from(["", "", "", "-", "-x", "-what-may-come", "x", " ", "\n", "-\n"])
event_ids = st.uuids(version=4).map(str)
contexts = st.builds(
    TraceContext,
    traces.filter(lambda digits: digits.strip("0")),
    spans.filter(lambda digits: digits.strip("0")),
    st.integers(0, 3),
)


def _naive(text: str) -> tuple[str, str, int] | None:
    """Read a traceparent as the recommendation's prose has it, step by step."""
    version, rest, after = text[:2], text[2:55], text[55:]
    parts = rest.split("-")
    is_valid = (
        len(text) >= 55
        and all(one in HEX for one in version)
        and version != "ff"
        and (not after or (version != "00" and after[0] == "-"))
        and [0, 32, 16, 2] == [len(part) for part in parts]
        and all(one in HEX for part in parts for one in part)
        and all(part.strip("0") for part in parts[1:3])
    )
    return (parts[1], parts[2], int(parts[3], 16) & 3) if is_valid else None


@given(st.builds(str.__add__, near, suffixes) | st.text(max_size=60))
@example(VALID)
@example(VALID.upper())
@example(f"cc{VALID[2:]}-more")
@example(f"cc{VALID[2:]}more")
@example(VALID.replace("-01", "-ff"))
@example("00-٤bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
def test_traceparent_is_read_as_the_grammar_says(text: str) -> None:
    """A traceparent is valid if and only if the recommendation says so, and means what it says."""
    found = parse_traceparent(text)
    read = (found.trace_id, found.span_id, found.flags) if found is not None else None
    assert _naive(text) == read


@given(near)
@example(VALID)
def test_opentelemetry_reads_the_same(text: str) -> None:
    """OpenTelemetry's own propagator accepts what we accept, with the same ids."""
    context = TraceContextTextMapPropagator().extract({"traceparent": text})
    theirs = trace.get_current_span(context).get_span_context()
    ours = parse_traceparent(text)
    assert theirs.is_valid == (ours is not None)
    if ours is not None:
        assert trace.format_trace_id(theirs.trace_id) == ours.trace_id
        assert trace.format_span_id(theirs.span_id) == ours.span_id


@given(contexts)
def test_what_is_written_is_read_back(context: TraceContext) -> None:
    """A span's traceparent is valid version 00 and leads back to the span."""
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]", context.traceparent)
    assert context == parse_traceparent(context.traceparent)


def test_absent_is_none() -> None:
    """No traceparent is no span."""
    assert parse_traceparent(None) is None


@given(event_ids, contexts)
def test_child_belongs_to_its_parents_trace(event_id: str, parent: TraceContext) -> None:
    """A request made within a span has the span's trace and flags, and a span of its own."""
    sent = sent_trace(event_id, parent)
    assert (parent.trace_id, parent.flags) == (sent.trace_id, sent.flags)
    assert parent.span_id != sent.span_id
    served = served_trace(event_id, sent.traceparent, "instance")
    assert (parent.trace_id, parent.flags) == (served.trace_id, served.flags)
    assert 3 == len({parent.span_id, sent.span_id, served.span_id})


@given(event_ids, st.none() | st.just("") | near.filter(lambda text: _naive(text) is None))
def test_invalid_one_begins_anew(event_id: str, traceparent: str | None) -> None:
    """Without a valid traceparent both sides name the same new trace: the request's own id."""
    assert UUID(event_id).hex == sent_trace(event_id).trace_id
    assert UUID(event_id).hex == served_trace(event_id, traceparent, "instance").trace_id
    assert 1 == served_trace(event_id, traceparent, "instance").flags


@given(st.text(min_size=1, max_size=128), st.text(max_size=40), st.integers(1, 9))
@example("00000000-0000-0000-0000-000000000000", "", 1)
@example("1" + "0" * 31, "", 1)
@example("\ud800", "", 1)
def test_any_id_gives_valid_spans(event_id: str, instance: str, attempt: int) -> None:
    """Ids of peers who name requests as they like still give spans that the grammar allows."""
    for context in (sent_trace(event_id), served_trace(event_id, None, instance, attempt)):
        assert context == parse_traceparent(context.traceparent)


@pytest.mark.parametrize(("instance", "attempt"), [("other", 1), ("one", 2)])
def test_everybody_who_serves_has_a_span(instance: str, attempt: int) -> None:
    """Two who serve the same message, or one who serves it twice, have spans that differ."""
    event_id = "6f1d2c3b-1234-4abc-8def-0123456789ab"
    first = served_trace(event_id, None, "one", 1)
    assert first.span_id != served_trace(event_id, None, instance, attempt).span_id
