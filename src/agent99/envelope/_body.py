"""What a type looks like as the body of a message, and the JSON decode with its errors named."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from agent99.errors import BadRequestError, UsageError

_OBJECTS = (inspect.StructType, inspect.TypedDictType, inspect.DataclassType, inspect.DictType)
T = TypeVar("T")
_HEAD = b'{"header":'


class _RawHeader(msgspec.Struct):
    header: msgspec.Raw


_decode_raw_header = msgspec.json.Decoder(_RawHeader).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def decode_json(decode: Callable[[bytes], T], data: bytes, depth_max: int | None) -> T:
    """Decode, and turn everything that can go wrong into `BadRequestError` with a path and a rule.

    Args:
        depth_max: Refuse deeper nesting, and text that is not UTF-8 even where the type ignores it;
            None where an earlier pass has done so.
    """
    try:
        if depth_max is not None:
            if not data.isascii():
                data.decode()
            if data.count(b"[") + data.count(b"{") > depth_max:
                _refuse_depth(data, depth_max)
        return decode(data)
    except msgspec.ValidationError as error:
        rule, _, path = str(error).partition(" - at `")
        raise _bad(path.rstrip("`") or "$", rule) from error
    except UnicodeDecodeError as error:
        raise _bad("$", f"the text is not UTF-8 (byte {error.start})") from error
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise _bad("$", str(error)) from error


def _bad(path: str, rule: str) -> BadRequestError:
    return BadRequestError(f"{path}: {rule}", details={"path": path, "rule": rule})


_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


def _refuse_depth(data: bytes, depth_max: int) -> None:
    depth = 0
    for found in _STRING_OR_BRACKET.finditer(data):
        mark = data[found.start()]
        if mark in b"[{":
            depth += 1
            if depth > depth_max:
                raise _bad("$", f"nested deeper than {depth_max} (byte {found.start()})")
        elif mark in b"]}":
            depth -= 1


def joined(first: bytes, second: bytes) -> bytes:
    """Join two JSON objects into one."""
    if second == b"{}":
        return first
    return first[:-1] + b"," + second[1:]


def without_header(data: bytes) -> bytes:
    """Return a message's body alone, for types that would take the header for a field."""
    if data.startswith(_HEAD):
        end = len(_HEAD) + len(bytes(_decode_raw_header(data).header))
        if data[end : end + 1] == b",":
            return b"{" + data[end + 1 :]
        if data[end : end + 1] == b"}":
            return b"{}"
    parts = _decode_parts(data)
    parts.pop("header", None)
    return _encode(parts)


def takes_flat(body_type: Any) -> bool:
    """Return whether a type ignores the header, and may be decoded with it in place."""
    return all(_ignores_header(part) for part in _parts(body_type))


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


def _ignores_header(part: inspect.Type) -> bool:
    if isinstance(part, inspect.StructType):
        return not part.forbid_unknown_fields
    return isinstance(part, (inspect.TypedDictType, inspect.DataclassType))


def _parts(body_type: Any) -> tuple[inspect.Type, ...]:
    try:
        info = inspect.type_info(body_type)
    except (TypeError, NameError, RecursionError) as error:
        raise UsageError(f"{body_type!r} is no type that JSON can carry: {error}") from error
    while isinstance(info, inspect.Metadata):
        info = info.type
    return info.types if isinstance(info, inspect.UnionType) else (info,)
