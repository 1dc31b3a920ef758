"""What could not be done: kept with the reason, shown, done again, or given up for good.

A record is one line of JSON, then the original message, byte for byte. It stands in the stream of
its capability, under the id of the copy that it was made of, so that who repeats the move makes no
second one.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Literal

import msgspec

from agent99.clock import Clock
from agent99.envelope import Header, Key, Name, Subjects, Topic, parse_log, parse_work
from agent99.errors import (
    InvalidNameError,
    JournalError,
    PayloadTooLargeError,
    RemoteProtocolError,
    UsageError,
    text_of,
)
from agent99.journal import Journal, Record, Stored, matches
from agent99.observe import trace_id_of
from agent99.work._attempt import Outcome
from agent99.work._jobs import Jobs
from agent99.work._streams import Streams
from agent99.work._verdict import Reason

TRACEBACK_BYTES_MAX = 7_000
MESSAGE_BYTES_MAX = 2_000
CODE_BYTES_MAX = 500
"""As they are written: with what else a line holds it is less than the 16 KiB that are left free
beside a body."""
SHORT_BYTES_MAX = 200
"""Of the message, beside a header so large that no more fits; then there is no traceback."""

HEARS = Name("hears")
"""The operation under which the instances of a broadcast say that they are there."""

Reader = Literal["", "group", "broadcast"]
"""Who was given an event, and is given it again: a group, all who share the name of a broadcast, or
(empty) an agent, by its operation."""

_log = logging.getLogger("agent99.work")
_encode = msgspec.json.Encoder().encode


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """One message in quarantine."""

    id: str
    """The application's: of the post or the event; empty where it could not be read."""
    capability: str
    """That it was posted to; of an event, the agent that followed it."""
    operation: str
    """Of an event, the method that followed it."""
    topic: str = ""
    """Of an event."""
    reason: Reason
    code: str
    """Of the last error."""
    message: str
    """Of the last error, for people."""
    traceback: str = ""
    """Of the last error, where the handler broke; the end of it, if it is long."""
    attempts: int
    first_us: int
    """When it was stored, microseconds since the epoch, UTC."""
    last_us: int
    """When it was moved here."""
    trace_id: str = ""
    key: str = ""
    """Of an event that a reader was given, as a token of a subject; it goes back to that reader."""
    reader: Reader = ""
    stream: str
    """Where it stood."""
    stream_sequence: int
    part: str = ""
    """Which part of the message this is, where the rest of it was handled; else empty."""
    sequence: int = 0
    """Its number in this quarantine; starts at 1."""
    body: bytes = b""
    """The original message."""


class Place(msgspec.Struct, frozen=True):
    """Where a message stood, and for whom."""

    stream: str
    capability: Name
    """Or the agent, or the group."""
    operation: Name
    subject: str = ""
    """Of an event that a reader was given; else empty."""
    reader: Reader = ""
    part: str = ""
    """Which part of the message is kept, told apart from its others; empty: the whole."""


IsHeard = Callable[[bytes], Awaitable[bool]]
"""Tells whether anybody listens on a subject."""


class _Charter(msgspec.Struct, frozen=True):
    """What a group says of itself in its bucket, as far as it matters here."""

    topics: tuple[str, ...] = ()


