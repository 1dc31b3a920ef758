"""The body of an error answer."""

from __future__ import annotations

from typing import Any

import msgspec

from agent99.envelope._body import check_depth, decode_json
from agent99.errors import BadAnswerError, BadRequestError, RequestError, request_error, text_of

MESSAGE_CHARACTERS_MAX = 4096
"""Of an error's message, in an answer."""
CODE_CHARACTERS_MAX = 128
"""Of an error's code, in an answer."""


class _ErrorBody(msgspec.Struct):
    message: str
    code: str = "ERROR"
    details: dict[str, Any] = {}
    retryable: bool = False


class _ErrorAnswer(msgspec.Struct):
    error: _ErrorBody


_encode = msgspec.json.Encoder().encode
_decode_error_answer = msgspec.json.Decoder(_ErrorAnswer).decode


def encode_error(error: RequestError, *, bytes_max: int) -> bytes:
    """Return the body of an error answer: it can always be written, and fits.

    Texts that are too long are cut; a note takes the place of details that do not fit or that JSON
    cannot carry.

    Args:
        bytes_max: Of the body. What remains without the details needs up to 32 KiB.
    """
    code = _cut(error.code, CODE_CHARACTERS_MAX)
    body = _ErrorBody(_cut(error.message, MESSAGE_CHARACTERS_MAX), code, error.details)
    body.retryable = error.retryable
    try:
        encoded = _encode(_ErrorAnswer(body))
        check_depth(encoded)
        if len(encoded) <= bytes_max:
            return encoded
        trouble = f"were over the limit of {bytes_max:,} bytes"
    except Exception:  # noqa: BLE001 - what stands in them is the user's, and may raise anything
        trouble = "could not be written as JSON"
    body.details = {"unreadable": f"the details of {code} {trouble}"}
    return _encode(_ErrorAnswer(body))


def _cut(text: str, characters_max: int) -> str:
    whole = text_of(text)
    if len(whole) <= characters_max:
        return whole
    return f"{whole[:characters_max]}… ({len(whole):,} characters)"


def decode_error(data: bytes) -> RequestError:
    """Return the error that an answer with outcome `error` stands for."""
    try:
        body = decode_json(_decode_error_answer, data).error
    except BadRequestError as error:
        return BadAnswerError(f"an error answer that cannot be read: {error.message}")
    return request_error(body.code, body.message, body.details, body.retryable)
