"""What the server's answers, headers and reply subjects mean."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import (
    JournalError,
    RemoteProtocolError,
    StreamFullError,
    StreamNotFoundError,
    WrongSequenceError,
)
from agent99.journal._api import ApiError, PublishAck, decode, error_of, microseconds
from agent99.journal._headers import (
    direct_fields,
    field_of,
    marker_of,
    number_of,
    status_of,
)
from agent99.journal._reply import Place, read_reply

_BLOCK = (
    b"NATS/1.0\r\nNats-Sequence: 99\r\nX: y\r\nNats-Stream: S\r\nNats-Subject: s.a\r\n"
    b"Nats-Sequence: 7\r\nNats-Time-Stamp: 2026-01-02T03:04:05.5Z\r\n"
    b"Nats-Num-Pending: 3\r\nNats-Last-Sequence: 6\r\n\r\n"
)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (10059, StreamNotFoundError),
        (10077, StreamFullError),
        (10047, StreamFullError),
        (10071, WrongSequenceError),
        (10164, WrongSequenceError),
        (10052, JournalError),
    ],
)
def test_error_codes(code: int, kind: type[JournalError]) -> None:
    """Each code of the server's becomes the error that a caller can act on."""
    error = error_of(ApiError(400, code, "wrong last sequence: 42"), "s.a", 7)
    assert kind is type(error)
    if isinstance(error, WrongSequenceError):
        assert ("s.a", 7, 42) == (error.subject, error.expected, error.actual)


def test_wrong_sequence_without_number() -> None:
    """Where the server does not tell the actual sequence, it is None."""
    error = error_of(ApiError(400, 10164, "wrong last sequence"), "s.a", 7)
    assert isinstance(error, WrongSequenceError)
    assert None is error.actual


def test_error_beside_a_sequence() -> None:
    """An error's receipt carries `seq: 0` as well; the error is there to be looked at first."""
    ack = decode(b'{"error":{"code":503,"err_code":10077},"stream":"S","seq":0}', PublishAck)
    assert ack.error is not None
    assert 10077 == ack.error.err_code


@pytest.mark.parametrize("junk", [b"", b"+OK", b"[]", b'{"seq": "x"}', b"\xff"])
def test_no_answer(junk: bytes) -> None:
    """An answer that is none of JetStream's is refused."""
    with pytest.raises(RemoteProtocolError):
        decode(junk, PublishAck)


@given(st.datetimes(timezones=st.just(UTC)), st.integers(0, 999))
def test_microseconds(moment: datetime, nanoseconds: int) -> None:
    """The server's times, whose zeros at the end are left out, are read to the microsecond."""
    fraction = f".{moment.microsecond:06}{nanoseconds:03}".rstrip("0").rstrip(".")
    second = moment.replace(microsecond=0)
    text = f"{second.isoformat()[:19]}{fraction}Z"
    seconds = round(second.timestamp())
    assert seconds * 1_000_000 + moment.microsecond == microseconds(text.encode())


@pytest.mark.parametrize("junk", [b"", b"yesterday", b"2026-13-01T00:00:00Z"])
def test_no_time(junk: bytes) -> None:
    """What is no time is refused."""
    with pytest.raises(RemoteProtocolError):
        microseconds(junk)


def test_last_field_counts() -> None:
    """The server's own fields stand last, so a writer's of the same name cannot pass for them."""
    assert b"7" == field_of(_BLOCK, b"Nats-Sequence")
    assert 7 == number_of(_BLOCK, b"Nats-Sequence")
    assert b"" == field_of(_BLOCK, b"Nats")
    assert 0 == number_of(_BLOCK, b"X")


def test_direct_fields() -> None:
    """The fields of a batch's message are read, in the usual order quickly, in another as well."""
    fields = direct_fields(_BLOCK)
    assert ("s.a", 7, 6) == (fields.subject, fields.sequence, fields.previous)
    assert b"2026-01-02T03:04:05.5Z" == fields.stored
    assert fields == direct_fields(_BLOCK.replace(b"\r\n\r\n", b"\r\nNew: 1\r\n\r\n"))
    with pytest.raises(ValueError, match="invalid literal"):
        direct_fields(b"")


@pytest.mark.parametrize(
    ("block", "status"),
    [
        (b"", 0),
        (b"NATS/1.0\r\nX: y\r\n\r\n", 0),
        (b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", 100),
        (b"NATS/1.0 404\r\n\r\n", 404),
    ],
)
def test_status(block: bytes, status: int) -> None:
    """A status is read from the first line, where there is one."""
    assert status == status_of(block)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (b"", "put"),
        (b"Nats-TTL: 1s\r\n", "put"),
        (b"KV-Operation: DEL\r\n", "delete"),
        (b"KV-Operation: PURGE\r\nNats-Rollup: sub\r\n", "delete"),
        (b"Nats-Marker-Reason: MaxAge\r\nNats-TTL: 3s\r\n", "expire"),
        (b"Nats-Marker-Reason: Remove\r\n", "delete"),
        (b"Nats-Marker-Reason: Purge\r\n", "delete"),
    ],
)
def test_marker(fields: bytes, kind: str) -> None:
    """A key-value message is a value, a deletion's notice or an expiry's."""
    assert kind == marker_of(b"NATS/1.0\r\n" + fields + b"\r\n" if fields else b"")


@pytest.mark.parametrize(
    "reply",
    [
        b"$JS.ACK.KV_b.consumer.1.17.5.1700000000000000000.3",
        b"$JS.ACK.domain.account.KV_b.consumer.1.17.5.1700000000000000000.3.token",
        b"$JS.ACK._.account.KV_b.consumer.1.17.5.1700000000000000000.3",
    ],
)
def test_reply(reply: bytes) -> None:
    """Both forms of the acknowledgement subject are read."""
    assert Place(b"consumer", 1, 17, 5, 1_700_000_000_000_000_000, 3) == read_reply(reply)


@pytest.mark.parametrize("reply", [b"", b"_INBOX.x.y", b"$JS.ACK.a.b", b"$JS.ACK.a.b.c.d.e.f.g"])
def test_no_reply(reply: bytes) -> None:
    """What is no acknowledgement subject is refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - whichever part of it was wrong
        read_reply(reply)


@given(st.binary(max_size=80) | st.lists(st.binary(max_size=9), max_size=14).map(b".".join))
def test_any_reply(reply: bytes) -> None:
    """Whatever a stranger's reply subject is, it is read or refused, and nothing else."""
    for each in (reply, b"$JS.ACK." + reply):
        with suppress(ValueError):
            place = read_reply(each)
            assert each.startswith(b"$JS.ACK.")
            assert place.consumer in each