class Quarantine:
    """The quarantine of one mesh."""

    def __init__(
        self,
        journal: Journal,
        subjects: Subjects,
        streams: Streams,
        *,
        clock: Clock,
        is_heard: IsHeard,
    ) -> None:
        self._is_heard = is_heard
        self._journal = journal
        self._subjects = subjects
        self._streams = streams
        self._jobs = Jobs(subjects, streams)
        self._clock = clock

    def __repr__(self) -> str:
        return f"Quarantine({self._streams!r})"

    async def bury(
        self,
        record: Record,
        header: Header | None,
        outcome: Outcome,
        place: Place,
        *,
        reason: Reason,
        attempts: int,
    ) -> None:
        """Keep a message. Only then may its copy in the stream be given up.

        Args:
            record: As it is stored.
            header: None: it could not be read.
            outcome: Of the last attempt, which failed.

        Raises:
            as `Log.append`.
        """
        assert outcome.error is not None, "what went well is not buried"
        is_event = header is not None and header.type == "event"
        topic = header.to_uuid if header is not None and is_event else ""
        key = ""
        if place.subject:
            with suppress(InvalidNameError):  # then nobody can give it back to anybody
                of = parse_log(place.subject)
                key, topic = of.key, of.topic
        kept = Quarantined(
            id=header.event_uuid if header is not None else "",
            capability=place.capability,
            operation=place.operation,
            topic=topic,
            key=key,
            reader=place.reader,
            reason=reason,
            code=outcome.error.code,
            message=outcome.error.message,
            traceback=outcome.traceback,
            attempts=attempts,
            first_us=record.stored_us,
            last_us=self._clock.wall_us(),
            trace_id=trace_id_of(header.event_uuid, header.traceparent) if header else "",
            stream=place.stream,
            stream_sequence=record.sequence,
            part=place.part,
            body=record.payload,
        )
        try:
            await self._keep(kept, _write(kept))
        except PayloadTooLargeError:
            await self._keep(kept, _write(kept, SHORT_BYTES_MAX, 0))
        text = "%s %s: moved to quarantine (%s): %s"
        _log.error(text, place.capability, place.operation, reason, kept.message)

    async def _keep(self, record: Quarantined, message: bytes) -> None:
        """Store a record, unless it is there already."""
        capability, operation = Name(record.capability), Name(record.operation)
        stream, message_id = self._streams.dead(capability), _message_id_of(record)
        append = partial(
            self._streams.append,
            stream,
            self._subjects.dead(capability, operation),
            message,
            ensure=partial(self._streams.ensure_dead, capability),
        )
        while True:
            stored = await append(message_id=message_id)
            if not stored.duplicate or await self._journal.get(stream, stored.sequence):
                return
            # Somebody took out the one that this is a repeat of: it must be kept anew.
            message_id = f"{_message_id_of(record)}:after:{stored.sequence}"

    async def records(
        self, where: Callable[[Quarantined], bool] | None = None
    ) -> AsyncIterator[Quarantined]:
        """Yield what is in quarantine now, capability by capability, the oldest first.

        Raises:
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        for stream in await self._journal.streams(self._streams.dead_prefix):
            async for stored in self._journal.read(stream.config.name):
                record = _read(stored)
                if where is None or where(record):
                    yield record

    async def get(self, capability: Name, sequence: int) -> Quarantined | None:
        """Return one by its number, or None.

        Raises:
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        stored = await self._journal.get(self._streams.dead(capability), sequence)
        return _read(stored) if stored is not None else None

    async def redrive(self, record: Quarantined) -> None:
        """Store the original message once more, as work for the same operation, then let go of it.

        Delivery: at least once: killed in between, it is in both places. The application's id stays
            the same; a handler with effects asks its store whether it has seen it.

        Raises:
            UsageError: nobody would read it: its group is no more, or does not read its topic any
                more, no instance of its broadcast is there, or it has no key by which it could be
                given back. It stays where it is.
            PermissionDeniedError: nobody may ask whether an instance of the broadcast is there.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        await self._check_reader(record)
        # A new id, since the old one would be taken for a repeat of the old message; and one for
        # each record, so that of several who redrive it at once one does.
        message_id = f"redriven:{record.capability}:{record.sequence}:{record.last_us}"
        stored = await self._store_again(record, message_id)
        if stored.duplicate:
            raise JournalError(f"{record.id} was stored anew already, less than two minutes ago")
        await self.drop(record)

    async def _check_reader(self, record: Quarantined) -> None:
        """Refuse to store an event that nobody would read.

        Raises:
            UsageError
        """
        if record.reader and not record.key:
            raise UsageError(
                f"event {record.stream_sequence} has no key that can be read: it cannot be given"
                f" back to {record.reader} {record.capability!r}; look at it, and drop it"
            )
        if record.reader == "broadcast" and not await self._is_heard(
            self._subjects.named(Name(record.capability), HEARS)
        ):
            raise UsageError(
                f"no instance of broadcast {record.capability!r} is there just now, and nobody"
                " keeps a place for it: redrive the record when one is, or drop it"
            )
        if record.reader == "group":
            bucket = await self._journal.bucket(self._streams.groups)
            entry = await bucket.get(f"{record.capability}.charter")
            if entry is None:
                raise UsageError(
                    f"there is no group {record.capability!r} any more, so nobody would read it:"
                    " start the group again, or drop the record"
                )
            topics = msgspec.json.decode(entry.value, type=_Charter).topics
            if not any(matches(pattern, record.topic) for pattern in topics):
                raise UsageError(
                    f"group {record.capability!r} does not read {record.topic!r} any more, but"
                    f" {', '.join(topics)}: start one that does, or drop the record"
                )

    async def _store_again(self, record: Quarantined, message_id: str) -> Stored:
        reader = Name(record.capability)
        if not record.reader:
            operation = Name(record.operation)
            return await self._jobs.post(reader, operation, record.body, message_id=message_id)
        return await self._streams.append(
            self._streams.log,
            self._subjects.again(reader, Topic(record.topic), Key(record.key)),
            record.body,
            message_id=message_id,
            ensure=self._streams.ensure_log,
        )

    async def drop(self, record: Quarantined) -> None:
        """Let go of a message for good.

        Raises:
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        await self._journal.delete(self._streams.dead(Name(record.capability)), record.sequence)


def _message_id_of(record: Quarantined) -> str:
    whole = f"{record.stream}:{record.stream_sequence}"
    return f"{whole}:{record.part}" if record.part else whole


def _write(
    record: Quarantined,
    message_bytes_max: int = MESSAGE_BYTES_MAX,
    traceback_bytes_max: int = TRACEBACK_BYTES_MAX,
) -> bytes:
    short = msgspec.structs.replace(
        record,
        code=_cut(record.code, CODE_BYTES_MAX),
        message=_cut(record.message, message_bytes_max),
        traceback=_cut(record.traceback[::-1], traceback_bytes_max)[::-1],
        body=b"",
    )
    return _encode(short) + b"\n" + record.body


def _cut(text: str, bytes_max: int) -> str:
    """Return the beginning of a text, no more than fits as JSON: a character may take six bytes."""
    text = text_of(text[:bytes_max])
    sizes = range(len(text) + 1)
    return text[
        : bisect_right(sizes, bytes_max, key=lambda size: len(_encode(text[:size])) - 2) - 1
    ]


def _read(stored: Record) -> Quarantined:
    line, _, body = stored.payload.partition(b"\n")
    try:
        record = msgspec.json.decode(line, type=Quarantined)
    except msgspec.DecodeError as error:
        what = parse_work(stored.subject)
        raise RemoteProtocolError(
            f"record {stored.sequence} in quarantine of {what.capability} cannot be read: {error}"
        ) from error
    return msgspec.structs.replace(record, sequence=stored.sequence, body=body)
