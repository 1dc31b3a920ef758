"""The envelope's codec: what goes in comes out, and what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from agent99.envelope import (
    DEPTH_MAX,
    HEADER_BYTES_MAX,
    AnswerCodec,
    BodyCodec,
    Header,
    answer_prefix,
    decode_header,
    decode_user_headers,
    encode_answer,
    encode_body,
    encode_message,
    encode_request,
    encode_user_headers,
    peek_header,
    request_prefix,
    split_message,
)
from agent99.errors import (
    BadAnswerError,
    BadRequestError,
    HandlerError,
    PayloadTooLargeError,
    UsageError,
)

HEADER = Header(
    type="request",
    from_uuid="5f0c",
    to_uuid="inventory",
    event_uuid="e1",
    timestamp=1_700_000_000_000_000,
)


class Line(msgspec.Struct):
    """An order line."""

    sku: str
    quantity: Annotated[int, Meta(ge=1)]


class Order(msgspec.Struct):
    """An order."""

    lines: list[Line]
    note: str | None = None


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """A type that forbids what it does not know."""

    a: int


class Cat(msgspec.Struct, tag="cat"):
    """One member of a union."""

    name: str


class Dog(msgspec.Struct, tag="dog", forbid_unknown_fields=True):
    """Another, which forbids unknown fields."""

    name: str


@dataclass
class Plain:
    """A dataclass."""

    a: int


class Typed(TypedDict):
    """A typed dictionary."""

    a: int


def message(body: bytes, **fields: Any) -> bytes:
    """Return a message with that body."""
    return encode_message(msgspec.structs.replace(HEADER, **fields), body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)
bodies = st.dictionaries(
    st.text(max_size=6).filter(lambda key: key != "header"), json_values, max_size=4
)


@given(bodies)
def test_any_object_travels_unchanged(body: dict[str, Any]) -> None:
    """Whatever object is sent, the same arrives, beside a header that is whole JSON."""
    data = message(encode_body(body))
    assert BodyCodec[dict[str, Any]](dict[str, Any], of="x").decode(data) == body
    parsed = json.loads(data)
    assert parsed.pop("header")["event_uuid"] == "e1"
    assert parsed == body


@given(
    bodies,
    st.dictionaries(st.from_regex(r"[A-Z]{1,4}", fullmatch=True), st.text(max_size=5), max_size=9),
)
def test_a_message_splits_into_what_it_was_made_of(
    body: dict[str, Any], headers: dict[str, str]
) -> None:
    """Header and body come apart as they were put together, in whatever order they stand."""
    data = encode_message(HEADER, encode_body(body), encode_user_headers(headers))
    header, alone = split_message(data)
    assert (header, msgspec.json.decode(alone)) == (HEADER, body)
    parts = msgspec.json.decode(data)
    held = parts.pop("header")
    header, alone = split_message(msgspec.json.encode({**parts, "header": held}))
    assert (header, msgspec.json.decode(alone)) == (HEADER, body)


@given(bodies, st.text(max_size=6), st.integers(0, 10**12))
def test_a_plain_request_is_what_the_long_way_makes(
    body: dict[str, Any], operation: str, ttl_us: int
) -> None:
    """The constant part of a header may be made once: a reader cannot tell."""
    encoded = encode_body(body)
    plain = encode_request(
        request_prefix("5f0c", "inventory", operation), "e1", HEADER.timestamp, ttl_us, encoded
    )
    long = message(encoded, operation=operation, ttl_us=ttl_us, deadline=HEADER.timestamp + ttl_us)
    (header, alone), (expected, _) = split_message(plain), split_message(long)
    assert (header, alone) == (expected, encoded)


@given(bodies, st.text(max_size=6), st.text(min_size=1, max_size=6), st.booleans())
def test_an_answer_is_what_the_long_way_makes(
    body: dict[str, Any], to_uuid: str, event_id: str, has_headers: bool
) -> None:
    """Byte by byte, whatever stood in the request, and with a user's own headers."""
    encoded = encode_body(body)
    user = encode_user_headers({"tenant": "a"}) if has_headers else b""
    header = Header(
        type="response",
        from_uuid="5f0c",
        to_uuid=to_uuid,
        event_uuid=event_id,
        timestamp=HEADER.timestamp,
        outcome="value",
    )
    prefix = answer_prefix("5f0c", to_uuid)
    short = encode_answer(prefix, event_id, HEADER.timestamp, "value", encoded, user)
    assert encode_message(header, encoded, user) == short


