"""What a client hands in is checked before anything is sent."""

from __future__ import annotations

import math
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import InvalidNameError, UsageError
from agent99.systems.cache._keys import (
    KEY_BYTES_MAX,
    TAG_BYTES_MAX,
    TAGS_MAX,
    TTL_S_MAX,
    check_tags,
    check_ttl,
    full_key,
    parse_namespace,
    partition_of,
)

_YEAR_S = 365.25 * 24 * 3_600


@given(st.text(max_size=KEY_BYTES_MAX + 8))
def test_a_key_is_any_text_within_the_bound(key: str) -> None:
    """Text of 1 to 1,024 bytes is a key, whatever stands in it, and nothing else is."""
    try:
        is_key = 1 <= len(key.encode()) <= KEY_BYTES_MAX
    except UnicodeEncodeError:
        is_key = False
    if is_key:
        assert f"ns:{key}" == full_key("ns:", key)
        return
    with pytest.raises(InvalidNameError):
        full_key("ns:", key)


@pytest.mark.parametrize(
    "key", ["*", ">", "a.b.>", "with space", "a:b", "\0", "\r\n", "é" * 512, "x" * KEY_BYTES_MAX]
)
def test_keys_never_become_subjects(key: str) -> None:
    """Wildcards, spaces, colons, NUL and line ends may stand in a key; so may 1,024 bytes."""
    assert f"ns:{key}" == full_key("ns:", key)


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("", "not empty"),
        ("x" * 1_025, "not 1,025"),
        ("é" * 513, "not 1,026"),
        ("x" * 10_240, "not 10,240"),
        (b"bytes", "not bytes"),
        (None, "not NoneType"),
        (7, "not int"),
        ("a\ud800", "half of a surrogate pair stands at character 2"),
    ],
)
def test_a_refused_key_is_told_why(key: Any, what: str) -> None:
    """The error names the rule, and what of this key breaks it."""
    with pytest.raises(InvalidNameError, match=what):
        full_key("ns:", key)


def test_a_text_of_another_class_is_a_plain_one_afterwards() -> None:
    """A subclass of text is taken, and leaves nothing of itself in the full key."""

    class Odd(str):
        __slots__ = ()

    assert type(full_key("ns:", Odd("key"))) is str


@pytest.mark.parametrize("text", ["", "a:b", "a.b", "é", "-a", "x" * 64, None])
def test_a_namespace_is_a_name(text: Any) -> None:
    """What breaks the grammar of names is no namespace: the first colon ends it for certain."""
    with pytest.raises(InvalidNameError, match="namespace"):
        parse_namespace(text)
    assert "sessions-2" == parse_namespace("Sessions-2")


@given(st.text(min_size=1, max_size=40).filter(lambda key: "\ud800" > max(key)))
def test_a_partition_is_the_same_everywhere(key: str) -> None:
    """A key's partition is the lowest byte of the CRC-32 of its UTF-8."""
    assert crc32(key.encode()) % 256 == partition_of(key)


@pytest.mark.parametrize(
    ("ttl_s", "ttl_us"),
    [
        (None, 0),
        (0.001, 1_000),
        (1, 1_000_000),
        (2.5, 2_500_000),
        (0.1 + 0.2, 300_000),
        (TTL_S_MAX, round(10 * _YEAR_S * 1e6)),
    ],
)
def test_a_time_to_live_becomes_microseconds(ttl_s: float | None, ttl_us: int) -> None:
    """Seconds become whole microseconds; None, for ever, becomes 0."""
    assert ttl_us == check_ttl(ttl_s)
    assert type(check_ttl(ttl_s)) is int


@pytest.mark.parametrize(
    "ttl_s",
    [0, -1, -0.0, 0.0009, math.nan, math.inf, -math.inf, 11 * _YEAR_S, 10**400, True, False, "1"],
)
def test_an_absurd_time_to_live_is_refused(ttl_s: Any) -> None:
    """Nothing or less, no number, a truth value, more than ten years: nobody means it."""
    with pytest.raises(UsageError, match="time to live"):
        check_ttl(ttl_s)


def test_tags_are_kept_once_each_in_order() -> None:
    """Tags given twice count once; from any iterable."""
    assert ("b", "a") == check_tags(["b", "a", "b"])
    assert () == check_tags(())
    many = [str(number) for number in range(TAGS_MAX)]
    assert tuple(many) == check_tags(iter(many * 2))


@pytest.mark.parametrize(
    ("tags", "what"),
    [
        ("red", "several texts"),
        (b"red", "several texts"),
        ([str(number) for number in range(TAGS_MAX + 1)], "at most 16 tags, not 17"),
        ([""], "not empty"),
        (["x" * (TAG_BYTES_MAX + 1)], "not 129"),
        ([7], "not int"),
        (["\udfff"], "surrogate"),
    ],
)
def test_refused_tags_are_told_why(tags: Any, what: str) -> None:
    """One text is not several tags; there are bounds on their number and their length."""
    with pytest.raises(UsageError, match=what):
        check_tags(tags)
