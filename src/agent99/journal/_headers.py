"""Single fields of the server's header blocks, read without parsing the rest. Pure.

Where a block has a field twice the last one counts: the server adds its own at the end, so that
what a writer stored cannot pass for it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

_DIRECT = (
    b"",
    b"Nats-Subject: ",
    b"Nats-Sequence: ",
    b"Nats-Time-Stamp: ",
    b"Nats-Num-Pending: ",
    b"Nats-Last-Sequence: ",
    b"",
    b"",
)


def status_of(block: bytes) -> int:
    """Return the status in the block's first line; 0 without one."""
    code = block[9:12]
    return int(code) if block.startswith(b"NATS/1.0 ") and code.isdigit() else 0


def field_of(block: bytes, name: bytes) -> bytes:
    """Return the last value of a field; empty without one."""
    start = block.rfind(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    return block[start : block.index(b"\r\n", start)].strip()


def number_of(block: bytes, name: bytes) -> int:
    """Return the last value of a field as a number; 0 without one or when it is none."""
    digits = field_of(block, name)
    return int(digits) if digits.isdigit() else 0


def append_headers(message_id: str, expected_sequence: int | None, expected_pattern: str) -> bytes:
    """Return the block that an append carries; empty where it has no conditions."""
    fields = b""
    if message_id:
        fields = b"Nats-Msg-Id: %b\r\n" % message_id.encode()
    if expected_sequence is not None:
        fields += b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % expected_sequence
    if expected_pattern:
        fields += b"Nats-Expected-Last-Subject-Sequence-Subject: %b\r\n" % expected_pattern.encode()
    return b"NATS/1.0\r\n%b\r\n" % fields if fields else b""


class DirectFields(msgspec.Struct, gc=False):
    """What the server adds to a message of a batch."""

    subject: str
    sequence: int
    previous: int
    """The sequence of the message before it in the batch; 0 for the first."""
    stored: bytes
    """When it was stored, RFC 3339."""


def direct_fields(block: bytes) -> DirectFields:
    """Read the fields that end the block of a message of a batch.

    Raises:
        ValueError: they are not there.
    """
    lines = block.rsplit(b"\r\n", 7)
    if len(lines) == len(_DIRECT) and all(map(bytes.startswith, lines, _DIRECT)):
        _, subject, sequence, stored, _, previous, _, _ = lines
        return DirectFields(
            subject[14:].decode(), int(sequence[15:]), int(previous[20:]), stored[17:]
        )
    # Another server may have another order.
    return DirectFields(
        field_of(block, b"Nats-Subject").decode(),
        int(field_of(block, b"Nats-Sequence")),
        int(field_of(block, b"Nats-Last-Sequence")),
        field_of(block, b"Nats-Time-Stamp"),
    )


def marker_of(block: bytes) -> Literal["put", "delete", "expire"]:
    """Return what a key-value message stands for: `put`, `delete` or `expire`."""
    if not block:
        return "put"
    reason = field_of(block, b"Nats-Marker-Reason")
    if reason:
        return "expire" if reason == b"MaxAge" else "delete"
    return "delete" if field_of(block, b"KV-Operation") in (b"DEL", b"PURGE") else "put"
