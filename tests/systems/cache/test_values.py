"""Values become bytes, and the same values again, or an error that names what does not fit."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import BadAnswerError, PayloadTooLargeError, UsageError
from agent99.systems.cache import _values
from agent99.systems.cache._values import (
    BYTES,
    COMPRESS_BYTES_MIN,
    COMPRESSED,
    JSON,
    TEXT,
    VALUE_BYTES_MAX,
    Codec,
    Packed,
    is_shareable,
)


class _Line(msgspec.Struct, frozen=True):
    product: str
    quantity: int


class _Basket(msgspec.Struct):
    lines: list[_Line]


class _Order(msgspec.Struct, frozen=True):
    lines: tuple[_Line, ...]
    notes: Any = None


class _Loose(msgspec.Struct, frozen=True, dict=True):
    name: str


class _Pair(NamedTuple):
    left: object
    right: object


class _Colour(Enum):
    RED = "red"


@dataclass
class _Point:
    x: int
    y: int


class _Text(str):
    __slots__ = ("more",)


class _Texts(tuple[str, ...]):  # noqa: SLOT001 - that it has none is what is tested
    """Can be given attributes: who holds it can change it."""


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=12,
)
_lines = st.builds(_Line, st.text(st.characters(codec="utf-8")), st.integers(-(2**63), 2**63 - 1))
_cases: dict[Any, st.SearchStrategy[Any]] = {
    bytes: st.binary(max_size=4_000),
    str: st.text(st.characters(codec="utf-8"), max_size=2_000),
    int: st.integers(-(10**99), 10**99),
    _Line: _lines,
    _Basket: st.builds(_Basket, st.lists(_lines)),
    _Point: st.builds(_Point, st.integers(-9, 9), st.integers(-9, 9)),
    dict[str, int]: st.dictionaries(st.sampled_from("abc"), st.integers(-9, 9)),
    (str | None): st.none() | st.text(st.characters(codec="utf-8")),
    Any: st.binary() | _json,
}


@pytest.mark.parametrize("value_type", _cases)
@pytest.mark.parametrize("compress", [False, True])
@given(data=st.data())
def test_a_value_comes_back_as_it_was(value_type: Any, compress: bool, data: st.DataObject) -> None:
    """Encoding and decoding by one codec gives an equal value of the same class."""
    value = data.draw(_cases[value_type])
    codec = Codec[Any](value_type, compress=compress)
    encoded, kind = codec.encode(value)
    back = codec.decode(encoded, kind)
    assert value == back
    assert type(value) is type(back)


@pytest.mark.parametrize(
    ("value_type", "value", "stored"),
    [
        (Any, b"\xff\0", (b"\xff\0", BYTES)),
        (Any, bytearray(b"ab"), (b"ab", BYTES)),
        (Any, memoryview(b"ab"), (b"ab", BYTES)),
        (Any, "é", ("é".encode(), TEXT)),
        (Any, 42, (b"42", JSON)),
        (Any, None, (b"null", JSON)),
        (Any, True, (b"true", JSON)),
        (bytes, bytearray(b"ab"), (b"ab", BYTES)),
        (str, "42", (b"42", TEXT)),
        (int, 42, (b"42", JSON)),
        (_Point, _Point(1, 2), (b'{"x":1,"y":2}', JSON)),
        (str | None, "a", (b'"a"', JSON)),
    ],
)
def test_a_value_goes_by_its_type(value_type: Any, value: Any, stored: tuple[bytes, int]) -> None:
    """Bytes are stored as they are, text as UTF-8, all else as JSON; a number is its digits."""
    assert stored == Codec[Any](value_type).encode(value)


@pytest.mark.parametrize(
    ("value_type", "data", "kind", "value"),
    [
        (int, b"42", TEXT, 42),
        (Any, b"42", TEXT, "42"),
        (bytes, "é".encode(), TEXT, "é".encode()),
        (str, b'"a"', JSON, "a"),
        (_Line, b'{"product":"tea","quantity":2}', TEXT, _Line("tea", 2)),
    ],
)
def test_text_is_read_as_what_is_asked_for(
    value_type: Any, data: bytes, kind: int, value: Any
) -> None:
    """Text, which others may have stored, is read as bytes or JSON, as the reader's type asks."""
    assert value == Codec[Any](value_type).decode(data, kind)


