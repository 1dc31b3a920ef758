"""W3C Trace Context: which trace a request belongs to, and which span of it.

https://www.w3.org/TR/trace-context/. Pure, and without randomness: a request has a random id of its
own already, and every span id is derived from it. So a request that begins a trace carries nothing
more, both of its sides name the same spans, and nothing is paid for until somebody looks.
"""

from __future__ import annotations

import re

import msgspec

SAMPLED = 0x01
"""Flag: the sender may have recorded the trace."""
_KNOWN_FLAGS = 0x03  # sampled, and level 2's random-trace-id; all others are sent as zero
_FORM = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<more>-.*)?",
    re.DOTALL,
)
_HEX = re.compile(r"[0-9a-f]{32}")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """One span of one trace."""

    trace_id: str
    """32 lower-case hexadecimal digits, not all zero."""
    span_id: str
    """16 of them, not all zero."""
    flags: int = SAMPLED

    @property
    def traceparent(self) -> str:
        """What a request carries that is made within this span."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags & _KNOWN_FLAGS:02x}"


def parse_traceparent(text: str | None) -> TraceContext | None:
    """Return what a `traceparent` says, or None where it is absent or invalid: begin anew then.

    A version that is not known yet is read as far as version 00 goes.
    """
    match = _FORM.fullmatch(text) if text is not None else None
    if match is None or match["version"] == "ff":
        return None
    if match["version"] == "00" and match["more"] is not None:
        return None
    trace_id, span_id = match["trace"], match["span"]
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceContext(trace_id, span_id, int(match["flags"], 16) & _KNOWN_FLAGS)


def sent_trace(event_id: str, parent: TraceContext | None = None) -> TraceContext:
    """Return the span of a request on its caller's side.

    Args:
        event_id: Of the request.
        parent: The span that makes it; None begins a trace.
    """
    digits = digits_of(event_id)
    if parent is None:
        return TraceContext(digits, span_of_digits(digits))
    return TraceContext(parent.trace_id, span_of_digits(digits), parent.flags)


def served_trace(
    event_id: str, traceparent: str | None, instance: str, attempt: int = 1
) -> TraceContext:
    """Return the span of a request on the side of the instance that serves it.

    Args:
        traceparent: That the request carries; an absent or invalid one begins a trace.
        attempt: Which try this is; starts at 1.
    """
    received = parse_traceparent(traceparent)
    span_id = served_span(event_id, instance, attempt)
    if received is None:
        return TraceContext(digits_of(event_id), span_id)
    return TraceContext(received.trace_id, span_id, received.flags)


def digits_of(event_id: str) -> str:
    """Return the trace id of a request that begins a trace: its own id, in 32 digits."""
    digits = event_id.replace("-", "")
    if _HEX.fullmatch(digits) and not digits.endswith(_NO_SPAN):
        return digits
    return _hash(event_id, 16)


def span_of_digits(digits: str) -> str:
    """Return the caller's span id, from what `digits_of` gave; 62 bits of a UUID are random."""
    return digits[16:]


def served_span(event_id: str, instance: str, attempt: int) -> str:
    """Return a span id that differs for all who serve the same message."""
    return _hash(f"{event_id}/{instance}/{attempt}", 8)


def _hash(text: str, size_bytes: int) -> str:
    import hashlib  # noqa: PLC0415 - a twentieth of the import, and few processes ever trace

    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=size_bytes).hexdigest()
    return digest if digest.strip("0") else "1" * len(digest)  # all zero is no id
