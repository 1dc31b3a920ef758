"""What can be told of the mesh: one frozen record for each thing that happens.

Records hold ids and durations, never a payload. Those that are made for every request hold nothing
that the garbage collector has to look at.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from agent99.observe._trace import digits_of, parse_traceparent, served_span, span_of_digits

Side = Literal["caller", "callee"]
Kind = Literal["request", "event", "control", "job"]
"""What was handled; a job is stored work, of whose sending nobody keeps a record."""

OK = "OK"
"""The code of what went well; every other is that of an error."""


class RequestSent(msgspec.Struct, frozen=True, gc=False):
    """A request leaves its caller."""

    agent: str
    """The caller's name; empty for a connection that hosts no agent."""
    instance: str
    """The caller's instance, or its connection."""
    target: str
    """The capability, or the agent's name, that is asked."""
    operation: str
    event_id: str
    traceparent: str | None = None
    attempt: int = 1


class RequestReceived(msgspec.Struct, frozen=True, gc=False):
    """An instance has taken a message on: it runs, or waits for a place."""

    agent: str
    instance: str
    operation: str
    event_id: str
    traceparent: str | None = None
    attempt: int = 1
    kind: Kind = "request"
    sender: str = ""
    """Who asks, as the subject says."""


class RequestFinished(msgspec.Struct, frozen=True, gc=False):
    """A request has ended: on its caller's side, or on the side of the instance that served it."""

    side: Side
    agent: str
    """The name of the agent on that side; empty for a connection that hosts none."""
    instance: str
    target: str
    """The capability, or the agent's name, that was asked; of an event, its topic."""
    operation: str
    event_id: str
    ended_us: int
    """Microseconds since the epoch, UTC."""
    duration_s: float
    """On the caller's side from the request to its outcome; on the other, of the handler."""
    code: str = OK
    """`OK`, or the error's code."""
    traceparent: str | None = None
    """That the message carried; of a request that began its trace, None."""
    parent_span_id: str = ""
    """On the caller's side: the span that made the request; empty where it began its trace."""
    attempt: int = 1
    kind: Kind = "request"

    @property
    def trace_id(self) -> str:
        """The trace that it belongs to: 32 hexadecimal digits."""
        return trace_id_of(self.event_id, self.traceparent)

    @property
    def span_id(self) -> str:
        """Its span: 16 hexadecimal digits."""
        if self.side == "caller":
            return span_of_digits(digits_of(self.event_id))
        return served_span(self.event_id, self.instance, self.attempt)

    @property
    def parent_id(self) -> str:
        """The span that it belongs to; empty where it began its trace."""
        if self.side == "caller":
            return self.parent_span_id
        received = parse_traceparent(self.traceparent)
        if received is not None:
            return received.span_id
        # What else begins a trace has nobody above it: who publishes or posts keeps no record.
        return span_of_digits(digits_of(self.event_id)) if self.kind == "request" else ""

    @property
    def started_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        return self.ended_us - round(self.duration_s * 1e6)


class MessageDropped(msgspec.Struct, frozen=True, gc=False):
    """A message ended without an answer."""

    reason: str
    """A few fixed words: `stale`, `deadline`, `late_answer`; the errors' reference lists them."""
    agent: str = ""
    """Who dropped it; empty where the connection did."""
    instance: str = ""
    operation: str = ""
    event_id: str = ""
    """Empty where the message could not be read, or was not."""
    count: int = 1
    """How many at once; starts at 1."""


class RequestRetried(msgspec.Struct, frozen=True, gc=False):
    """A request will be made again."""

    target: str
    operation: str
    event_id: str
    attempt: int
    """Which try comes next; the first retry is 2."""
    code: str
    """How the one before it ended."""
    delay_s: float
    traceparent: str | None = None


class InstanceEjected(msgspec.Struct, frozen=True, gc=False):
    """A caller leaves an instance out, or takes it in again."""

    agent: str
    instance: str
    reason: str
    is_back: bool = False


class ConnectionChanged(msgspec.Struct, frozen=True, gc=False):
    """The connection to the server changed its state."""

    state: str
    """`connected`, `reconnecting` or `closed`."""
    url: str = ""
    """The server's address, without a credential."""
    reconnects: int = 0
    """How often it was made again, so far."""


class HandlerBroke(msgspec.Struct, frozen=True):
    """An operation raised what it should not; its caller is told `HANDLER_ERROR`."""

    agent: str
    instance: str
    operation: str
    event_id: str
    error: BaseException
    traceparent: str | None = None


class LoopBlocked(msgspec.Struct, frozen=True, gc=False):
    """The event loop was blocked for a second or more, and no longer is."""

    lag_s: float
    """By how much it was late; the block itself may have lasted half a second longer."""
    where: str
    """The function that blocked it, with its file and line; empty where none was seen."""


class Load(msgspec.Struct, frozen=True, gc=False):
    """How much an instance has to do, at the moment of asking."""

    agent: str
    instance: str
    in_flight: int
    waiting: int
    """In its queue."""


Record: TypeAlias = (
    RequestSent
    | RequestReceived
    | RequestFinished
    | MessageDropped
    | RequestRetried
    | InstanceEjected
    | ConnectionChanged
    | HandlerBroke
    | LoopBlocked
)
"""Whatever a listener can hear."""


def trace_id_of(event_id: str, traceparent: str | None) -> str:
    """Return the trace of a message, by what it carries, else by its own id."""
    received = parse_traceparent(traceparent)
    return received.trace_id if received is not None else digits_of(event_id)
