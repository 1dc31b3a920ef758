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
    OK,
    ConnectionChanged,
    HandlerBroke,
    InstanceEjected,
    Kind,
    Load,
    LoopBlocked,
    MessageDropped,
    Record,
    RequestFinished,
    RequestReceived,
    RequestRetried,
    RequestSent,
    Side,
    trace_id_of,
)
from agent99.observe._ring import Ring
from agent99.observe._trace import TraceContext, parse_traceparent, sent_trace, served_trace
from agent99.observe._tree import Hop, Row, draw_trace, lay_out_trace

__all__ = [
    "LATENCY_BOUNDS_S",
    "OK",
    "ConnectionChanged",
    "HandlerBroke",
    "Hooks",
    "Hop",
    "InstanceEjected",
    "Kind",
    "Load",
    "LoopBlocked",
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
    "sent_trace",
    "served_trace",
    "trace_id_of",
]
