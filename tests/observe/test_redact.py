"""No secret gets through, and the rest is left as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agent99.observe.redact import CHARACTERS_MAX, DEPTH_MAX, HIDDEN, redact, redact_text

MARK = "Zq7"
"""Part of every secret here and of nothing else."""
NAMES = [
    "password",
    "Token",
    "SECRET",
    "authorization",
    "db_password",
    "x-api-token",
    "apiSecretKey",
]
LETTERS = "abcdefgh0123456789"

in_url = st.text(LETTERS + ":@/.-_~%!$&*+;=", max_size=12)
in_field = st.text(LETTERS + ":@/.,-_~%!$&*+;=)}]", max_size=12)
words = st.text("abc xyz,.", max_size=20).filter(lambda text: "token" not in text)
harmless: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("abcxyz ,.:/", max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(words, in_url, in_url, words)
@example("", "", "@", "")
@example("", "/", "/", "")
def test_credential_of_a_url_is_hidden(before: str, start: str, end: str, after: str) -> None:
    """User and password of an address do not show, whatever the password is made of."""
    password = f"{start}{MARK}{end}"
    text = f"{before} nats://user:{password}@host:4222 {after}"
    shown = redact_text(text)
    assert MARK not in shown
    assert shown.startswith(before)
    assert "@host:4222" in shown


@given(st.lists(in_url.filter(lambda text: "://" not in text), min_size=1, max_size=4))
def test_every_address_of_a_list_is_cleaned(passwords: list[str]) -> None:
    """Of addresses parted by commas each loses its credential and keeps its host."""
    text = ",".join(f"tls://u:{MARK}{word}@h{place}:1" for place, word in enumerate(passwords))
    shown = redact_text(text)
    assert MARK not in shown
    assert all(f"@h{place}:1" in shown for place in range(len(passwords)))


@pytest.mark.parametrize(
    "text",
    [
        "nats://127.0.0.1:4222",
        "https://example.com/@user",
        "mail ada@example.com",
        "a://b c@d",
        "10 requests of inventory",
        "://",
    ],
)
def test_text_without_a_secret_stays(text: str) -> None:
    """What holds no secret is left alone."""
    assert text == redact_text(text)


@given(st.sampled_from(NAMES), st.sampled_from(["=", ": ", " = ", ":"]), in_field, in_field)
def test_value_of_a_secret_name_is_hidden(name: str, mark: str, start: str, end: str) -> None:
    """A value that text gives to a secret name does not show."""
    shown = redact_text(f"trying {name}{mark}{start}{MARK}{end} again")
    assert MARK not in shown
    assert f"trying {name}{mark}{HIDDEN}" in shown


@given(st.sampled_from(NAMES), st.text("abc \"'\\,:=@", max_size=12), st.booleans())
def test_quoted_value_is_hidden(name: str, value: str, is_json: bool) -> None:
    """A quoted value does not show, whatever it holds; the text around it stays."""
    secret = f"{MARK}{value}{MARK}"
    text = json.dumps({name: secret, "z": 1}) if is_json else f"{name}={json.dumps(secret)}, z"
    shown = redact_text(text)
    assert MARK not in shown
    assert HIDDEN in shown
    if name.lower() != "authorization" and is_json:
        assert {name: HIDDEN, "z": 1} == json.loads(shown)


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {MARK}",
        f"authorization=Basic {MARK}==",
        f'Proxy-Authorization: Digest username="{MARK}", response="{MARK}"',
        f"{{'Authorization': 'Bearer {MARK}'}}",
    ],
)
def test_authorization_is_hidden_whole(text: str) -> None:
    """The value of an authorization header may be several words: none shows."""
    assert MARK not in redact_text(text)


@given(st.text("ab:/@=,;\"' token", max_size=60))
def test_redacting_twice_changes_nothing(text: str) -> None:
    """What is redacted once is redacted."""
    once = redact_text(text)
    assert once == redact_text(once)


@given(harmless, st.sampled_from(NAMES), st.integers(0, DEPTH_MAX * 2), st.booleans())
def test_secret_fields_are_hidden_at_any_depth(
    rest: Any,
    name: str,
    depth: int,
    is_list: bool,
) -> None:
    """A field with a secret name shows nothing of its value, wherever it stands."""
    value: Any = {name: {"inner": [MARK, rest]}, "rest": rest}
    for _ in range(depth):
        value = [value] if is_list else {"deeper": value}
    shown = json.dumps(redact(value))
    assert MARK not in shown
    assert HIDDEN in shown


@given(harmless)
def test_value_without_a_secret_stays(value: Any) -> None:
    """A plain value without secrets comes back equal."""
    assume("://" not in json.dumps(value))
    assert value == redact(value)


class _Broken:
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ((1, {2}), [1, [2]]),
        ({1: f"token={MARK}"}, {"1": f"token={HIDDEN}"}),
        (ValueError(f"nats://u:{MARK}@h"), "nats://u:Zq7@h".replace(f"u:{MARK}", HIDDEN)),
        ({"a": _Broken()}, {"a": "a _Broken that has no text"}),
    ],
)
def test_anything_becomes_plain(value: Any, shown: Any) -> None:
    """Whatever is logged becomes what JSON has, and its text is redacted too."""
    assert shown == redact(value)


@pytest.mark.parametrize("piece", ["a", "token", "://", "a,", "token=", "a://@", '"', " "])
def test_long_text_costs_little(piece: str) -> None:
    """A long text is cut, and takes no longer than its length: no pattern looks twice."""
    text = f"token :// {piece * 100_000}"
    shown = redact_text(text)
    assert len(shown) <= CHARACTERS_MAX * 2
    assert "characters" in shown or HIDDEN in shown
