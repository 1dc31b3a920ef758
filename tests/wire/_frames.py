"""Frames of a NATS stream, drawn at random, with what a parser has to make of them."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from agent99.wire._parser import Parser
from agent99.wire._port import Message

Event = tuple[str, bytes, bytes, bytes, bytes, bytes]
"""Kind, then sid, subject, reply, payload, headers; or operation and argument."""


class Frame(NamedTuple):
    """Some bytes, and the event that they stand for."""

    data: bytes
    event: Event


_token = st.binary(min_size=1, max_size=12).map(lambda raw: raw.hex().encode())
_subject = st.lists(_token, min_size=1, max_size=4).map(b".".join)
_number = st.integers(min_value=1, max_value=10**9).map(lambda number: b"%d" % number)
_payload = st.binary(max_size=300) | st.sampled_from(
    [b"", b"\r\n", b"PING\r\n", b"MSG a 1 1\r\nx\r\n", b"x" * 2_000]
)
_block = st.sampled_from(
    [b"NATS/1.0\r\n\r\n", b"NATS/1.0 503\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n"]
)


@st.composite
def _messages(draw: st.DrawFn) -> Frame:
    subject, sid, payload = draw(_subject), draw(_number), draw(_payload)
    reply = draw(st.just(b"") | _subject)
    block = draw(st.just(b"") | _block)
    words = [subject, sid, *([reply] if reply else [])]
    if block:
        sizes = [b"%d" % len(block), b"%d" % (len(block) + len(payload))]
        line = b" ".join([b"HMSG", *words, *sizes])
    else:
        line = b" ".join([b"MSG", *words, b"%d" % len(payload)])
    data = line + b"\r\n" + block + payload + b"\r\n"
    return Frame(data, ("message", sid, subject, reply, payload, block))


def _control(operation: bytes, argument: bytes = b"") -> Frame:
    line = operation + b" " + argument if argument else operation
    return Frame(line + b"\r\n", ("control", operation, argument, b"", b"", b""))


_controls = st.sampled_from(
    [
        _control(b"PING"),
        _control(b"PONG"),
        _control(b"+OK"),
        _control(b"-ERR", b"'Stale Connection'"),
        _control(b"-ERR", b"no quotes"),
        _control(b"INFO", b'{"server_id":"x","version":"2.15.1"}'),
        _control(b"INFO", b'{"connect_urls":["' + b"h" * 4_500 + b'"]}'),
    ]
)
frames = st.lists(_messages() | _controls, max_size=8)
"""Lists of well-formed frames."""


class Recorder:
    """A parser, and everything that it called."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.parser = Parser(
            self._find, self._control, unrouted=self._unrouted, failed=self._failed
        )

    def _find(self, sid: bytes) -> _Receiver:
        return _Receiver(self.events, sid)

    def _control(self, operation: bytes, argument: bytes) -> None:
        self.events.append(("control", operation, argument, b"", b"", b""))

    def _unrouted(self, message: Message) -> None:
        raise AssertionError(message)

    def _failed(self, error: BaseException) -> None:
        raise error


class _Receiver:
    def __init__(self, events: list[Event], sid: bytes) -> None:
        self._events = events
        self._sid = sid

    def __call__(self, message: Message) -> None:
        self._events.append(
            (
                "message",
                self._sid,
                message.subject,
                message.reply,
                message.payload,
                message.headers,
            )
        )
