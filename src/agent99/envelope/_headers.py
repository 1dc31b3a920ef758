"""A user's own headers, which stand in the envelope's header beside its fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from agent99.envelope._body import HEAD
from agent99.envelope._codec import Header
from agent99.errors import PayloadTooLargeError, UsageError

HEADER_BYTES_MAX = 8 * 1024
"""A user's own headers together, names and values."""
HEADERS_MAX = 32
"""A user's own headers in one message."""
_HEADER_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(Header))
_HEADER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
_encode = msgspec.json.Encoder().encode


class _Enveloped(msgspec.Struct):
    header: dict[str, Any]


_decode_enveloped = msgspec.json.Decoder(_Enveloped).decode
_decode_header = msgspec.json.Decoder(dict[str, Any]).decode


def encode_user_headers(headers: Mapping[str, str]) -> bytes:
    """Return a user's own headers, checked, for `encode_message`.

    Raises:
        UsageError: a name that breaks the grammar or belongs to the envelope, a value that is no
            text, more than 32 of them.
        PayloadTooLargeError: more than 8 KiB together.
    """
    if len(headers) > HEADERS_MAX:
        raise UsageError(f"{len(headers)} headers; a message carries at most {HEADERS_MAX}")
    for name, value in headers.items():
        if not isinstance(name, str) or _HEADER_NAME.fullmatch(name) is None:
            raise UsageError(
                f"{name!r} is no header: 1 to 64 letters, digits, '-' and '_',"
                " beginning and ending with a letter or digit"
            )
        if name in _HEADER_FIELDS:
            raise UsageError(f"the header {name!r} is the envelope's own")
        if not isinstance(value, str):
            raise UsageError(f"the header {name!r} must be text, not {type(value).__name__}")
    try:
        encoded = _encode(dict(headers))
    except UnicodeEncodeError as error:
        raise UsageError(f"a header holds text that is no Unicode: {error}") from error
    if len(encoded) > HEADER_BYTES_MAX:
        raise PayloadTooLargeError("headers", len(encoded), HEADER_BYTES_MAX)
    return encoded


def decode_user_headers(data: bytes) -> dict[str, str]:
    """Return all that stands in a message's header as text, the envelope's own fields included."""
    header = _header(data)
    return {name: value if isinstance(value, str) else str(value) for name, value in header.items()}


def _header(data: bytes) -> dict[str, Any]:
    """Return the header alone: of a message that we write, the rest is not even looked at."""
    if data.startswith(HEAD):
        try:
            return _decode_header(data[len(HEAD) : data.find(b"}") + 1])
        except msgspec.DecodeError:
            pass  # a brace within a text: the long way
    return _decode_enveloped(data).header