@pytest.mark.parametrize(
    ("value_type", "data", "kind", "path", "rule"),
    [
        (_Basket, b'{"lines":[{"product":"tea"}]}', JSON, "$.lines[0]", "quantity"),
        (_Line, b'{"product":"tea","quantity":"2"}', JSON, "$.quantity", "Expected `int`"),
        (_Line, b"{", JSON, "$", "truncated"),
        (int, b"", JSON, "$", "truncated"),
        (int, b"\xff", JSON, "$", "malformed"),
        (int, b"twelve", TEXT, "$", "malformed"),
        (Any, b"[" * 100_000, JSON, "$", "recursion"),
        (str, b"\xff", TEXT, "$", "UTF-8 \\(byte 0\\)"),
        (str, b"42", JSON, "$", "Expected `str`"),
        (str, b"a", BYTES, "$", "it is bytes, not str"),
        (int, b"42", BYTES, "$", "it is bytes, not int"),
        (bytes, b'"YWI="', JSON, "$", "it is JSON, not bytes"),
        (Any, b"a", 3, "$", "unknown kind \\(3\\)"),
        (Any, b"a", -1, "$", "no compressed value"),
        (Any, b"no zlib", BYTES | COMPRESSED, "$", "no compressed value"),
        (Any, zlib.compress(b"a" * 99)[:-1], BYTES | COMPRESSED, "$", "ends too early"),
        (Any, zlib.compress(b"a") + b"!", BYTES | COMPRESSED, "$", "goes on after its end"),
    ],
)
def test_what_does_not_fit_is_named(
    value_type: Any, data: bytes, kind: int, path: str, rule: str
) -> None:
    """A stored value that is not of the reader's type ends in an error with the path and rule."""
    with pytest.raises(BadAnswerError, match=rule) as caught:
        Codec[Any](value_type).decode(data, kind)
    assert path == caught.value.details["path"]


@given(st.sampled_from(list(_cases)), st.binary(max_size=60), st.integers(-2, 40))
def test_garbage_ends_in_one_error(value_type: Any, data: bytes, kind: int) -> None:
    """Whatever a node answers is a value, or a `BadAnswerError`."""
    with suppress(BadAnswerError):
        Codec[Any](value_type).decode(data, kind)


@pytest.mark.parametrize(
    ("value_type", "value", "what"),
    [
        (bytes, "text", "str, not bytes"),
        (str, b"bytes", "bytes, not text"),
        (str, "a\ud800", "surrogate pair stands at character 2"),
        (Any, "\ud800", "surrogate"),
        (int, "42", "cannot be stored as int"),
        (int, True, "cannot be stored as int"),
        (_Line, {"product": "tea"}, "cannot be stored as _Line.*quantity"),
        (dict[str, int], {"a": "b"}, "cannot be stored"),
        (Any, object(), "object, cannot be stored"),
        (Any, [10**5_000], "list, cannot be stored"),
        (float, math.nan, "JSON has no number nan"),
        (Any, math.inf, "JSON has no number inf"),
    ],
)
def test_a_value_that_could_not_be_read_is_not_stored(
    value_type: Any, value: Any, what: str
) -> None:
    """A value that is not of the codec's type, or that JSON cannot carry, is refused at once."""
    with pytest.raises(UsageError, match=what):
        Codec[Any](value_type).encode(value)


def test_a_type_that_json_cannot_carry_is_refused_at_once() -> None:
    """The error comes when the codec is made, not when the first value is read."""
    for value_type in (Callable, list[object] | tuple[int, ...], object(), "Nobody"):
        with pytest.raises(UsageError, match="cannot be read from a cache"):
            Codec(value_type)


