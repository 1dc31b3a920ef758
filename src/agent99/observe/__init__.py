"""See what the mesh does: records of what happened, and who listens to them.

Given:       records, from whoever asks, answers, drops or reconnects.
Gives:       them to every listener; nothing is built or told while nobody listens. The adapters
             (`agent99.observe.logs`, `.otel`, `.prometheus`) load what they need when imported.
May import:  errors; msgspec opentelemetry prometheus_client
Never:       delays, changes or fails what it observes; reads a clock; imports an adapter.
"""

from agent99.observe._hooks import Hooks, Tracing
from agent99.observe._meter import LATENCY_BOUNDS_S, Meter, Series
from agent99.observe._records import (
    ConnectionChanged,
    HandlerBroke,
    InstanceEjected,
    Kind,
    Load,
    MessageDropped,
    Record,
    RequestFinished,
    RequestReceived,
    RequestRetried,
    RequestSent,
    Side,
)
from agent99.observe._redact import HIDDEN, redact, redact_text
from agent99.observe._ring import Ring
from agent99.observe._trace import TraceContext, parse_traceparent, sent_trace, served_trace
from agent99.observe._tree import Hop, Row, draw_trace, lay_out_trace

__all__ = [
    "HIDDEN",
    "LATENCY_BOUNDS_S",
    "ConnectionChanged",
    "HandlerBroke",
    "Hooks",
    "Hop",
    "InstanceEjected",
    "Kind",
    "Load",
    "MessageDropped",
    "Meter",
    "Record",
    "RequestFinished",
    "RequestReceived",
    "RequestRetried",
    "RequestSent",
    "Ring",
    "Row",
    "Series",
    "Side",
    "TraceContext",
    "Tracing",
    "draw_trace",
    "lay_out_trace",
    "parse_traceparent",
    "redact",
    "redact_text",
    "sent_trace",
    "served_trace",
]
