"""How values become bytes, and back: raw, text or JSON, compressed where that helps. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, auto
from functools import lru_cache
from types import NoneType
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import msgspec

from agent99.errors import BadAnswerError, PayloadTooLargeError, UsageError

BYTES: Final = 0
TEXT: Final = 1
"""UTF-8."""
JSON: Final = 2
NOTHING: Final = 4
"""That nobody has a value is known for a while: told to who would compute it, to no one else."""
COMPRESSED: Final = 16
"""Added to one of the others: the bytes are a zlib stream (RFC 1950)."""
VALUE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Of a value before it is compressed, and after it is unpacked."""
COMPRESS_BYTES_MIN: Final = 1_024
"""Shorter values are not compressed."""

_FORM_NAMES: Final = {BYTES: "bytes", TEXT: "text", JSON: "JSON"}
_ZLIB_LEVEL: Final = 1  # the quickest: the event loop waits for it
_BYTES_LIKE = (bytes, bytearray, memoryview)
_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError)
_UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)

T = TypeVar("T")


class Packed(msgspec.Struct, frozen=True, gc=False):
    """A value as bytes, since the object itself could be changed by whoever has it."""

    data: bytes
    kind: int


class Codec(Generic[T]):
    """Writes and reads values of one type.

    `bytes` are stored as they are, `str` as UTF-8, anything else as JSON, as msgspec has it: the
    decode is the validation. With `Any` each value goes by what it is, and JSON comes back as
    dicts, lists, texts and numbers. A whole number is its digits, as text or as JSON.

    Args:
        value_type: `bytes`, `str`, `Any`, or what msgspec can read from JSON: a Struct, a
            dataclass, `dict[str, int]`, …
        compress: Whether values over 1,024 bytes are compressed, if that makes them smaller.

    Raises:
        UsageError: the type cannot be read from JSON.
    """

    def __init__(self, value_type: type[T] | Any, *, compress: bool = False) -> None:
        self.value_type = value_type
        self._compress = compress
        self._form = BYTES if value_type is bytes else TEXT if value_type is str else JSON
        self._exact = value_type if isinstance(value_type, type) else None
        try:
            msgspec.json.schema(value_type)  # a decoder alone takes any class, and then no value
            decoder = msgspec.json.Decoder[Any](value_type)
        except (TypeError, ValueError, NameError, RecursionError) as error:
            reason = f"{value_type!r} cannot be read from a cache: {_first_line(error)}"
            raise UsageError(reason) from error
        self._decode_json: Callable[[bytes], T] = decoder.decode

    def __repr__(self) -> str:
        return f"Codec({self.value_type!r}, compress={self._compress})"

    def encode(self, value: T) -> tuple[bytes, int]:
        """Return the bytes of a value, and their kind: how they are to be read.

        A number that JSON lacks (NaN, infinity) is refused where it is the value itself; within
        one it becomes null, as msgspec has it.

        Raises:
            UsageError: the value is not of the type, or JSON cannot carry it.
            PayloadTooLargeError: over 64 MiB.
        """
        data, kind = self._encode(value)
        if len(data) > VALUE_BYTES_MAX:
            raise PayloadTooLargeError("a cached value", len(data), VALUE_BYTES_MAX)
        if self._compress and len(data) > COMPRESS_BYTES_MIN:
            smaller = zlib.compress(data, _ZLIB_LEVEL)
            if len(smaller) < len(data):
                return smaller, kind | COMPRESSED
        return data, kind

    def decode(self, data: bytes, kind: int) -> T:
        """Return a value that was stored, perhaps by a programme that knows another type.

        Text is read as bytes or as JSON too, if that is asked for; nothing else is read as what it
        was not stored as.

        Raises:
            BadAnswerError: it is not of the type, or does not make sense; `details` has the `path`
                and the `rule`.
        """
        form = kind & ~COMPRESSED
        try:
            if kind != form:
                data = _unpacked(data)
            value: T = self._decode(data, form)
        except _UNREADABLE as error:
            raise _misfit(error) from error
        return value

    def keep(self, value: T, data: bytes, kind: int) -> T | Packed:
        """Return what may be kept of a value that others hold too: itself, or else its bytes.

        Args:
            value: As `decode` gave it: what was handed in to be stored may be of another class.
            data: The same value, encoded.
            kind: How that is to be read.
        """
        return value if is_shareable(value) else Packed(data, kind)

    def give(self, kept: T | Packed) -> T:
        """Return a value that was kept: itself, or a new one each time.

        Raises:
            BadAnswerError: as `decode`.
        """
        return self.decode(kept.data, kept.kind) if isinstance(kept, Packed) else kept

    def _encode(self, value: object) -> tuple[bytes, int]:
        form = _form_for(value) if self.value_type is Any else self._form
        if form == BYTES:
            return _raw(value), BYTES
        if form == TEXT:
            return _utf_8(value), TEXT
        return self._json(value), JSON

    def _json(self, value: object) -> bytes:
        try:
            # An object of the class itself is taken at its word: its fields are not looked at.
            if type(value) is not self._exact and self.value_type is not Any:
                msgspec.convert(value, self.value_type)
            data = msgspec.json.encode(value)
        except _UNWRITABLE as error:
            declared = getattr(self.value_type, "__name__", str(self.value_type))
            raise UsageError(
                f"the value, {type(value).__name__}, cannot be stored as {declared}:"
                f" {_first_line(error)}"
            ) from error
        if data == b"null" and value is not None:
            raise UsageError(f"JSON has no number {value!r}")
        return data

    def _decode(self, data: bytes, form: int) -> Any:
        wanted = self.value_type
        if form == JSON:
            if wanted is bytes:  # JSON has none, and msgspec would take any text for base64
                raise ValueError("it is JSON, not bytes")
            return self._decode_json(data)
        if form == TEXT:
            if wanted is str or wanted is Any:
                return data.decode()
            return data if wanted is bytes else self._decode_json(data)
        if form == BYTES and (wanted is bytes or wanted is Any):
            return data
        stored = _FORM_NAMES.get(form, f"of an unknown kind ({form})")
        raise ValueError(f"it is {stored}, not {getattr(wanted, '__name__', wanted)}")


