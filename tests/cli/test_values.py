"""Payloads from words."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.cli._exits import RefusalError
from agent99.cli._values import parse_payload, parse_value, parse_words

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.floats(-1e9, 1e9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("name=Ada", {"name": "Ada"}),
        ("n=3", {"n": 3}),
        ("n=-2.5e3", {"n": -2500.0}),
        ("ok=true", {"ok": True}),
        ("ok=True", {"ok": "True"}),
        ("none=null", {"none": None}),
        ('tags=["a", 1]', {"tags": ["a", 1]}),
        ('who={"name": "Ada"}', {"who": {"name": "Ada"}}),
        ('zip="00123"', {"zip": "00123"}),
        ("zip=00123", {"zip": "00123"}),
        ("empty=", {"empty": ""}),
        ("sum=a=b", {"sum": "a=b"}),
        ("n=NaN", {"n": "NaN"}),
        ("n=1e999", {"n": "1e999"}),
        ("broken=[1,", {"broken": "[1,"}),
        ("text= spaced ", {"text": " spaced "}),
        ("naïve=☂", {"naïve": "☂"}),
    ],
)
def test_a_value_is_json_where_it_is_json_else_text(word: str, expected: dict[str, Any]) -> None:
    """What is written is what is meant, without a type to name."""
    assert expected == parse_words([word])


@given(_JSON)
def test_every_json_value_comes_back(value: Any) -> None:
    """Whatever JSON can say can be said in a word."""
    found = parse_value(msgspec.json.encode(value).decode(), "x")
    assert value == found or math.isclose(value, found)


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_any_text_is_taken(text: str) -> None:
    """A value never fails: it is JSON, or the text itself."""
    found = parse_value(text, "x")
    try:
        assert msgspec.json.decode(text.encode()) == found
    except msgspec.DecodeError:
        assert text == found


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["Ada"], "'Ada' is no name=value"),
        (["=Ada"], "'=Ada' is no name=value"),
        (["a=1", "a=2"], "'a' is given twice"),
        (["a=\udcff"], "the value of 'a' is no UTF-8 text"),
    ],
)
def test_a_word_that_is_none(words: list[str], part: str) -> None:
    """What is wrong with a word is said."""
    with pytest.raises(RefusalError, match=part):
        parse_words(words)


def test_words_add_to_the_json_payload() -> None:
    """A word replaces the field of the same name."""
    assert {"a": 1, "b": 3} == parse_payload(["b=3"], '{"a": 1, "b": 2}')


@pytest.mark.parametrize(
    ("text", "part"),
    [("{", "--json-payload is no JSON"), ("[1]", "must be an object"), ("7", "must be an object")],
)
def test_a_json_payload_that_is_no_object(text: str, part: str) -> None:
    """A payload is an object, and the sentence shows one."""
    with pytest.raises(RefusalError, match=part):
        parse_payload([], text)


@pytest.mark.parametrize("word", ['{"a": 1}', '{"a": "b=c"}'])
def test_a_json_object_among_the_words(word: str) -> None:
    """Whoever writes the whole payload as a word is told where it goes."""
    with pytest.raises(RefusalError, match="is no name=value; a JSON object .* --json-payload"):
        parse_payload([word], None)
