"""Every change is told once, to those of its namespace, in messages that a server takes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.envelope import Subjects
from agent99.errors import BufferFullError
from agent99.systems.cache._news import ANYTHING, KEYS_MAX, Teller, decode_news

_PAYLOAD_MAX = 1_048_576
_news = st.dictionaries(
    st.tuples(st.sampled_from(["a", "b", "Not a name!"]), st.text(max_size=9)), st.integers(1, 9)
)


class _Wire:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes]] = []

    def publish(self, subject: bytes, payload: bytes) -> None:
        """Keep it."""
        self.sent.append((subject, payload))


def _teller(wire: Any) -> Teller:
    return Teller(wire, Subjects("m", "s"))


def _heard(wire: _Wire, namespace: str) -> list[tuple[str, int]]:
    subject = f"a99.m.near.{namespace}.s".encode()
    payloads = [payload for each, payload in wire.sent if each == subject]
    return [pair for payload in payloads for pair in decode_news(payload) or ()]


@given(_news)
def test_a_turn_is_one_message_for_each_namespace(news: dict[tuple[str, str], int]) -> None:
    """What changed in a turn of the loop is told together; nobody hears of other namespaces."""
    wire = _Wire()

    async def change() -> None:
        teller = _teller(wire)
        for (namespace, key), version in news.items():
            teller.outdated(f"{namespace}:{key}", version)

    asyncio.run(change())
    for namespace in ("a", "b"):
        expected = [(key, version) for (each, key), version in news.items() if each == namespace]
        assert _heard(wire, namespace) == expected
    assert len(wire.sent) == len({namespace for namespace, _ in news} - {"Not a name!"})


@pytest.mark.parametrize("letter", ["x", "\x01", "\U0001f600", "ü"])
def test_many_keys_travel_in_messages_that_are_not_too_large(letter: str) -> None:
    """However long the keys, and whatever stands in them, a server takes each message."""
    wire = _Wire()
    keys = [f"{number}{letter * (1_000 // len(letter.encode()))}" for number in range(3_000)]
    keys += [str(number) for number in range(3_000)]

    async def change() -> None:
        teller = _teller(wire)
        for key in keys:
            teller.outdated(f"a:{key}", 7)
        teller.flush()

    asyncio.run(change())
    assert _heard(wire, "a") == [(key, 7) for key in keys]
    assert max(len(payload) for _, payload in wire.sent) < _PAYLOAD_MAX
    assert all(len(decode_news(payload) or ()) <= KEYS_MAX for _, payload in wire.sent)


def test_a_wire_that_takes_nothing_breaks_no_change() -> None:
    """What cannot be told costs clients their bound; the change was made, and is answered."""

    class Full(_Wire):
        def publish(self, subject: bytes, payload: bytes) -> None:
            raise BufferFullError(9, 8)

    async def change() -> None:
        teller = _teller(Full())
        teller.outdated("a:k", 1)
        teller.flush()

    asyncio.run(change())


@pytest.mark.parametrize("payload", [ANYTHING, b"", b"\xff", b"{}", b'[["a"]]', b'[[1,"a"]]'])
def test_what_is_no_list_of_keys_is_of_any_key(payload: bytes) -> None:
    """That of anything, and whatever makes no sense, is told apart from a list of keys."""
    assert decode_news(payload) is None
    assert decode_news(b'[["a",1]]') == (("a", 1),)
