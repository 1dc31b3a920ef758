"""Header blocks: there and back, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.errors import LocalProtocolError, RemoteProtocolError
from agent99.wire import Message, format_headers, is_no_responders, parse_headers

_names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
_values = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=50)


@settings(deadline=None)
@given(st.dictionaries(_names | st.text(max_size=5), _values | st.text(max_size=5), max_size=5))
def test_round_trip(fields: dict[str, str]) -> None:
    """What is not refused comes back as it was, and can break nothing."""
    try:
        block = format_headers(fields)
    except LocalProtocolError:
        return
    assert fields == parse_headers(block).fields


@settings(deadline=None)
@given(st.binary(max_size=200).map(lambda raw: b"NATS/1.0" + raw) | st.binary(max_size=50))
def test_any_block(block: bytes) -> None:
    """Any bytes are read, or give RemoteProtocolError."""
    try:
        parsed = parse_headers(block)
    except RemoteProtocolError:
        return
    assert 0 <= parsed.status <= 999


@pytest.mark.parametrize(
    ("block", "status", "description"),
    [
        (b"", 0, ""),
        (b"NATS/1.0\r\n\r\n", 0, ""),
        (b"NATS/1.0 503\r\n\r\n", 503, ""),
        (b"NATS/1.0 100 Idle Heartbeat\r\nA: b\r\n\r\n", 100, "Idle Heartbeat"),
    ],
)
def test_status(block: bytes, status: int, description: str) -> None:
    """The first line has the status and its words."""
    parsed = parse_headers(block)
    assert (status, description) == (parsed.status, parsed.description)


def test_first_of_two() -> None:
    """Of a name that comes twice the first value counts."""
    assert {"A": "1"} == parse_headers(b"NATS/1.0\r\nA: 1\r\nA: 2\r\n\r\n").fields


@pytest.mark.parametrize(
    "block",
    [
        b"HTTP/1.0\r\n\r\n",
        b"NATS/1.0 abc\r\n\r\n",
        b"NATS/1.0 5030\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\nA: \xff\r\n\r\n",
        b"NATS/1.0\r\nA: " + b"x" * 70_000,
    ],
)
def test_bad_block(block: bytes) -> None:
    """What is no header block is refused."""
    with pytest.raises(RemoteProtocolError):
        parse_headers(block)


def test_no_responders() -> None:
    """The notice has status 503 and no payload."""
    notice = Message(b"a", b"", b"", b"NATS/1.0 503\r\n\r\n")
    assert is_no_responders(notice)
    for other in (
        Message(b"a", b"", b"x", b"NATS/1.0 503\r\n\r\n"),
        Message(b"a", b"", b"", b"NATS/1.0\r\nStatus: 503\r\n\r\n"),
        Message(b"a", b"", b""),
    ):
        assert not is_no_responders(other)
