"""An entry of the audit log, and the hash that ties it to the one before. Pure.

A hash chain after S. Haber and W. S. Stornetta, "How to time-stamp a digital document" (1991), as
transparency logs use it (RFC 9162 has the tree): each hash covers the entry's fields, its event's
bytes as they were stored, and the hash before. Who changes, drops, adds or moves an entry must
write every later one anew, and the anchors elsewhere say that they did.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from agent99.envelope import Header, Topic, decode_header, key_text, parse_log, split_message
from agent99.errors import BadRequestError, InvalidNameError
from agent99.journal import Record

GENESIS: Final = bytes(32)
"""What stands for the hash before the first entry."""
_TRACE_PARTS: Final = 4
_NUL: Final = "\0"
_CHARACTERS_MAX: Final = 512

FIELDS: Final = (
    "number",
    "event_id",
    "type",
    "actor",
    "entity",
    "correlation",
    "occurred_us",
    "stored_us",
    "partition",
    "sequence",
    "is_repeat",
    "event",
    "previous",
    "hash",
)
"""Of an entry, in the order in which they are hashed and read."""
SEALED: Final = FIELDS.index("event")
"""So many of them are hashed as JSON."""
Row = tuple[Any, ...]
"""The values of an entry in the order of `FIELDS`, as a table has them: perhaps of any kind."""

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
    header = _header_of(record)
    trace = (header.traceparent or "").split("-")
    return Fact(
        event_id=header.event_uuid,
        type=_stored(topic),
        actor=_stored(header.from_uuid),
        entity="" if entity == header.event_uuid else _stored(entity),  # appended without a key
        correlation=_stored(trace[1]) if len(trace) == _TRACE_PARTS else "",
        occurred_us=header.timestamp,
        stored_us=record.stored_us,
        partition=partition,
        sequence=record.sequence,
        event=record.payload,
    )


def _header_of(record: Record) -> Header:
    """Return a record's header; where it has none that can be kept, one that says so."""
    try:
        header = decode_header(record.payload)
    except BadRequestError:
        header = None
    if header is not None and _NUL not in header.event_uuid:
        return header
    return Header(
        type="event",
        from_uuid="",
        to_uuid="",
        event_uuid=f"unreadable-{_digest(record.sequence, record.stored_us, record.payload)}",
        timestamp=record.stored_us,
    )


def _stored(text: str) -> str:
    """Return a text as every database can hold it, and index it; the event has it as it was."""
    return text.replace(_NUL, "\ufffd")[:_CHARACTERS_MAX]


def _digest(sequence: int, stored_us: int, payload: bytes) -> str:
    return sha256(b"%d %d %b" % (sequence, stored_us, payload)).hexdigest()


def repeats(fact: Fact, event: bytes) -> bool:
    """Tell whether an event under the same id says the same; its header may be another one."""
    return _body_of(fact.event) == _body_of(event)


def renamed(fact: Fact) -> Fact:
    """Return an event whose id another one had before, under an id that tells so."""
    digest = _digest(fact.sequence, fact.stored_us, fact.event)
    return msgspec.structs.replace(fact, event_id=f"reused-{digest}")


def _body_of(event: bytes) -> bytes:
    try:
        return split_message(event)[1]
    except BadRequestError:
        return event


def link(head: Head, fact: Fact, *, is_repeat: bool = False) -> AuditEntry:
    """Return a fact as the entry after `head`."""
    if is_repeat:
        fact = msgspec.structs.replace(fact, event=b"")
    fields: list[Any] = list(msgspec.structs.astuple(fact))
    fields += [head.number + 1, is_repeat, head.hash, GENESIS]
    entry = AuditEntry(*fields)
    return msgspec.structs.replace(entry, hash=seal(entry))


def seal(entry: AuditEntry) -> bytes:
    """Return the hash that an entry must have."""
    return digest_of(entry.previous, row_of(entry)[:SEALED], entry.event)


def digest_of(previous: bytes, fields: Sequence[Any], event: bytes) -> bytes:
    """Return SHA-256 of the hash before and all that an entry says.

    The fields are one JSON array, which ends itself; so no two entries have the same bytes.

    Args:
        fields: The first `SEALED` of a `Row`.
    """
    return sha256(previous + _encode(fields) + event).digest()


def row_of(entry: AuditEntry) -> Row:
    """Return an entry as it is read from a table."""
    return tuple([getattr(entry, name) for name in FIELDS])


def entry_of(row: Row) -> AuditEntry:
    """Return an entry as it was read from a table, where SQL has no truth values."""
    values: dict[str, Any] = dict(zip(FIELDS, row, strict=True))
    values["is_repeat"] = bool(values["is_repeat"])
    return AuditEntry(**values)
