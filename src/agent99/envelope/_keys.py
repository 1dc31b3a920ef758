"""Keys: any text becomes one token of a subject, and one of 64 partitions.

A key that is a name stands for itself. Any other is its UTF-8 in base32hex (RFC 4648, lower case,
no padding) behind `x-`; so is a name that begins with `x-`. What is equal stays equal, and nothing
else becomes equal: upper case is not folded.
"""

from __future__ import annotations

from base64 import b32hexdecode, b32hexencode
from typing import NewType
from zlib import crc32

from agent99.envelope._names import is_name
from agent99.errors import InvalidNameError

Key = NewType("Key", str)
"""A key as a token of a subject."""

KEY_BYTES_MAX = 128
PARTITIONS = 64
_ENCODED = "x-"


def parse_key(text: str) -> Key:
    """Return a key as a token of a subject.

    Raises:
        InvalidNameError: it is empty, no text, or longer than 128 bytes of UTF-8.
    """
    if not isinstance(text, str):
        raise InvalidNameError("key", repr(text), "it must be text")
    try:
        data = text.encode()
    except UnicodeEncodeError:
        raise InvalidNameError("key", repr(text), "it must be text that UTF-8 can carry") from None
    if not 0 < len(data) <= KEY_BYTES_MAX:
        raise InvalidNameError("key", text, f"1 to {KEY_BYTES_MAX} bytes")
    if is_name(text) and not text.startswith(_ENCODED):
        return Key(text)
    return Key(_ENCODED + b32hexencode(data).decode().rstrip("=").lower())


def key_text(key: Key) -> str:
    """Return what a key was made of.

    Raises:
        InvalidNameError: nothing becomes such a token.
    """
    if not key.startswith(_ENCODED):
        return key
    digits = key[len(_ENCODED) :]
    try:
        return b32hexdecode(digits.upper() + "=" * (-len(digits) % 8)).decode()
    except (ValueError, UnicodeDecodeError):
        raise InvalidNameError("key", key, "it is no encoded key") from None


def partition_of(key: Key) -> int:
    """Return a key's partition, from 0 to 63: the same for ever, in every process."""
    return crc32(key.encode("ascii")) % PARTITIONS
