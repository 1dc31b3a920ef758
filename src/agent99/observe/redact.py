"""Take the secrets out of what goes to a log. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from agent99.errors import text_of

HIDDEN = "***"
"""What stands in the place of a secret."""
CHARACTERS_MAX = 16_384
"""Of one text; what is beyond is cut off, and said."""
DEPTH_MAX = 16
"""Of values within values; what is deeper is not shown."""

_SECRET = "password|passwd|token|secret|authorization"  # noqa: S105 - names of fields, no secret
_NAME = re.compile(_SECRET, re.IGNORECASE)
# Each begins where a match must begin, so that a long word costs one look and not one per letter.
_URL = re.compile(r"://(?P<rest>\S+?)(?=,\s*[a-z]+://|\s|$)", re.IGNORECASE)
_FIELD = re.compile(
    rf"""(?<![\w-])(?P<name>[\w-]*(?:{_SECRET})[\w-]*["']?\s*[:=]\s*)"""
    r"""(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\S+)""",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(
    r"""(?P<name>authorization[\w-]*\s*[:=]\s*)(?!\s|["'])[^\n]+""", re.IGNORECASE
)
"""Its value may be several words: the whole line goes, but for a quoted one."""
_END_OF_AUTHORITY = re.compile(r"[/?#]")
_QUOTE_AFTER_AT = re.compile(r"@[^\"'<>]*[\"'<>]")


def redact_text(text: str) -> str:
    """Return a text without the credentials of URLs, and without values given to secret names.

    A secret name holds `password`, `passwd`, `token`, `secret` or `authorization`, in capitals or
    not: `db_password=…`, `"token": "…"`, `Authorization: Bearer …`.
    """
    if len(text) > CHARACTERS_MAX:
        text = f"{text[:CHARACTERS_MAX]}… ({len(text)} characters)"
    if "://" in text:
        text = _URL.sub(_without_credential, text)
    if _NAME.search(text):
        text = _AUTHORIZATION.sub(rf"\g<name>{HIDDEN}", text)
        text = _FIELD.sub(_without_value, text)
    return text


def redact(value: Any) -> Any:
    """Return a value as JSON has it, without secrets: by the names of fields, and in every text."""
    return _redact(value, DEPTH_MAX)


def _redact(value: object, depth_left: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return redact_text(value)
    if depth_left == 0:
        return HIDDEN
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        return {
            redact_text(text_of(name)): (
                HIDDEN if _NAME.search(text_of(name)) else _redact(inner, depth_left - 1)
            )
            for name, inner in fields.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(inner, depth_left - 1) for inner in cast("Iterable[object]", value)]
    return redact_text(text_of(value))


def _without_credential(match: re.Match[str]) -> str:
    """Hide all before the last `@`: a password may hold any letter, raw ones of a URL included."""
    rest = match["rest"]
    quote = _QUOTE_AFTER_AT.search(rest)  # of a text around the URL
    region = rest[: quote.end() - 1] if quote is not None else rest
    authority = _END_OF_AUTHORITY.split(region, 1)[0]
    if "@" not in region or not ("@" in authority or ":" in authority):
        return match[0]  # `https://example.com/@user` names no credential
    return f"://{HIDDEN}{rest[region.rindex('@') :]}"


def _without_value(match: re.Match[str]) -> str:
    quote = match["value"][0]
    value = f"{quote}{HIDDEN}{quote}" if quote in "\"'" and len(match["value"]) > 1 else HIDDEN
    return f"{match['name']}{value}"
