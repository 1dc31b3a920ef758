"""The grammar of names, topics and patterns."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.envelope import parse_name, parse_pattern, parse_topic
from agent99.errors import InvalidNameError, UsageError

LEGAL = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
names = st.from_regex(LEGAL, fullmatch=True)

HOSTILE = [
    "",
    "*",
    ">",
    "a.b",
    "a b",
    " a",
    "a\r\n",
    "a\nb",
    "a\x00b",
    "-a",
    "a-",
    "_a",
    "$SYS",
    "é",
    "ｇ",
    "\u212a",  # the Kelvin sign lower-cases to an ASCII k
    "a" * 64,
    "a" * 4096,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_could_break_a_subject_is_no_name(text: str) -> None:
    """Wildcards, dots, spaces, controls, non-ASCII and over-long text are a usage error."""
    with pytest.raises(InvalidNameError) as caught:
        parse_name("capability", text)
    assert isinstance(caught.value, UsageError)
    assert caught.value.kind == "capability"
    assert caught.value.value == text


@given(st.text(max_size=80))
def test_a_name_is_accepted_exactly_when_it_fits_the_grammar(text: str) -> None:
    """Whatever the text, it is a name if and only if its ASCII lower case matches the grammar."""
    folded = "".join(c.lower() if c in string.ascii_uppercase else c for c in text)
    if LEGAL.fullmatch(folded):
        assert parse_name("operation", text) == folded
    else:
        with pytest.raises(InvalidNameError):
            parse_name("operation", text)


@given(names)
def test_case_does_not_matter(name: str) -> None:
    """A name in any case is the same name."""
    assert parse_name("agent", name.upper()) == name


@pytest.mark.parametrize("value", [None, 3, b"bytes", ["a"]])
def test_a_name_is_text(value: object) -> None:
    """Anything that is no text is refused by name, not by an attribute error."""
    with pytest.raises(InvalidNameError, match="it must be text"):
        parse_name("operation", value)  # type: ignore[arg-type] - the mistake under test
    with pytest.raises(InvalidNameError, match="it must be text"):
        parse_topic(value)  # type: ignore[arg-type] - the mistake under test


@given(st.lists(names, min_size=1, max_size=3))
def test_a_topic_is_names_joined_by_dots(tokens: list[str]) -> None:
    """Every sequence of names is a topic, and a pattern of itself."""
    text = ".".join(tokens)
    assert parse_topic(text) == text
    assert parse_pattern(text) == text


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b", "a.é", "a" * 201, ".".join("a" * 13)]
)
def test_a_topic_has_no_wildcards_and_no_empty_tokens(text: str) -> None:
    """What is published goes to one subject, never to a pattern, and within its bounds."""
    with pytest.raises(InvalidNameError):
        parse_topic(text)


@pytest.mark.parametrize("text", ["*", ">", "order.*", "order.>", "*.placed", "a.*.c"])
def test_a_pattern_may_have_wildcards_in_their_places(text: str) -> None:
    """`*` stands for one token anywhere, `>` for the rest at the end."""
    assert parse_pattern(text) == text


@pytest.mark.parametrize("text", ["order.>.x", ">.x", "a*", "a.b>", "", "a..b", ".a", "a.", "..>"])
def test_a_pattern_has_wildcards_only_as_whole_tokens(text: str) -> None:
    """A wildcard within a token, `>` before the end, or an empty token is refused."""
    with pytest.raises(InvalidNameError):
        parse_pattern(text)


def test_a_long_value_is_shown_in_part() -> None:
    """The message of a 4 KB name is readable."""
    with pytest.raises(InvalidNameError) as caught:
        parse_name("capability", "a" * 4096)
    assert "4096 characters" in str(caught.value)
    assert len(str(caught.value)) < 300