def test_a_second_header_changes_nothing() -> None:
    """Of two headers the first counts: what is checked at the door is what stands at the front."""
    other = msgspec.json.encode(msgspec.structs.replace(HEADER, event_uuid="e2"))
    header, _ = split_message(message(b'{"a":1,"header":' + other + b"}"))
    assert header.event_uuid == "e1"


@given(json_values)
def test_any_result_travels_unchanged(result: Any) -> None:
    """Whatever the result is, object or not, the caller gets the same."""
    codec: AnswerCodec[Any] = AnswerCodec(Any, of="x")
    outcome, body = codec.encode(result)
    data = message(body, type="response", outcome=outcome)
    assert codec.decode(decode_header(data).outcome, data) == result
    assert codec.decode_body(outcome, body) == result


def test_a_result_with_a_key_header_travels_as_a_value() -> None:
    """A dictionary that has a key `header` does not hide the envelope's own."""
    codec: AnswerCodec[Any] = AnswerCodec(Any, of="x")
    outcome, body = codec.encode({"header": 1})
    data = message(body, type="response", outcome=outcome)
    assert outcome == "value"
    assert codec.decode("value", data) == {"header": 1}


@pytest.mark.parametrize(
    ("body_type", "value"),
    [
        (Order, Order([Line("a", 2)])),
        (Strict, Strict(3)),
        (Cat | Dog, Cat("x")),
        (Cat | Dog, Dog("y")),
        (Plain, Plain(1)),
        (Typed, {"a": 1}),
        (dict[str, int], {"a": 1}),
        (Mapping[str, Any], {"a": 1}),
    ],
)
def test_any_type_of_object_can_be_a_payload(body_type: Any, value: Any) -> None:
    """Any object arrives as itself, also when the header is last."""
    codec: BodyCodec[Any] = BodyCodec(body_type, of="x")
    data = message(encode_body(value))
    assert codec.decode(data) == value
    parts = msgspec.json.decode(data)
    header = parts.pop("header")
    assert codec.decode(msgspec.json.encode({**parts, "header": header})) == value
    assert codec.decode_body(encode_body(value)) == value


@pytest.mark.parametrize("body_type", [int, str, list[int], Line | int, type(None)])
def test_a_payload_is_an_object(body_type: Any) -> None:
    """A type that is no JSON object cannot be a payload."""
    with pytest.raises(UsageError, match="a payload is an object"):
        BodyCodec(body_type, of="op")


def test_a_field_called_header_is_refused() -> None:
    """The envelope's own header stands there, for payloads and for results."""
    held = msgspec.defstruct("Held", [("header", str)])
    with pytest.raises(UsageError, match="Held has a field 'header'"):
        BodyCodec(held, of="op")
    with pytest.raises(UsageError, match="Held has a field 'header'"):
        AnswerCodec(held, of="op")
    with pytest.raises(UsageError, match="array_like"):
        BodyCodec(msgspec.defstruct("Row", [("a", int)], array_like=True), of="op")


@pytest.mark.parametrize(
    "value", [3, "text", [1], b"x", {"header": 1}, {"a": object()}, {"a": "\ud800"}]
)
def test_what_cannot_be_a_payload_is_refused_before_sending(value: Any) -> None:
    """A payload that is no object, or that JSON cannot carry, is the caller's mistake."""
    with pytest.raises(UsageError):
        encode_body(value)


@dataclass
class Late:
    """A class whose field `header` is not its first."""

    a: int
    header: str


def test_a_field_header_is_found_wherever_it_stands() -> None:
    """Also in a class that nobody declared, and not within a text or an inner object."""
    with pytest.raises(UsageError, match="'header'"):
        encode_body(Late(1, "x"))
    encode_body({"a": '"header":', "b": {"header": 1}})
    outcome, body = AnswerCodec(Any, of="x").encode(Late(1, "x"))
    assert (outcome, json.loads(body)["result"]) == ("value", {"a": 1, "header": "x"})