def plain_bytes(data: bytes, kind: int) -> bytes:
    """Return the bytes of a stored value of any kind, as they were before they were compressed.

    Raises:
        BadAnswerError: they were not, or not whole, or they are too many.
    """
    if not kind & COMPRESSED:
        return data
    try:
        return _unpacked(data)
    except ValueError as error:
        raise _misfit(error) from error


# --- may two have it at once? ---------------------------------------------------------------------


class _Form(Enum):
    LEAF = auto()
    PARTS = auto()
    STRUCT = auto()
    MUTABLE = auto()


_LEAVES = frozenset(
    {NoneType, bool, int, float, str, bytes, date, datetime, time, timedelta, Decimal, UUID}
)


def is_shareable(value: object) -> bool:
    """Tell whether nobody can change a value, so that many may hold the same object.

    True of bytes, text, numbers, None, enumerations, moments, UUIDs; and of tuples, frozen sets and
    frozen Structs of such, looked at part by part.
    """
    if type(value) in _LEAVES:  # nearly always
        return True
    left: list[Any] = [value]
    while left:  # no recursion: values may be nested deeply
        each = left.pop()
        form = _form_of(each.__class__)
        if form is _Form.MUTABLE:
            return False
        if form is _Form.PARTS:
            left.extend(each)
        elif form is _Form.STRUCT:
            left.extend(msgspec.structs.astuple(each))
    return True


@lru_cache(1024)
def _form_of(kind: type) -> _Form:
    if kind in _LEAVES or issubclass(kind, Enum):
        return _Form.LEAF
    if kind.__dictoffset__:  # a subclass that can be given attributes
        return _Form.MUTABLE
    if issubclass(kind, tuple | frozenset):
        return _Form.PARTS
    if issubclass(kind, msgspec.Struct) and kind.__struct_config__.frozen:
        return _Form.STRUCT
    return _Form.MUTABLE


# --- inside ---------------------------------------------------------------------------------------


def _form_for(value: object) -> int:
    """Return how a value is stored of which nothing is declared."""
    if isinstance(value, _BYTES_LIKE):
        return BYTES
    return TEXT if isinstance(value, str) else JSON


def _raw(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    try:
        return bytes(memoryview(value))
    except TypeError:
        raise UsageError(f"the value is {type(value).__name__}, not bytes") from None


def _utf_8(value: object) -> bytes:
    if not isinstance(value, str):
        raise UsageError(f"the value is {type(value).__name__}, not text")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        place = error.start + 1
        raise UsageError(f"half of a surrogate pair stands at character {place}") from None


def _unpacked(data: bytes) -> bytes:
    """Return what was compressed; no more of it than may be is ever in memory."""
    stream = zlib.decompressobj()
    try:
        whole = stream.decompress(data, VALUE_BYTES_MAX + 1)
    except zlib.error as error:
        raise ValueError(f"it is no compressed value: {error}") from error
    if len(whole) > VALUE_BYTES_MAX:
        raise ValueError(f"it is over the limit of {VALUE_BYTES_MAX:,} bytes when unpacked")
    if not stream.eof or stream.unused_data:
        raise ValueError("it is no compressed value: it ends too early, or goes on after its end")
    return whole


def _misfit(error: Exception) -> BadAnswerError:
    if isinstance(error, msgspec.ValidationError):
        rule, _, path = str(error).partition(" - at `")
        path = path.rstrip("`") or "$"
    elif isinstance(error, UnicodeDecodeError):
        path, rule = "$", f"the text is not UTF-8 (byte {error.start})"
    else:
        path, rule = "$", _first_line(error)
    return BadAnswerError(
        f"the cached value is not what was asked for: {path}: {rule}",
        details={"path": path, "rule": rule},
    )


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]
