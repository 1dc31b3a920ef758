"""NATS header blocks: made from a mapping, read into one. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from agent99.errors import LocalProtocolError, RemoteProtocolError
from agent99.wire._port import Message

HEADER_BYTES_MAX = 65_535
"""The largest header block that is made or read."""

_VERSION = b"NATS/1.0"
_is_name = re.compile(r"[!-9;-~]+").fullmatch  # printable ASCII without space and colon
_has_control = re.compile("[\x00-\x1f\x7f]").search


class ParsedHeaders(msgspec.Struct, frozen=True):
    """What a header block says."""

    status: int
    """The status in the first line (503: no responders, 100: idle heartbeat, …); 0 without one."""
    description: str
    """The words after the status; empty without any."""
    fields: dict[str, str]
    """The fields in their order; of a name that comes twice the first value counts."""


def format_headers(fields: Mapping[str, str]) -> bytes:
    """Return the block for `publish` and `request`; empty for an empty mapping.

    Args:
        fields: Names of printable ASCII without spaces and colons; values without control
            characters (no CR, no LF) and without white space at either end.

    Raises:
        LocalProtocolError: a name or a value could break the block, or it is over 65,535 bytes.
    """
    if not fields:
        return b""
    lines = ["NATS/1.0"]
    for name, value in fields.items():
        if _is_name(name) is None:
            raise LocalProtocolError(f"{name[:80]!r} is no name of a header")
        if _has_control(value) is not None or value != value.strip():
            raise LocalProtocolError(f"the value of header {name!r} is not one clean line")
        lines.append(f"{name}: {value}")
    lines.append("\r\n")
    try:
        block = "\r\n".join(lines).encode()
    except UnicodeEncodeError:
        raise LocalProtocolError("a header's value is no valid Unicode") from None
    if len(block) > HEADER_BYTES_MAX:
        raise LocalProtocolError(f"a header block of {len(block):,} bytes")
    return block


def parse_headers(block: bytes) -> ParsedHeaders:
    """Read a block as it arrived; an empty one has no fields. Names keep their case.

    Raises:
        RemoteProtocolError: it is no header block.
    """
    if not block:
        return ParsedHeaders(0, "", {})
    if len(block) > HEADER_BYTES_MAX or not block.startswith(_VERSION):
        raise RemoteProtocolError(f"no header block: {block[:40]!r}")
    try:
        first, *lines = block.decode().split("\r\n")
    except UnicodeDecodeError:
        raise RemoteProtocolError("a header block that is no UTF-8") from None
    code, _, description = first[len(_VERSION) :].strip().partition(" ")
    if code and not (code.isascii() and code.isdigit() and len(code) <= 3):
        raise RemoteProtocolError(f"a header block with status {code[:20]!r}")
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
        elif line:
            raise RemoteProtocolError(f"a header without a colon: {line[:40]!r}")
    return ParsedHeaders(int(code or 0), description.strip(), fields)


def is_no_responders(message: Message) -> bool:
    """Return whether the message is the server's notice that nobody listens."""
    return message.headers.startswith(b"NATS/1.0 503") and not message.payload