class Held(msgspec.Struct):
    """A class with a field that our header would hide."""

    header: str = "x"


class Renamed(msgspec.Struct, rename={"a": "header"}):
    """A class that calls a field so on its way."""

    a: str = "x"


class Tagged(msgspec.Struct, tag="x", tag_field="header"):
    """A class whose tag stands there."""


class Row(msgspec.Struct, array_like=True):
    """A class that is an array on its way."""

    a: int = 1


@pytest.mark.parametrize("value", [Held(), Renamed(), Tagged(), Row()])
def test_a_class_is_known_by_what_its_objects_look_like_on_their_way(value: Any) -> None:
    """A key `header`, however it comes to be, and an array: no payload, and no flat answer."""
    with pytest.raises(UsageError):
        encode_body(value)
    outcome, _ = AnswerCodec(Any, of="x").encode(value)
    assert outcome == "value"


def nested(depth: int) -> Any:
    """Return lists within one another."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_what_is_nested_too_deeply_is_refused_before_it_is_sent() -> None:
    """A payload is the caller's mistake, a result the handler's; 64 levels are fine."""
    encode_body({"a": nested(DEPTH_MAX - 1)})
    with pytest.raises(UsageError, match="nested deeper than 64"):
        encode_body({"a": nested(DEPTH_MAX)})
    codec: AnswerCodec[Any] = AnswerCodec(Any, of="x")
    outcome, body = codec.encode(nested(DEPTH_MAX - 1))
    assert codec.decode(outcome, message(body)) == nested(DEPTH_MAX - 1)
    with pytest.raises(HandlerError, match="nested deeper than 64"):
        codec.encode(nested(DEPTH_MAX))


@pytest.mark.parametrize(
    "data",
    [
        message(b'{"a":' + b"[" * 100 + b"]" * 100 + b"}"),
        message(b'{"a":"\xff"}'),
        b'{"a":' + b"[" * 70 + b"]" * 70 + b',"header":' + message(b"{}")[10:],
    ],
)
def test_who_sent_what_cannot_be_read_is_known_where_it_can_be(data: bytes) -> None:
    """A refusal carries the request's id, so that its caller takes it for the answer."""
    header = peek_header(data)
    assert header is not None
    assert header.event_uuid == "e1"
    for unreadable in (b"", b"{", b'{"header":{}', b'{"header":3}', b"[1]", b"\xff"):
        assert peek_header(unreadable) is None


def test_no_payload_is_an_empty_object() -> None:
    """None means that there is nothing to say."""
    assert encode_body(None) == b"{}"
    assert json.loads(message(b"{}")).keys() == {"header"}


class Unsupported:
    """A class that is no schema."""


def test_a_type_that_json_cannot_carry_is_refused_by_name() -> None:
    """The error names whose type it is."""
    with pytest.raises(UsageError, match=r"Shop\.buy"):
        BodyCodec(msgspec.defstruct("B", [("a", Unsupported)]), of="Shop.buy")
    with pytest.raises(UsageError, match=r"Shop\.buy"):
        AnswerCodec(Unsupported, of="Shop.buy")


BAD_HEADERS = [
    (b"", "$"),
    (b"{", "$"),
    (b'{"header":{}', "$.header"),
    (b"nonsense", "$"),
    (b"[1]", "$"),
    (b'"text"', "$"),
    (b"{}", "$"),
    (b'{"header":3}', "$.header"),
    (b'{"header":{"type":"request"}}', "$.header"),
    (message(b"{}").replace(b'"request"', b'"nonsense"'), "$.header.type"),
    (message(b"{}").replace(b"1700000000000000", b'"now"'), "$.header.timestamp"),
    (message(b"{}").replace(b"1700000000000000", b"1.5"), "$.header.timestamp"),
    (message(b"{}").replace(b'"e1"', b'""'), "$.header.event_uuid"),
    (message(b"{}").replace(b'"e1"', b'"' + b"e" * 129 + b'"'), "$.header.event_uuid"),
    (message(b"{}", ttl_us=0).replace(b'"ttl_us":0', b'"ttl_us":-1'), "$.header.ttl_us"),
    (message(b'{"a":"\xff"}'), "$"),
    (b"\xef\xbb\xbf" + message(b"{}"), "$"),
    (message(b'{"a":' + b"[" * 64 + b"]" * 64 + b"}"), "$"),
    (message(b'{"a":' + b"[" * 100_000), "$"),
    (message(b'{"a":' + b'{"b":' * 70 + b"1" + b"}" * 70 + b"}"), "$"),
]


