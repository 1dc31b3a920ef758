"""The envelope: one flat JSON object whose `header` is ours and whose other keys are the body.

The form is Agent99's own, so that Ruby agents can read it. Decoding takes two typed passes, header
first: 0.8 µs dearer than one, and any type of body works, unions included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from agent99.envelope._body import (
    DEPTH_MAX,
    HEAD,
    SHALLOW_BYTES,
    UNREADABLE,
    check_depth,
    decode_json,
    is_plain,
    joined,
    refusal,
    refuse_depth,
    refuse_header_field,
    refuse_no_object,
    without_header,
)
from agent99.errors import (
    BadAnswerError,
    BadRequestError,
    HandlerError,
    UsageError,
)

WIRE_VERSION = 1
"""The form of the envelope that is spoken here."""
ENVELOPE_BYTES = 16 * 1024
"""What a body leaves free of the server's largest payload, for the header."""
_HEAD_SIZE = len(HEAD)

T = TypeVar("T")
Kind = Literal["request", "response", "control", "event"]
Outcome = Literal["ok", "value", "error"]
_Id = Annotated[str, Meta(min_length=1, max_length=128)]
_Short = Annotated[str, Meta(max_length=256)]
_Micros = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Header(msgspec.Struct, omit_defaults=True, gc=False, kw_only=True):
    """What a message says of itself. Agent99's five fields come first; the others are optional."""

    type: Kind
    from_uuid: Annotated[str, Meta(max_length=128)]
    """The instance, or connection, that sent it."""
    to_uuid: Annotated[str, Meta(max_length=256)]
    """The instance that it is for, or the capability or name by which one was asked for."""
    event_uuid: _Id
    """Names the request; its answer carries the same."""
    timestamp: _Micros
    """When it was sent, microseconds since the epoch, UTC."""
    operation: _Short = ""
    ttl_us: _Micros | None = None
    """Microseconds that the caller will wait, counted from arrival."""
    deadline: _Micros | None = None
    """The same moment by the sender's clock, microseconds since the epoch: tells what is stale."""
    traceparent: _Short | None = None
    """W3C Trace Context."""
    attempt: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    """Which try this is; starts at 1, absent on the first."""
    idempotency_key: _Short | None = None
    outcome: Outcome | None = None
    """On a response: `ok`, the body is the result; `value`, it stands under `result`; `error`."""
    wire: int = WIRE_VERSION
    """The version of this form."""


class _Enveloped(msgspec.Struct, gc=False):
    header: Header


class _Value(msgspec.Struct, Generic[T]):
    result: T


_encode = msgspec.json.Encoder().encode
_decode_bare_header = msgspec.json.Decoder(Header).decode
_decode_enveloped = msgspec.json.Decoder(_Enveloped).decode
_decode_keys = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def encode_message(header: Header, body: bytes, user_headers: bytes = b"") -> bytes:
    """Join a header and a body, which is a JSON object, into a message.

    Args:
        user_headers: What `encode_user_headers` made.
    """
    encoded = _encode(header)
    if user_headers:
        encoded = joined(encoded, user_headers)
    if body == b"{}":
        return b'{"header":%b}' % encoded
    return b'{"header":%b,%b' % (encoded, body[1:])


def request_prefix(from_uuid: str, to_uuid: str, operation: str) -> bytes:
    """Return what is the same in every request from one to another: for `encode_request`."""
    fields = {"type": "request", "from_uuid": from_uuid, "to_uuid": to_uuid, "operation": operation}
    return b'{"header":%b,"event_uuid":"' % _encode(fields)[:-1]


def encode_request(prefix: bytes, event_uuid: str, sent_us: int, ttl_us: int, body: bytes) -> bytes:
    """Return a plain request as `encode_message` would, at half the cost.

    Args:
        event_uuid: A UUID of our own: it is not looked at again.
        sent_us: When it is sent, microseconds since the epoch, UTC.
        ttl_us: Microseconds that the caller will wait.
    """
    times = b'","timestamp":%d,"ttl_us":%d,"deadline":%d}' % (sent_us, ttl_us, sent_us + ttl_us)
    if body == b"{}":
        return b"%b%b%b}" % (prefix, event_uuid.encode(), times)
    return b"%b%b%b,%b" % (prefix, event_uuid.encode(), times, body[1:])


