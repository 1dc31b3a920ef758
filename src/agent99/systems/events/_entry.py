"""An entry of the audit log, and the hash that ties it to the one before. Pure.

A hash chain after S. Haber and W. S. Stornetta, "How to time-stamp a digital document" (1991), as
transparency logs use it (RFC 9162 has the tree): each hash covers the entry's fields, its event's
bytes as they were stored, and the hash before. Who changes, drops, adds or moves an entry must
write every later one anew, and the anchors elsewhere say that they did.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import msgspec

from agent99.envelope import Header, Topic, decode_header, key_text, parse_log
from agent99.errors import BadRequestError, InvalidNameError
from agent99.journal import Record

GENESIS: Final = bytes(32)
"""What stands for the hash before the first entry."""
_TRACE_PARTS: Final = 4

_encode = msgspec.json.Encoder().encode


class Fact(msgspec.Struct, frozen=True):
    """What is known of one stored event, before it has its place in the chain."""

    event_id: str
    type: str
    """Its topic."""
    actor: str
    """The instance, or connection, that appended it."""
    entity: str
    """Its key; empty for an event without one."""
    correlation: str
    """The id of its trace; empty where there is none."""
    occurred_us: int
    """When it was appended by its sender's clock, microseconds since the epoch."""
    stored_us: int
    """When the server stored it, microseconds since the epoch."""
    partition: int
    sequence: int
    """Its place in the mesh's log."""
    event: bytes
    """The whole message, as it was stored."""


class AuditEntry(Fact, frozen=True):
    """One entry of the audit log: a fact in its place."""

    number: int
    """Starts at 1, without a gap."""
    is_repeat: bool
    """The log holds this event a second time, under the same id: its bytes are not kept twice."""
    previous: bytes
    """The hash of the entry before."""
    hash: bytes


class Head(msgspec.Struct, frozen=True):
    """The end of a chain."""

    number: int = 0
    hash: bytes = GENESIS


def fact_of(record: Record, partition: int) -> Fact:
    """Return what a stored record says of itself; what nobody can read is a fact all the same."""
    try:
        place = parse_log(record.subject)
        topic, entity = place.topic, key_text(place.key)
    except InvalidNameError:
        topic, entity = Topic(""), ""
    try:
        header = decode_header(record.payload)
    except BadRequestError:
        digest = sha256(b"%d %b" % (record.stored_us, record.payload)).hexdigest()
        header = Header(
            type="event",
            from_uuid="",
            to_uuid=topic,
            event_uuid=f"unreadable-{digest}",
            timestamp=record.stored_us,
        )
    trace = (header.traceparent or "").split("-")
    return Fact(
        event_id=header.event_uuid,
        type=topic,
        actor=header.from_uuid,
        entity="" if entity == header.event_uuid else entity,  # it was appended without a key
        correlation=trace[1] if len(trace) == _TRACE_PARTS else "",
        occurred_us=header.timestamp,
        stored_us=record.stored_us,
        partition=partition,
        sequence=record.sequence,
        event=record.payload,
    )


def link(head: Head, fact: Fact, *, is_repeat: bool = False) -> AuditEntry:
    """Return a fact as the entry after `head`."""
    if is_repeat:
        fact = msgspec.structs.replace(fact, event=b"")
    what = (*msgspec.structs.astuple(fact), head.number + 1, is_repeat, head.hash, GENESIS)
    entry = AuditEntry(*what)
    return msgspec.structs.replace(entry, hash=seal(entry))


def seal(entry: AuditEntry) -> bytes:
    """Return the hash that an entry must have: SHA-256 of the hash before and all that it says.

    The fields are one JSON array, which ends itself; so no two entries have the same bytes.
    """
    fields = (
        entry.number,
        entry.event_id,
        entry.type,
        entry.actor,
        entry.entity,
        entry.correlation,
        entry.occurred_us,
        entry.stored_us,
        entry.partition,
        entry.sequence,
        entry.is_repeat,
    )
    return sha256(entry.previous + _encode(fields) + entry.event).digest()
