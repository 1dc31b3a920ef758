"""The parser of requests: the same however they are cut, within its bounds, in Redis's words."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import RemoteProtocolError
from agent99.systems.cache._resp_parser import RequestBounds, RequestParser, split_inline

from ._redis import request_of

SMALL = RequestBounds(arguments_max=4, argument_bytes_max=2_000, request_bytes_max=3_000)
arguments = st.one_of(
    st.binary(max_size=20), st.sampled_from([b"x" * 1_500, b"\r\n$1\r\n", b"*1\r\n", b""])
)
requests = st.lists(arguments, min_size=1, max_size=5)


def parse(parser: RequestParser, pieces: list[bytes]) -> tuple[list[list[bytes]], str]:
    """Return the requests that say something, and the complaint if there is one."""
    found: list[list[bytes]] = []
    try:
        for piece in pieces:
            parser.feed(piece)
            while (request := parser.next_request()) is not None:
                found.extend([request] if request else [])
    except RemoteProtocolError as problem:
        return found, str(problem)
    return found, ""


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return the data in pieces."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@given(st.lists(requests, max_size=8), st.lists(st.integers(0, 10_000), max_size=8))
def test_requests_are_the_same_however_they_are_cut(
    sent: list[list[bytes]], places: list[int]
) -> None:
    """What was sent is what is parsed, wherever the network cuts it."""
    data = b"".join(request_of(*words) for words in sent)
    parser = RequestParser(RequestBounds())
    assert parse(parser, cut(data, places)) == (sent, "")
    assert parser.waiting_bytes == 0


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8), st.booleans())
def test_any_bytes_mean_the_same_however_they_are_cut(
    data: bytes, places: list[int], is_trusted: bool
) -> None:
    """Nonsense ends in the same requests and the same complaint, wherever it is cut."""
    whole, pieces = RequestParser(SMALL), RequestParser(SMALL)
    whole.is_trusted = pieces.is_trusted = is_trusted
    assert parse(whole, [data]) == parse(pieces, cut(data, places))


@given(
    st.lists(
        st.sampled_from([b"*", b"$", b"1", b"3", b"\r\n", b"a", b'"', b"-", b" "]), max_size=40
    ),
    st.lists(st.integers(0, 100), max_size=8),
)
def test_near_requests_mean_the_same_however_they_are_cut(
    parts: list[bytes], places: list[int]
) -> None:
    """The same for what is almost a request."""
    data = b"".join(parts)
    pieces = cut(data, places)
    assert parse(RequestParser(SMALL), [data]) == parse(RequestParser(SMALL), pieces)


@given(st.lists(requests, min_size=1, max_size=4))
def test_the_quick_way_and_the_long_way_agree(sent: list[list[bytes]]) -> None:
    """Bounds that the quick way cannot see to make no difference to what is within them."""
    data = b"".join(request_of(*words) for words in sent)
    narrow = RequestBounds(arguments_max=5, argument_bytes_max=1_500, request_bytes_max=7_500)
    assert parse(RequestParser(narrow), [data]) == (sent, "")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (request_of("a", "b", "c", "d", "e"), "invalid multibulk length"),
        (b"*5\r\n", "invalid multibulk length"),
        (b"*1\r\n$2001\r\n", "invalid bulk length"),
        (request_of("a", "x" * 1_500, "y" * 1_500), "too big request"),
        (b"*2\r\n$1500\r\n" + b"x" * 1_500 + b"\r\n$1501\r\n", "too big request"),
        (b"*1\r\n$3\r\nabcde\r\n", "expected the end of a line after an argument"),
        (b"x" * 65_537, "too big inline request"),
        (b"*" + b"1" * 65_536, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 65_536, "too big bulk count string"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bounds_hold_before_anything_is_kept(data: bytes, complaint: str) -> None:
    """A request over a bound is refused as soon as it says so."""
    assert parse(RequestParser(SMALL), [data]) == ([], complaint)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (request_of(*"abcdefghij"), ""),
        (b"*11\r\n", "unauthenticated multibulk length"),
        (b"*1\r\n$16385\r\n", "unauthenticated bulk length"),
    ],
)
def test_strangers_get_little_room(data: bytes, complaint: str) -> None:
    """Who has not said the password gets no more than AUTH takes."""
    parser = RequestParser(RequestBounds())
    parser.is_trusted = False
    assert parse(parser, [data])[1] == complaint


def test_a_promise_of_much_takes_no_memory() -> None:
    """What the peer announces is not made room for before it comes."""
    parser = RequestParser(RequestBounds())
    tracemalloc.start()
    parse(parser, [b"*131072\r\n$67108864\r\n" + b"x" * 1_000])
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 50_000


@pytest.mark.parametrize("piece_bytes", [1_000, 65_536])
def test_a_long_value_is_put_together_once(piece_bytes: int) -> None:
    """A value of megabytes in many pieces is copied a few times, and not once for each piece."""
    value = b"x" * (4 * 1_048_576)
    data = request_of("SET", "k", value)
    pieces = [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]
    parser = RequestParser(RequestBounds())
    tracemalloc.start()
    found, complaint = parse(parser, pieces)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found, complaint) == ([[b"SET", b"k", value]], "")
    assert peak_bytes < 4 * len(value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"  a  b\t", [b"a", b"b"]),
        (b'"a b" c', [b"a b", b"c"]),
        (b"''", [b""]),
        (b"'a\\'b' 'c\\nd'", [b"a'b", b"c\\nd"]),
        (b'"\\x41\\n\\"\\q\\\\"', [b'A\n"q\\']),
        (b'"\\x4"', [b"x4"]),
        (b"a'b c'", [b"ab c"]),
        (b"\xff", [b"\xff"]),
    ],
)
def test_a_typed_line_is_split_as_redis_does(line: bytes, words: list[bytes]) -> None:
    """Blanks part words, quotes keep them together."""
    assert split_inline(line) == words


@pytest.mark.parametrize("line", [b'"a', b"'a", b"'a'b", b'"a"b', b'"a\\"', b"a'"])
def test_a_quote_that_does_not_end_is_refused(line: bytes) -> None:
    """A quote ends, and nothing follows it."""
    with pytest.raises(RemoteProtocolError, match="unbalanced quotes"):
        split_inline(line)


def test_a_parser_says_what_waits() -> None:
    """Its representation names the bytes that are part of no request yet."""
    parser = RequestParser(SMALL)
    parser.feed(b"*1\r\n$4\r\nPI")
    assert parser.next_request() is None
    assert repr(parser) == "RequestParser(waiting_bytes=6)"