def answer_prefix(from_uuid: str, to_uuid: str) -> bytes:
    """Return what is the same in every answer of one to another: for `encode_answer`."""
    fields = {"type": "response", "from_uuid": from_uuid, "to_uuid": to_uuid}
    return b'{"header":%b,"event_uuid":' % _encode(fields)[:-1]


def encode_answer(
    prefix: bytes, event_uuid: str, sent_us: int, outcome: Outcome, body: bytes, user: bytes
) -> bytes:
    """Return an answer as `encode_message` would, at half the cost.

    Args:
        event_uuid: As it stood in the request: anybody's text.
        sent_us: When it is sent, microseconds since the epoch, UTC.
        user: What `encode_user_headers` made; empty: there are none.
    """
    fields = b'%b,"timestamp":%d,"outcome":"%b"}' % (
        _encode(event_uuid),
        sent_us,
        outcome.encode(),
    )
    if user:
        fields = joined(fields, user)
    if body == b"{}":
        return b"%b%b}" % (prefix, fields)
    return b"%b%b,%b" % (prefix, fields, body[1:])


def decode_header(data: bytes) -> Header:
    """Return the header of a message that arrived.

    Raises:
        BadRequestError: malformed JSON, no object, no header, a wrong field, text that is not
            UTF-8, or nesting beyond 64; names the path and the rule.
    """
    header: Header = decode_json(_decode_enveloped, data).header
    return header


def split_message(data: bytes) -> tuple[Header, bytes]:
    """Return the header of a message that arrived, and its body alone, for a codec's `decode_body`.

    Of a body that follows its header, as in every message that we write, the JSON is not read here
    but by whoever decodes it. Where such a message has a second header, the first one counts.

    Raises:
        BadRequestError: no header, a wrong field, text that is not UTF-8, or nesting beyond 64;
            names the path and the rule.
    """
    try:
        # `check_text`, spelled out: this is done for every message, on both sides.
        if not data.isascii():
            data.decode()
        if len(data) - len(data.replace(b"{", b"").replace(b"[", b"")) > DEPTH_MAX:
            refuse_depth(data)
        end = data.find(b"}") + 1
        if data[end : end + 2] == b',"' and data.startswith(HEAD):
            try:
                return _decode_bare_header(data[_HEAD_SIZE:end]), b"{" + data[end + 1 :]
            except msgspec.DecodeError:
                pass  # wrong, or a brace within a text: the long way tells
        return _decode_enveloped(data).header, without_header(data)
    except UNREADABLE as error:
        raise refusal(error) from error


def peek_header(data: bytes) -> Header | None:
    """Return the header of a message that is refused, if that much of it can be read."""
    try:
        if data.startswith(HEAD):
            return _decode_bare_header(data[_HEAD_SIZE : data.find(b"}") + 1])
        return _decode_enveloped(data).header
    except UNREADABLE:
        return None