def test_long_values_are_compressed_if_that_helps() -> None:
    """Only what is over 1,024 bytes and becomes smaller is compressed, and only on request."""
    codec = Codec(bytes, compress=True)
    longer = b"a" * (COMPRESS_BYTES_MIN + 1)
    data, kind = codec.encode(longer)
    assert BYTES | COMPRESSED == kind
    assert len(data) < 100
    assert longer == Codec(bytes).decode(data, kind)
    assert BYTES == codec.encode(longer[1:])[1]
    assert BYTES == Codec(bytes).encode(longer)[1]
    noise = b"".join(zlib.crc32(b"%d" % number).to_bytes(4) for number in range(500))
    assert (noise, BYTES) == codec.encode(noise)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compressed value that is larger than values may be is refused; one as large is not."""
    monkeypatch.setattr(_values, "VALUE_BYTES_MAX", 5_000)
    codec = Codec(bytes)
    most = bytes(5_000)
    assert most == codec.decode(zlib.compress(most), BYTES | COMPRESSED)
    with pytest.raises(BadAnswerError, match="over the limit of 5,000 bytes"):
        codec.decode(zlib.compress(bytes(5_001)), BYTES | COMPRESSED)
    with pytest.raises(BadAnswerError, match="over the limit of 5,000 bytes"):
        codec.decode(zlib.compress(bytes(50_000_000)), BYTES | COMPRESSED)


def test_a_value_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value over the bound is refused, also where it would shrink: nobody could read it."""
    assert 64 * 2**20 == VALUE_BYTES_MAX
    monkeypatch.setattr(_values, "VALUE_BYTES_MAX", 5_000)
    codec = Codec(bytes, compress=True)
    codec.encode(bytes(5_000))
    with pytest.raises(PayloadTooLargeError, match="5,001 bytes is over the limit of 5,000"):
        codec.encode(bytes(5_001))


_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "shareable"),
    [
        *((value, True) for value in (None, True, 1, 1.5, "a", b"a", _Colour.RED, UUID(int=7))),
        (_MOMENT, True),
        ((), True),
        ((1, ("a", frozenset({b"b"}))), True),
        (_Pair(1, (2, 3)), True),
        (_Line("tea", 1), True),
        (_Order((_Line("tea", 1),)), True),
        ([], False),
        ({}, False),
        (set[int](), False),
        (bytearray(), False),
        (object(), False),
        ((1, []), False),
        (_Pair(1, {}), False),
        (_Basket([]), False),
        (_Order((), notes=[]), False),
        (_Order((), notes=((({},),),)), False),
        (_Loose("a"), False),
        (_Point(1, 2), False),
        (_Text("a"), False),
        (_Texts("a"), False),
    ],
)
def test_only_what_nobody_can_change_is_shared(value: object, shareable: bool) -> None:
    """A value is shared if it and all its parts are immutable, to the innermost."""
    assert shareable is is_shareable(value)


def test_depth_does_not_matter() -> None:
    """Tuples nested more deeply than Python calls are looked at to the bottom."""
    deep: tuple[Any, ...] = ()
    for _ in range(50_000):
        deep = (deep,)
    assert is_shareable(deep)


def test_who_changes_a_kept_value_changes_only_his_own() -> None:
    """What may be changed is kept as bytes, and decoded for each who asks; the rest is kept."""
    codec = Codec(_Basket)
    basket = _Basket([])
    kept = codec.keep(basket, *codec.encode(basket))
    assert isinstance(kept, Packed)
    codec.give(kept).lines.append(_Line("tea", 1))
    assert _Basket([]) == codec.give(kept)
    line = _Line("tea", 1)
    assert line is Codec(_Line).give(Codec(_Line).keep(line, b"", JSON))


def test_a_codec_says_what_it_is_for() -> None:
    """Its text names the type and whether it compresses."""
    assert "Codec(<class 'int'>, compress=True)" == repr(Codec(int, compress=True))
