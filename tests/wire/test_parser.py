"""The parser: the same calls however the stream is cut; garbage ends it in one way only."""

from __future__ import annotations

import asyncio
import contextlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.errors import RemoteProtocolError
from agent99.wire._parser import INFO_BYTES_MAX, LINE_BYTES_MAX, Parser
from agent99.wire._port import Message
from tests.wire._frames import Frame, Recorder, frames


def _feed(recorder: Recorder, stream: bytes, cuts: list[int]) -> bool:
    """Feed the stream in pieces; return whether it was all taken."""
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    try:
        for start, stop in pairwise(places):
            recorder.parser.feed(stream[start:stop])
    except RemoteProtocolError:
        return False
    return True


@settings(deadline=None, max_examples=60)
@given(frames, st.lists(st.integers(min_value=0, max_value=20_000), max_size=12))
def test_any_cut(stream: list[Frame], cuts: list[int]) -> None:
    """Any split of a well-formed stream gives the same events."""
    recorder = Recorder()
    assert _feed(recorder, b"".join(frame.data for frame in stream), cuts)
    assert [frame.event for frame in stream] == recorder.events
    messages = [frame for frame in stream if frame.event[0] == "message"]
    assert len(messages) == recorder.parser.messages


@settings(deadline=None, max_examples=20)
@given(frames)
def test_byte_by_byte(stream: list[Frame]) -> None:
    """A stream that comes byte by byte gives the same events."""
    recorder = Recorder()
    for frame in stream:
        for at in range(len(frame.data)):
            recorder.parser.feed(frame.data[at : at + 1])
    assert [frame.event for frame in stream] == recorder.events


_PIECES = [
    b"MSG",
    b"HMSG",
    b"PING",
    b"PONG",
    b"+OK",
    b"-ERR",
    b"INFO",
    b" ",
    b"\r\n",
    b"\r",
    b"\n",
    b"a",
    b"1",
    b"-1",
    b"+1",
    b"1_0",
    b"99999999999",
    b"\x00",
    b"\xff",
    b"x" * 4_300,
]
_garbage = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=8), max_size=30).map(b"".join)


@settings(deadline=None, max_examples=60)
@given(frames, _garbage, frames, st.lists(st.integers(min_value=0, max_value=60_000), max_size=8))
def test_garbage(before: list[Frame], garbage: bytes, after: list[Frame], cuts: list[int]) -> None:
    """Garbage gives RemoteProtocolError or nothing, and the same at every cut."""
    stream = b"".join(
        [*(frame.data for frame in before), garbage, *(frame.data for frame in after)]
    )
    whole, cut = Recorder(), Recorder()
    assert _feed(whole, stream, []) == _feed(cut, stream, cuts)
    assert whole.events == cut.events
    assert [frame.event for frame in before] == whole.events[: len(before)]


@pytest.mark.parametrize(
    "stream",
    [
        b"HELLO\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"ping\r\n",
        b"PING \r\n",
        b"\r\n",
        b"MSG\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 b c 3\r\nabc\r\n",
        b"MSG a 1 x\r\n",
        b"MSG a 1 -1\r\n\r\n",
        b"MSG a 1 +1\r\nx\r\n",
        b"MSG a 1 1_0\r\n",
        b"MSG a 1 3\r\nabcd\r\n",
        b"MSG a 1 99999999999\r\n",
        b"MSG a 1 " + b"9" * 4_000 + b"\r\n",
        b"HMSG a 1 3\r\n",
        b"HMSG a 1 5 3\r\nabc\r\n",
        b"HMSG a 1 x 3\r\nabc\r\n",
        b"HMSG a 1 3 y\r\nabc\r\n",
        b"HMSG a 1 3 99999999999\r\n",
        b"HMSG a 1 1 3\r\nabcd\r\n",
        b"-ERR" + b"x" * LINE_BYTES_MAX,
        b"MSG " + b"x" * LINE_BYTES_MAX,
        b"INFO " + b"x" * INFO_BYTES_MAX,
        b"x",
    ],
)
def test_refused(stream: bytes) -> None:
    """What is not NATS is refused, and so is everything after it."""
    recorder = Recorder()
    with pytest.raises(RemoteProtocolError):
        recorder.parser.feed(stream)
    with pytest.raises(RemoteProtocolError):
        recorder.parser.feed(b"PING\r\n")
    assert [] == recorder.events


def test_strange_subjects() -> None:
    """A subject of any other bytes is delivered: a hostile peer must not cut us off."""
    recorder = Recorder()
    recorder.parser.feed(b"MSG a\x00\x0b\xff.b 1 1\r\nx\r\n")
    assert b"a\x00\x0b\xff.b" == recorder.events[0][2]


def test_large_payload_is_not_copied_over_and_over() -> None:
    """A large message in small pieces is put together once."""
    recorder = Recorder()
    payload = bytes(1_000_000)
    stream = b"MSG a 1 1000000\r\n" + payload + b"\r\n"
    for at in range(0, len(stream), 1_000):
        recorder.parser.feed(stream[at : at + 1_000])
    assert [payload] == [event[4] for event in recorder.events]


def test_receiver_that_raises() -> None:
    """What a receiver raises goes to `failed`, and the next message arrives."""
    raised: list[BaseException] = []
    got: list[bytes] = []

    def receive(message: Message) -> None:
        got.append(message.payload)
        raise asyncio.CancelledError if message.headers else ValueError

    parser = Parser(
        {b"1": receive}.get, lambda *_: None, unrouted=lambda _: None, failed=raised.append
    )
    parser.feed(b"MSG a 1 1\r\nx\r\nHMSG a 1 1 2\r\nhy\r\nMSG a 2 1\r\nz\r\n")
    assert [b"x", b"y"] == got
    assert [ValueError, asyncio.CancelledError] == [type(error) for error in raised]


def test_control_that_raises() -> None:
    """A stream is broken for good when what it says cannot be taken."""

    def control(_operation: bytes, _argument: bytes) -> None:
        raise RemoteProtocolError("no")

    parser = Parser({}.get, control, unrouted=lambda _: None, failed=lambda _: None)
    for _ in range(2):
        with contextlib.suppress(RemoteProtocolError):
            parser.feed(b"INFO {}\r\n")
            pytest.fail("it was taken")
    assert "Parser(messages=0, kept_bytes=0)" == repr(parser)
