"""Patterns for keys match what Redis's match."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.cache._resp_glob import compile_glob

letters = st.text(alphabet="ab-z]^\n", max_size=8)
patterns = st.text(alphabet="ab-z]^[*?\\\n", max_size=10)


def matches(pattern: str, text: str) -> bool:
    """Match as Redis's `stringmatchlen` does, letter by letter, trying everything for a star."""
    if not pattern:
        return not text
    head, rest = pattern[0], pattern[1:]
    if head == "*":
        return any(matches(rest, text[at:]) for at in range(len(text) + 1))
    if not text:
        return False
    if head == "[":
        is_in, rest = in_set(rest, text[0])
        return is_in and matches(rest, text[1:])
    if head == "\\" and rest:
        head, rest = rest[0], rest[1:]
    elif head == "?":
        head = text[0]
    return head == text[0] and matches(rest, text[1:])


def in_set(pattern: str, letter: str) -> tuple[bool, str]:
    """Return whether a set has a letter, and the pattern behind the set."""
    is_not = pattern.startswith("^")
    pattern = pattern[is_not:]
    found = False
    while pattern and pattern[0] != "]":
        if pattern[0] == "\\" and len(pattern) >= 2:
            found |= pattern[1] == letter
            pattern = pattern[2:]
        elif pattern[1:2] == "-" and len(pattern) >= 3:
            low, high = sorted((pattern[0], pattern[2]))
            found |= low <= letter <= high
            pattern = pattern[3:]
        else:
            found |= pattern[0] == letter
            pattern = pattern[1:]
    return found != is_not, pattern[1:]


@given(patterns, letters)
def test_patterns_match_what_redis_matches(pattern: str, text: str) -> None:
    """Any pattern matches what the letter by letter reading of Redis matches."""
    assert (compile_glob(pattern).fullmatch(text) is not None) == matches(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "is_match"),
    [
        ("user:*", "user:1", True),
        ("user:*", "users", False),
        ("h?llo", "hallo", True),
        ("h[ae]llo", "hillo", False),
        ("h[^e]llo", "hallo", True),
        ("h[a-c]llo", "hbllo", True),
        ("h[c-a]llo", "hbllo", True),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("a.c", "abc", False),
        ("", "", True),
        ("*", "", True),
        ("ä?", "äö", True),
    ],
)
def test_patterns_by_example(pattern: str, text: str, is_match: bool) -> None:
    """What the documents of Redis show."""
    assert (compile_glob(pattern).fullmatch(text) is not None) == is_match


def test_a_hostile_pattern_ends() -> None:
    """A pattern of stars that almost matches takes no more time than its length allows."""
    started_s = time.monotonic()
    assert compile_glob("*a" * 200 + "b").fullmatch("a" * 1_024) is None
    assert compile_glob("*[ab]?" * 200 + "c").fullmatch("ab" * 512) is None
    assert time.monotonic() - started_s < 1.0