class BodyCodec(Generic[T]):
    """Reads the body of a request: an object of one type. The decode is the validation.

    Raises:
        UsageError: the type is no JSON object, cannot be decoded, or has a field called `header`.
    """

    def __init__(self, body_type: Any, *, of: str) -> None:
        self.body_type = body_type
        refuse_header_field(body_type, of)
        refuse_no_object(body_type, of)
        try:
            self._schema: dict[str, Any] = msgspec.json.schema(body_type)
            decoder = msgspec.json.Decoder[Any](body_type)
        except (TypeError, ValueError, RecursionError) as error:
            reason = f"{of}: {body_type!r} cannot be read from JSON: {_first_line(error)}"
            raise UsageError(reason) from error
        self._decode: Callable[[bytes], T] = decoder.decode

    def __repr__(self) -> str:
        return f"BodyCodec({self.body_type!r})"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12) of the body."""
        return self._schema

    def decode(self, data: bytes) -> T:
        """Return the body of a message, validated.

        Raises:
            BadRequestError: names the path and the rule.
        """
        return self.decode_body(_body_of(data))

    def decode_body(self, body: bytes) -> T:
        """Return a body that stands alone, validated.

        Raises:
            BadRequestError: names the path and the rule.
        """
        try:
            return self._decode(body)
        except UNREADABLE as error:
            raise refusal(error) from error


def encode_body(value: Any) -> bytes:
    """Return the body of a request or event as a JSON object; None gives an empty one.

    Raises:
        UsageError: it is no object, holds what JSON cannot carry, is nested deeper than 64, or has
            a key `header`.
    """
    if value is None:
        return b"{}"
    try:
        body = _encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UsageError(f"the payload cannot be written as JSON: {error}") from error
    if not is_plain(type(value)):
        if body[:1] != b"{":
            what = f"a payload is an object (a dict, a Struct), not {type(value).__name__}"
            raise UsageError(what)
        if _has_header(body):
            what = "a payload may not have a key 'header': the envelope's own stands there"
            raise UsageError(what)
    try:
        check_depth(body)
    except BadRequestError as error:
        raise UsageError(f"the payload is {error.rule}") from error
    return body


def _has_header(body: bytes) -> bool:
    """Return whether an object has a key `header`: at once where no text is like it."""
    return b'"header":' in body and "header" in _decode_keys(body)


class AnswerCodec(Generic[T]):
    """Reads and writes a result of one type: an object stands flat, anything else under `result`.

    Raises:
        UsageError: the type cannot be carried, or has a field called `header`.
    """

    def __init__(self, result_type: Any, *, of: str) -> None:
        self.result_type = result_type
        refuse_header_field(result_type, of)
        self._exact = result_type if isinstance(result_type, type) else None
        try:
            self._schema: dict[str, Any] = msgspec.json.schema(result_type)
            decoder = msgspec.json.Decoder[Any](result_type)
            value_decoder = msgspec.json.Decoder[Any](_Value[result_type])
        except (TypeError, ValueError, RecursionError) as error:
            reason = f"{of}: {result_type!r} cannot be carried as JSON: {_first_line(error)}"
            raise UsageError(reason) from error
        self._decode: Callable[[bytes], T] = decoder.decode
        self._decode_value: Callable[[bytes], _Value[T]] = value_decoder.decode

    def __repr__(self) -> str:
        return f"AnswerCodec({self.result_type!r})"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema (draft 2020-12) of the result."""
        return self._schema

    def encode(self, value: Any) -> tuple[Outcome, bytes]:
        """Return how the result travels, and the body.

        An object of the declared class is taken at its word: its fields are not validated again.

        Raises:
            HandlerError: the value is not of the type, JSON cannot carry it, or it is nested too
                deeply.
        """
        try:
            if type(value) is not self._exact and self.result_type is not Any:
                value = msgspec.convert(value, self.result_type)
            body = _encode(value)
            is_flat = is_plain(type(value)) or (body[:1] == b"{" and not _has_header(body))
            if not is_flat:
                body = b'{"result":%b}' % body
            if len(body) > SHALLOW_BYTES:
                check_depth(body)
        except (
            BadRequestError,
            msgspec.ValidationError,
            TypeError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:
            declared = getattr(self.result_type, "__name__", str(self.result_type))
            raise HandlerError(
                f"the operation returned {type(value).__name__} where it declares {declared}:"
                f" {_first_line(error)}"
            ) from error
        return "ok" if is_flat else "value", body

    def decode(self, outcome: Outcome | None, data: bytes) -> T:
        """Return the result that a whole message brings; see `decode_body`."""
        try:
            body = _body_of(data)
        except BadRequestError as error:
            raise _bad_answer(error) from error
        return self.decode_body(outcome, body)

    def decode_body(self, outcome: Outcome | None, body: bytes) -> T:
        """Return the result of an answer whose outcome is `ok` or `value` (none: `ok`, from Ruby).

        Args:
            body: The answer without its header.

        Raises:
            BadAnswerError: the answer is not of the type; names the path and the rule.
        """
        try:
            if outcome == "value":
                return self._decode_value(body).result
            return self._decode(body)
        except UNREADABLE as error:
            raise _bad_answer(refusal(error)) from error


def _body_of(data: bytes) -> bytes:
    try:
        return without_header(data)
    except UNREADABLE as error:
        raise refusal(error) from error


def _bad_answer(error: BadRequestError) -> BadAnswerError:
    return BadAnswerError(
        f"the answer is not what was asked for: {error.message}", details=error.details
    )


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]
