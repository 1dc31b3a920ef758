"""What is fuzzed: every function that reads bytes of others. Each takes any bytes, and ends.

A target raises `Broken`, or lets something escape, when the code under it does what it never
promised; a declared error is an answer like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from agent99.envelope import (
    AnswerCodec,
    BodyCodec,
    Header,
    decode_error,
    decode_header,
    encode_message,
    is_inbox_of,
    operation_of,
    peek_header,
    sender_of,
    split_message,
)
from agent99.errors import (
    Agent99Error,
    BadAnswerError,
    BadRequestError,
    LocalProtocolError,
    RemoteProtocolError,
    UsageError,
)
from agent99.registry._description import decode_description, encode_description
from agent99.systems.cache._resp_parser import RequestBounds, RequestParser
from agent99.wire import Message, format_headers, parse_headers
from agent99.wire._encoder import SubjectChecker, check_pattern
from agent99.wire._parser import INFO_BYTES_MAX, Parser, frame_bytes_max

PAYLOAD_BYTES_MAX: Final = 4_096
KEPT_BYTES_MAX: Final = frame_bytes_max(PAYLOAD_BYTES_MAX) + 2 * INFO_BYTES_MAX


class Broken(Exception):  # noqa: N818 - it is a finding, and no error of the code's own
    """A promise does not hold."""


class Line(msgspec.Struct):
    """Of an order."""

    product_id: str
    quantity: int
    price: float | None = None


class Order(msgspec.Struct):
    """A body with a bit of everything."""

    customer: str
    lines: list[Line] = []
    labels: dict[str, int | str] = {}


_BODY = BodyCodec[Order](Order, of="fuzz")
_ANSWER = AnswerCodec[Order | int](Order | int, of="fuzz")


def promise(holds: object, what: str) -> None:
    """Raise `Broken` unless it holds."""
    if not holds:
        raise Broken(what)


def parser(data: bytes) -> None:
    """The same calls however the stream is cut; nothing but the declared error; bounded memory."""
    cut = data[0] if data else 1
    stream = data[1:]
    promise(_calls(stream, len(stream) or 1) == _calls(stream, cut % 17 + 1), "cuts change calls")


def _calls(stream: bytes, step: int) -> list[object]:
    calls: list[object] = []
    reader = Parser(
        lambda sid: calls.append if sid == b"1" else None,
        lambda operation, argument: calls.append((operation, argument)),
        unrouted=lambda message: calls.append(("unrouted", message)),
        failed=lambda error: calls.append(("failed", repr(error))),
        payload_bytes_max=PAYLOAD_BYTES_MAX,
    )
    try:
        for at in range(0, len(stream), step):
            reader.feed(stream[at : at + step])
            promise(reader._kept <= KEPT_BYTES_MAX, "keeps more than a frame")  # noqa: SLF001 - ours
    except RemoteProtocolError:
        calls.append("refused")
    return [_plain(call) for call in calls]


def _plain(call: object) -> object:
    if isinstance(call, Message):
        return (call.subject, call.reply, call.payload, call.headers)
    return call


def message(data: bytes) -> None:
    """A message is read or refused, and both ways of reading it agree."""
    peek_header(data)
    try:
        header, body = split_message(data)
    except BadRequestError:
        return
    with suppress(BadRequestError):  # the body, which is not read when it is split off, is no JSON
        promise(decode_header(data) == header or data.count(b'"header"') > 1, "two headers")
    for read in (_BODY.decode_body, lambda raw: _ANSWER.decode_body(header.outcome, raw)):
        try:
            read(body)
        except (BadRequestError, BadAnswerError):
            continue
    promise(isinstance(decode_error(data), Agent99Error), "an error answer is an error")
    promise(split_message(encode_message(header, b"{}"))[0] == header, "the header comes back")


def body(data: bytes) -> None:
    """A body is an `Order` or a refusal that names a rule."""
    try:
        value = _BODY.decode_body(data)
    except BadRequestError as error:
        promise(error.message, "says nothing")
        return
    promise(_BODY.decode_body(msgspec.json.encode(value)) == value, "what is read can be written")


def headers(data: bytes) -> None:
    """A header block is read or refused; what is clean can be written again."""
    try:
        parsed = parse_headers(data)
    except RemoteProtocolError:
        return
    try:
        block = format_headers(parsed.fields)
    except LocalProtocolError:
        return  # we read more than we write
    promise(parse_headers(block).fields == parsed.fields, "fields change on the way")
    promise(block.count(b"\r\n\r\n") == bool(block), "a block ends once")


def subject(data: bytes) -> None:
    """Who sent what can be asked of any subject; what may be published breaks no line."""
    sender = sender_of(data)
    operation_of(data)
    promise(not is_inbox_of(sender, data) or data.startswith(b"_INBOX."), "an inbox is an inbox")
    checker = SubjectChecker()
    for check in (checker.check, check_pattern):
        try:
            check(data)
        except LocalProtocolError:
            continue
        promise(data.isascii() and not set(data) & set(b" \r\n\t\x00"), "breaks the line")


def description(data: bytes) -> None:
    """A record of the registry is a description, or none."""
    found = decode_description(data)
    if found is not None:
        promise(decode_description(encode_description(found)) == found, "comes back as it was")


def header(data: bytes) -> None:
    """What a header says can be said again, or is refused as bad use."""
    try:
        made = msgspec.json.decode(data, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    try:
        again = split_message(encode_message(made, b'{"a":1}'))
    except (UsageError, BadRequestError):
        return
    promise(again == (made, b'{"a":1}'), "the header comes back")


def resp(data: bytes) -> None:
    """The same requests however the stream is cut; nothing but the declared error."""
    cut = data[0] if data else 1
    stream = data[1:]
    promise(_requests(stream, len(stream) or 1) == _requests(stream, cut % 17 + 1), "cuts tell")


def _requests(stream: bytes, step: int) -> list[object]:
    requests: list[object] = []
    reader = RequestParser(RequestBounds())
    try:
        for at in range(0, len(stream), step):
            reader.feed(stream[at : at + step])
            while (request := reader.next_request()) is not None:
                requests.append(request)
    except RemoteProtocolError as problem:
        requests.append(str(problem))
    return requests


TARGETS: Final[dict[str, Callable[[bytes], Any]]] = {
    target.__name__: target
    for target in (parser, message, body, headers, subject, description, header, resp)
}
