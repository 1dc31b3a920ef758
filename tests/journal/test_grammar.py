"""What may become a subject, a key or a pattern, against naive models."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import InvalidNameError, UsageError
from agent99.journal._grammar import (
    check_key,
    check_key_pattern,
    check_pattern,
    check_subject,
    matches,
    overlap,
    whole_seconds,
)

_KEY_LETTERS = string.ascii_letters + string.digits + "-_=/"
_texts = st.text(st.sampled_from("ab*>.$ -/é\n"), max_size=8)
_tokens = st.sampled_from(["a", "b", "c"])
_subjects = st.lists(_tokens, min_size=1, max_size=4).map(".".join)
_patterns = st.tuples(
    st.lists(st.sampled_from(["a", "b", "*"]), max_size=3),
    st.sampled_from(["a", "b", "*", ">"]),
).map(lambda parts: ".".join([*parts[0], parts[1]]))


def _accepts(check: object, text: str) -> bool:
    assert callable(check)
    try:
        check(text)
    except InvalidNameError:
        return False
    return True


@given(_texts)
def test_keys(text: str) -> None:
    """A key is tokens of letters, digits, -, _, = and / between dots; nothing else is one."""
    naive = all(token and set(token) <= set(_KEY_LETTERS) for token in text.split("."))
    assert naive == _accepts(check_key, text)


@given(_texts)
def test_subjects(text: str) -> None:
    """A subject is tokens of printable ASCII without wildcards, and has no $ in front."""
    naive = not text.startswith("$") and all(
        token and all("!" <= letter <= "~" and letter not in "*>" for letter in token)
        for token in text.split(".")
    )
    assert naive == _accepts(check_subject, text)


@given(_texts)
def test_patterns(text: str) -> None:
    """A pattern's tokens are a subject's, or * alone, or > alone at the end."""
    *front, last = text.split(".")

    def plain(token: str) -> bool:
        return bool(token) and all("!" <= each <= "~" and each not in "*>" for each in token)

    naive = all(plain(each) or each == "*" for each in front) and (
        plain(last) or last in ("*", ">")
    )
    assert naive == _accepts(check_pattern, text)


@given(_patterns, _subjects)
def test_matches(pattern: str, subject: str) -> None:
    """A pattern matches token by token; a final > takes one or more."""

    def naive(wanted: list[str], tokens: list[str]) -> bool:
        if wanted == [">"]:
            return bool(tokens)
        if not wanted or not tokens:
            return not wanted and not tokens
        return wanted[0] in ("*", tokens[0]) and naive(wanted[1:], tokens[1:])

    assert naive(pattern.split("."), subject.split(".")) == matches(pattern, subject)


@given(_patterns, _patterns, _subjects)
def test_overlap(one: str, two: str, subject: str) -> None:
    """Two patterns that match the same subject overlap, and it does not matter which is first."""
    assert overlap(one, two) == overlap(two, one)
    if matches(one, subject) and matches(two, subject):
        assert overlap(one, two)


@pytest.mark.parametrize(("one", "two"), [("a.*", "b.>"), ("a", "a.>"), ("a.b", "a.b.c")])
def test_no_overlap(one: str, two: str) -> None:
    """Patterns that no subject matches both do not overlap."""
    assert not overlap(one, two)


def test_key_pattern_is_bounded() -> None:
    """A pattern is no longer than a key may be."""
    check_key_pattern("a." * 127 + ">")
    with pytest.raises(InvalidNameError):
        check_key_pattern("a." * 128 + ">")


@pytest.mark.parametrize("seconds", [0, 0.5, 1.5, -1, float("inf"), float("nan")])
def test_whole_seconds(seconds: float) -> None:
    """A time to live is whole seconds, at least one."""
    assert 3 == whole_seconds("ttl_s", 3.0)
    with pytest.raises(UsageError):
        whole_seconds("ttl_s", seconds)
