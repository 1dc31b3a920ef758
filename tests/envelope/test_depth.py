"""How deep a message is nested."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent99.envelope import DEPTH_MAX, decode_header
from agent99.errors import BadRequestError

_PIECES = st.sampled_from(
    [
        *("[", "]", "{", "}", '"', "\\", "[]", "{}", "[" * 40, "]" * 40, "{" * 40, "}" * 40),
        *("a", ",", "},{", "},{" * 40, '"},{"'),
    ]
)


def deepest(text: str) -> int:
    """Count brackets outside of strings one by one, as nobody would in a hot path."""
    depth = most = 0
    is_string = is_escaped = False
    for mark in text:
        if is_string:
            if is_escaped:
                is_escaped = False
            elif mark == "\\":
                is_escaped = True
            elif mark == '"':
                is_string = False
        elif mark == '"':
            is_string = True
        elif mark in "[{":
            depth += 1
            most = max(most, depth)
        elif mark in "]}":
            depth -= 1
    return most


@given(st.lists(_PIECES, max_size=40).map("".join))
@example('["]",' * 100)
@example('"\\"' + "[" * 100)
@example('"\\n"' + "[" * 100)
@example('"\\\\"' + "[" * 100)
@example("[" * 40 + '\\"' + "]" * 40 + '"' + "[" * 40)
@example('["[","' + "{" * 100 + '\\""]' * 20)
@example("[" * 65)
@example("{},{" * 65)
@example('{"},{"' * 65)
@example("[" * 64 + "{},{}")
@example('[1,{"a":' * 33)
@example("[{" * 40)
@example("[" + "[]," * 1000 + "]")
def test_what_is_too_deep_is_refused_whatever_stands_in_strings(text: str) -> None:
    """Of any text that is longer than it could be deep, exactly the too deep is refused so."""
    padded = text + " " * 200
    refused = False
    with contextlib.suppress(BadRequestError):
        try:
            decode_header(padded.encode())
        except BadRequestError as error:
            refused = "nested deeper" in str(error)
    assert refused == (deepest(padded) > DEPTH_MAX)


@pytest.mark.parametrize("shape", ["{}", "[{}]", '[["a"],{"b":[1]}]', '{"a":"\\\\","b":"12\\" {"}'])
def test_many_shallow_ones_are_not_deep(shape: str) -> None:
    """A long list is not refused for its length."""
    body = ",".join([shape] * 5_000)
    with pytest.raises(BadRequestError, match="header"):
        decode_header(b'{"a":[' + body.encode() + b"]}")
