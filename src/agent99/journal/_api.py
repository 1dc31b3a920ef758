"""JetStream's JSON, as far as it is spoken here, and what its error codes mean. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import msgspec

from agent99.errors import (
    Agent99Error,
    JournalError,
    RemoteProtocolError,
    StreamFullError,
    StreamNotFoundError,
    WrongSequenceError,
)

API = b"$JS.API."

CONSUMER_NAME_IN_USE = 10148
CONSUMER_NOT_FOUND = 10014
MESSAGE_TOO_LARGE = 10054
STREAM_NAME_IN_USE = 10058
STREAM_NOT_FOUND = 10059
WRONG_SEQUENCE = frozenset({10071, 10164})

_FULL = frozenset({
    10023,  # insufficient resources
    10028,  # memory resources exceeded
    10047,  # storage resources exceeded
    10077,  # maximum messages or bytes of the stream exceeded
    10122,  # the account's limit of stream bytes
})  # fmt: skip
NOT_READY = frozenset({
    10004,  # cluster: no peer fits yet
    10008,  # JetStream temporarily unavailable
    10009,  # not the cluster's leader
    10039,  # not enabled for the account: so it is while a server starts
    10076,  # not enabled: likewise
    10118,  # stream offline
    10119,  # consumer offline
    10158,  # the same message id is just being stored
})  # fmt: skip
"""Codes that may be another a moment later: nothing was done."""

_NO_SPACE = "no space left on device"

_sequence_of = re.compile(r"wrong last sequence: (\d+)").search
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ApiError(msgspec.Struct, frozen=True):
    """The server's no."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class PublishAck(msgspec.Struct, frozen=True, gc=False):
    """The receipt of a stored message. Look at `error` first: `seq` is 0 beside one."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: ApiError | None = None


class StreamCounts(msgspec.Struct, frozen=True):
    """What a stream holds."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0


class Peer(msgspec.Struct, frozen=True):
    """A server that has a copy and does not lead."""

    name: str = ""
    current: bool = False
    offline: bool = False


class Cluster(msgspec.Struct, frozen=True):
    """Who has the copies."""

    leader: str = ""
    replicas: tuple[Peer, ...] | None = None


class StreamInfo(msgspec.Struct, frozen=True):
    """A stream's configuration, as the server has it, and state."""

    config: dict[str, Any] = {}
    created: str = ""
    ts: str = ""
    """When the server said so, by its own clock."""
    state: StreamCounts = StreamCounts()
    cluster: Cluster | None = None
    error: ApiError | None = None


class StreamList(msgspec.Struct, frozen=True):
    """One page of streams."""

    total: int = 0
    streams: tuple[StreamInfo, ...] | None = None
    missing: tuple[str, ...] | None = None
    """Those whose servers did not answer."""
    error: ApiError | None = None


class StreamNames(msgspec.Struct, frozen=True):
    """Which streams store a subject."""

    streams: tuple[str, ...] | None = None
    error: ApiError | None = None


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as the stream's leader has it."""

    subject: str
    seq: int
    data: bytes = b""
    hdrs: bytes = b""
    time: str = ""
    """When it was stored, RFC 3339."""


class MessageAnswer(msgspec.Struct, frozen=True):
    """The answer to a look-up by the leader."""

    message: StoredMessage | None = None
    error: ApiError | None = None


class Place(msgspec.Struct, frozen=True):
    """Where a consumer is in its stream."""

    consumer_seq: int = 0
    """How many deliveries it takes to come there."""
    stream_seq: int = 0


class ConsumerInfo(msgspec.Struct, frozen=True):
    """A consumer's configuration, as the server has it, and state."""

    stream_name: str = ""
    name: str = ""
    config: dict[str, Any] = {}
    delivered: Place = Place()
    ack_floor: Place = Place()
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_pending: int = 0
    cluster: Cluster | None = None
    error: ApiError | None = None


class ConsumerList(msgspec.Struct, frozen=True):
    """One page of consumers."""

    total: int = 0
    consumers: tuple[ConsumerInfo, ...] | None = None
    missing: tuple[str, ...] | None = None
    error: ApiError | None = None


class Done(msgspec.Struct, frozen=True):
    """An answer that says no more than that."""

    success: bool = False
    error: ApiError | None = None


class Answer(Protocol):
    """What every answer has."""

    @property
    def error(self) -> ApiError | None:
        """The server's no, or None."""
        ...


AnswerT = TypeVar("AnswerT", bound=Answer)


def decode(payload: bytes, kind: type[AnswerT]) -> AnswerT:
    """Read an answer.

    Raises:
        RemoteProtocolError: it is none of JetStream's.
    """
    try:
        return msgspec.json.decode(payload, type=kind)
    except msgspec.DecodeError as error:
        raise RemoteProtocolError(f"no answer of JetStream's: {error}") from error


def error_of(error: ApiError, what: str, expected: int | None = None) -> Agent99Error:
    """Return what the server's error means here.

    Args:
        what: The stream or subject that was asked for.
        expected: The sequence that the caller expected, if it did.
    """
    code = error.err_code
    if code in WRONG_SEQUENCE:
        found = _sequence_of(error.description)
        return WrongSequenceError(what, expected or 0, int(found[1]) if found else None)
    message = f"{what}: {error.description}"
    if code in _FULL or _NO_SPACE in error.description:
        return StreamFullError(message, server_code=code)
    if code == STREAM_NOT_FOUND:
        return StreamNotFoundError(message, server_code=code)
    return JournalError(message, server_code=code)


def nanoseconds(seconds: float) -> int:
    """Return a duration as the API takes it."""
    return round(seconds * 1e9)


def microseconds(timestamp: bytes) -> int:
    """Return the microseconds since the epoch of an RFC 3339 time in UTC, as the server writes it.

    Raises:
        RemoteProtocolError: it is none.
    """
    try:
        return _second_us(timestamp[:19]) + int(timestamp[20:26].rstrip(b"Z").ljust(6, b"0"))
    except ValueError:
        raise RemoteProtocolError(f"no time: {timestamp[:40]!r}") from None


def rfc3339(time_us: int) -> str:
    """Return microseconds since the epoch as the API takes a time."""
    return (_EPOCH + timedelta(microseconds=time_us)).isoformat()


@lru_cache(maxsize=64)
def _second_us(second: bytes) -> int:
    """Return the microseconds of a whole second; records come many to a second."""
    return (datetime.fromisoformat(f"{second.decode()}+00:00") - _EPOCH) // _MICROSECOND