@pytest.mark.parametrize(("data", "path"), BAD_HEADERS)
def test_a_message_that_cannot_be_read_is_refused_with_its_path(data: bytes, path: str) -> None:
    """Malformed JSON, wrong header fields, bad UTF-8 and deep nesting each name the place."""
    for read in (decode_header, split_message):
        with pytest.raises(BadRequestError) as caught:
            read(data)
        assert caught.value.path == path
        assert caught.value.rule


@pytest.mark.parametrize("rest", [b",", b",}", b", 1}", b"]", b"", b',"a":1', b',"a"}'])
def test_a_message_with_a_broken_body_never_gives_a_value(rest: bytes) -> None:
    """What `split_message` leaves unread is refused by the decode of the body."""
    with pytest.raises(BadRequestError):
        BodyCodec[Any](dict[str, Any], of="x").decode_body(
            split_message(message(b"{}")[:-1] + rest)[1]
        )


def test_nesting_up_to_the_bound_is_read() -> None:
    """64 levels are fine, brackets within text do not count, and neither do many shallow ones."""
    inner = DEPTH_MAX - 1
    decode_header(message(b'{"a":' + b"[" * inner + b"]" * inner + b"}"))
    decode_header(message(encode_body({"a": '["\\' * 500 + "{" * 500})))
    decode_header(message(encode_body({"a": [[]] * 500})))


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_bad_request(data: bytes) -> None:
    """Hostile bytes have one expected end."""
    for hostile in (data, b'{"header":' + data, message(b"{}")[:-1] + b"," + data):
        for read in (decode_header, split_message):
            try:
                read(hostile)
            except BadRequestError as error:
                assert error.code == "BAD_REQUEST"  # noqa: PT017 - either end is right, no third


BAD_BODIES = [
    (b'{"lines":3}', "$.lines", "array"),
    (b'{"lines":[{"sku":"a","quantity":0}]}', "$.lines[0].quantity", ">= 1"),
    (b'{"lines":[{"sku":"a","quantity":1.5}]}', "$.lines[0].quantity", "int"),
    (b'{"lines":[{"sku":7,"quantity":1}]}', "$.lines[0].sku", "str"),
    (b'{"note":"x"}', "$", "lines"),
]


@pytest.mark.parametrize(("body", "path", "rule"), BAD_BODIES)
def test_a_payload_that_breaks_the_schema_is_refused_with_path_and_rule(
    body: bytes, path: str, rule: str
) -> None:
    """The error says where and which rule, so that the caller can mend it."""
    with pytest.raises(BadRequestError) as caught:
        BodyCodec[Order](Order, of="x").decode(message(body))
    assert caught.value.path == path
    assert rule in caught.value.rule


