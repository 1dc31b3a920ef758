"""What a type looks like as the body of a message, and the JSON decode with its errors named."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from agent99.errors import BadRequestError, UsageError

_OBJECTS = (inspect.StructType, inspect.TypedDictType, inspect.DataclassType, inspect.DictType)
T = TypeVar("T")
HEAD = b'{"header":'
"""How a message begins that we write."""
DEPTH_MAX = 64
"""Objects and arrays within one another; deeper messages are refused."""
SHALLOW_BYTES = 2 * DEPTH_MAX
"""Text of so many bytes is never deeper: each bracket that opens has one that closes."""


class _RawHeader(msgspec.Struct):
    header: msgspec.Raw


_decode_raw_header = msgspec.json.Decoder(_RawHeader).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def decode_json(decode: Callable[[bytes], Any], data: bytes) -> Any:
    """Decode a whole message: JSON in UTF-8, no deeper than the bound.

    Raises:
        BadRequestError: names the path and the rule.
    """
    try:
        check_text(data)
        return decode(data)
    except UNREADABLE as error:
        raise refusal(error) from error


def check_text(data: bytes) -> None:
    """Refuse what a decoder might let pass in a part that its type ignores.

    Raises:
        BadRequestError: nested deeper than the bound.
        UnicodeDecodeError: the text is not UTF-8.
    """
    if not data.isascii():
        data.decode()
    check_depth(data)


def check_depth(data: bytes) -> None:
    """Refuse text that is nested deeper than the bound.

    Raises:
        BadRequestError
    """
    if len(data) <= SHALLOW_BYTES:
        return
    # As many as `count` finds, in a third of its time.
    if len(data) - len(data.replace(b"{", b"").replace(b"[", b"")) > DEPTH_MAX:
        refuse_depth(data)


UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError)
"""What a decoder raises; `refusal` says what it means."""


def refusal(error: Exception) -> BadRequestError:
    """Return what goes to the sender of something that cannot be read: the path and the rule."""
    if isinstance(error, msgspec.ValidationError):
        rule, _, path = str(error).partition(" - at `")
        return _bad(path.rstrip("`") or "$", rule)
    if isinstance(error, UnicodeDecodeError):
        return _bad("$", f"the text is not UTF-8 (byte {error.start})")
    return _bad("$", str(error))


def _bad(path: str, rule: str) -> BadRequestError:
    return BadRequestError(f"{path}: {rule}", details={"path": path, "rule": rule})


_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


_OBJECT_AFTER_NONE = re.compile(rb"\{(?<!\},\{)")
_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"\\'))


def refuse_depth(data: bytes) -> None:
    """Refuse text that is nested too deeply, brackets within strings not counted.

    Raises:
        BadRequestError
    """
    if _is_flat(data) or _is_shallow(data):
        return
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(data):
        mark = data[found.start()]
        if mark in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                raise _bad("$", f"nested deeper than {DEPTH_MAX} (byte {found.start()})")
        elif mark in b"]}":
            depth -= 1


def _is_flat(data: bytes) -> bool:
    """Tell at once whether text is certainly not too deep: few arrays, and objects side by side.

    An object that begins where another one has just ended is no deeper than that one, or both are
    within one text and say nothing.
    """
    arrays = len(data) - len(data.replace(b"[", b""))
    others = islice(_OBJECT_AFTER_NONE.finditer(data), max(DEPTH_MAX + 1 - arrays, 0))
    return arrays + sum(1 for _ in others) <= DEPTH_MAX


def _is_shallow(data: bytes) -> bool:
    """Tell quickly whether text is certainly not too deep; False: it may be either.

    A long list of short ones is no work for a loop in Python. Escaped quotes are taken out, then
    everything but quotes, brackets and backslashes. Two quotes side by side say nothing of a
    bracket, be they one text or the end of one and the beginning of the next; what stands between
    those that are left is within a text. Then pairs of brackets with nothing between them are taken
    away, again and again: two levels at most each time, so that few rounds mean few levels.
    """
    if b"\\" in data:  # one that stays outside of a text is in no pair, and the answer is False
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"\\")
    marks = data.translate(None, _NO_MARKS).replace(b'""', b"")
    brackets = b"".join(marks.split(b'"')[::2])
    for _ in range(DEPTH_MAX // 2):
        if not brackets:
            return True
        before = len(brackets)
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(brackets) == before:
            return False
    return not brackets


def joined(first: bytes, second: bytes) -> bytes:
    """Join two JSON objects into one."""
    if second == b"{}":
        return first
    return first[:-1] + b"," + second[1:]


def without_header(data: bytes) -> bytes:
    """Return a message's body alone.

    Raises:
        as a decoder: see `UNREADABLE`.
    """
    if data.startswith(HEAD):
        end = len(HEAD) + len(bytes(_decode_raw_header(data).header))
        if data[end : end + 1] == b",":
            return b"{" + data[end + 1 :]
        if data[end : end + 1] == b"}":
            return b"{}"
    parts = _decode_parts(data)
    parts.pop("header", None)
    return _encode(parts)


def _is_plain(body_type: Any) -> bool:
    if not (isinstance(body_type, type) and issubclass(body_type, msgspec.Struct)):
        return False
    config = body_type.__struct_config__
    keys = (*body_type.__struct_encode_fields__, config.tag_field)
    return not config.array_like and "header" not in keys


is_plain: Callable[[Any], bool] = lru_cache(1024)(_is_plain)
"""Tell whether a value of exactly this type is an object whose keys are known: no `header`."""


def refuse_header_field(body_type: Any, of: str) -> None:
    """Check that no field is called `header`, where the envelope's own stands.

    Raises:
        UsageError
    """
    for part in _parts(body_type):
        if not isinstance(part, (inspect.StructType, inspect.TypedDictType, inspect.DataclassType)):
            continue
        if any(field.encode_name == "header" for field in part.fields):
            raise UsageError(
                f"{of}: {part.cls.__name__} has a field 'header', where the envelope's own header"
                " stands; name it otherwise"
            )
        if isinstance(part, inspect.StructType) and part.array_like:
            raise UsageError(f"{of}: {part.cls.__name__} is array_like; a message is an object")


def refuse_no_object(body_type: Any, of: str) -> None:
    """Check that a type is a JSON object.

    Raises:
        UsageError
    """
    if not all(isinstance(part, _OBJECTS) for part in _parts(body_type)):
        raise UsageError(f"{of}: a payload is an object (a Struct, a dict), not {body_type!r}")


def _parts(body_type: Any) -> tuple[inspect.Type, ...]:
    try:
        info = inspect.type_info(body_type)
    except (TypeError, NameError, RecursionError) as error:
        raise UsageError(f"{body_type!r} is no type that JSON can carry: {error}") from error
    while isinstance(info, inspect.Metadata):
        info = info.type
    return info.types if isinstance(info, inspect.UnionType) else (info,)
