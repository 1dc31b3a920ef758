"""Carry bytes between processes, over subjects.

Given:       bytes and a subject, or a receiver for a subject.
Gives:       messages as they arrive; TransportError, ClosedError, LocalProtocolError.
May import:  errors clock ids; msgspec
Never:       looks into a payload, knows an agent, blocks the event loop.
"""

from agent99.wire._connection import NatsWire, open_wire
from agent99.wire._headers import ParsedHeaders, format_headers, is_no_responders, parse_headers
from agent99.wire._memory import MemoryBroker, MemoryWire
from agent99.wire._options import ServerInfo, WireOptions
from agent99.wire._port import (
    ConnectionState,
    Headers,
    Message,
    Receive,
    Subscription,
    Wire,
    WireStatistics,
)

__all__ = [
    "ConnectionState",
    "Headers",
    "MemoryBroker",
    "MemoryWire",
    "Message",
    "NatsWire",
    "ParsedHeaders",
    "Receive",
    "ServerInfo",
    "Subscription",
    "Wire",
    "WireOptions",
    "WireStatistics",
    "format_headers",
    "is_no_responders",
    "open_wire",
    "parse_headers",
]