def test_an_integer_beyond_the_type_is_refused() -> None:
    """A number that the type bounds is bounded, however long it is."""
    bounded = msgspec.defstruct("Bounded", [("n", Annotated[int, Meta(le=2**31 - 1)])])
    with pytest.raises(BadRequestError) as caught:
        BodyCodec[Any](bounded, of="x").decode(message(b'{"n":' + b"9" * 400 + b"}"))
    assert caught.value.path == "$.n"


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (int, "text"),
        (str, 3),
        (list[int], ["a"]),
        (Order, {"lines": 3}),
        (None, 1),
        (Any, object()),
        (Any, {"a": object()}),
        (Any, "\ud800"),
        (dict[str, Any], {"a": {1, 2, object()}}),
    ],
)
def test_a_result_of_another_type_is_the_handlers_fault(declared: Any, value: Any) -> None:
    """What an operation returns is checked against what it declares, before it leaves."""
    with pytest.raises(HandlerError):
        AnswerCodec(declared, of="x").encode(value)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (int, 3),
        (str, "a"),
        (None, None),
        (Order, Order([Line("a", 1)], "n")),
        (list[Line], [Line("a", 1)]),
        (Order | None, None),
        (Order | None, Order([])),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC)),
        (UUID, UUID(int=5)),
        (Decimal, Decimal("1.10")),
        (bytes, b"\x00\xff"),
        (dict[str, Line], {"a": Line("a", 1)}),
    ],
)
def test_a_typed_result_arrives_as_its_type(declared: Any, value: Any) -> None:
    """A result is, on the other side, what it was on this one."""
    codec: AnswerCodec[Any] = AnswerCodec(declared, of="x")
    outcome, body = codec.encode(value)
    data = message(body, type="response", outcome=outcome)
    assert codec.decode(outcome, data) == value


def test_an_answer_of_another_type_is_named() -> None:
    """A caller that asked for another type learns where the answer differs."""
    with pytest.raises(BadAnswerError) as caught:
        AnswerCodec(Order, of="x").decode("ok", message(b'{"lines":4}'))
    assert caught.value.details["path"] == "$.lines"


def test_user_headers_stand_beside_our_own() -> None:
    """A user's headers are flat in the header, where Ruby peers look for them."""
    data = encode_message(HEADER, b"{}", encode_user_headers({"user_agent": "x", "Z-1": "é"}))
    headers = decode_user_headers(data)
    assert headers["user_agent"] == "x"
    assert headers["Z-1"] == "é"
    assert headers["event_uuid"] == "e1"
    assert decode_header(data) == HEADER


def test_headers_are_read_wherever_they_stand_and_whatever_is_in_them() -> None:
    """A header may stand behind the body, as Ruby peers may write it, and hold a brace."""
    plain = encode_message(HEADER, b"{}", encode_user_headers({"a": '{"}"}', "b": "é"}))
    header = plain.removeprefix(b'{"header":').removesuffix(b"}")
    expected = decode_user_headers(plain)
    assert ('{"}"}', "é") == (expected["a"], expected["b"])
    assert expected == decode_user_headers(b'{"header":%b,"lines":[{"a":1}]}' % header)
    assert expected == decode_user_headers(b'{"lines":[{"a":1}],"header": %b}' % header)


@pytest.mark.parametrize(
    "headers",
    [
        {"type": "x"},
        {"event_uuid": "x"},
        {"": "x"},
        {"a b": "x"},
        {"a:b": "x"},
        {"a\r\n": "x"},
        {"é": "x"},
        {"a" * 65: "x"},
        {"a": 3},
        {"a": "\ud800"},
        {f"h{n}": "x" for n in range(33)},
    ],
)
def test_headers_beyond_their_grammar_or_number_are_refused(headers: Any) -> None:
    """Names of the envelope, odd characters, values that are no text, and too many of them."""
    with pytest.raises(UsageError):
        encode_user_headers(headers)


def test_headers_have_a_bound_in_bytes() -> None:
    """8 KiB together, and the error says how many there were."""
    with pytest.raises(PayloadTooLargeError) as caught:
        encode_user_headers({"a": "x" * HEADER_BYTES_MAX})
    assert caught.value.size_bytes_max == HEADER_BYTES_MAX


def test_codecs_give_their_schema() -> None:
    """The registry's record of an operation has JSON Schema, and codecs are readable."""
    body: BodyCodec[Order] = BodyCodec(Order, of="x")
    assert "$ref" in body.schema()
    assert AnswerCodec(int, of="x").schema() == {"type": "integer"}
    assert "Order" in repr(body)
    assert "int" in repr(AnswerCodec(int, of="x"))


def test_a_response_without_an_outcome_is_an_object() -> None:
    """Ruby peers say nothing of the outcome: the body is the result."""
    codec: AnswerCodec[Any] = AnswerCodec(Any, of="x")
    assert codec.decode(None, message(b'{"a":1}', type="response")) == {"a": 1}
