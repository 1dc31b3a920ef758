"""A stored event, as a handler is given it.

Its fields have the names of CloudEvents 1.0.2 (https://github.com/cloudevents/spec), and
`cloud_event` writes its JSON format.
"""

from __future__ import annotations

import builtins
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from agent99.envelope import key_text, parse_log, split_message
from agent99.errors import BadRequestError, InvalidNameError, UsageError
from agent99.journal import Record

if TYPE_CHECKING:
    from agent99.store import Transaction

SPEC_VERSION: Final = "1.0"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
_is_uuid = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
# The log has one token for a key that was not given and for one that is the id. An id that we made
# is a UUID, which nobody chooses for a key; any other id was chosen, and may be both.


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event as CloudEvents write it: what leaves the log, and what the event bus delivers."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str | None = None
    time: datetime | None = None
    datacontenttype: str | None = None
    """None: JSON."""
    sequence: str | None = None
    """Its place in the log: the extension `sequence`."""
    partitionkey: str | None = None
    """Its key again: the extension `partitionkey`."""
    traceparent: str | None = None
    """The extension `traceparent`."""
    data: msgspec.Raw


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One stored event."""

    id: str
    """Names it: what comes a second time has the same."""
    source: str
    """The instance, or connection, that appended it."""
    type: str
    """Its topic."""
    subject: str
    """Its key: of one key the events are in order. Empty: it was appended without one, and its id
    is a UUID. Under an id of another form, its key is that id where none was given."""
    time_us: int
    """When it was appended, by its sender's clock, microseconds since the epoch, UTC."""
    data: msgspec.Raw
    """What was appended: a JSON object."""
    traceparent: str = ""
    """W3C Trace Context; empty: it belongs to no trace."""
    sequence: int
    """Its place in the log of the mesh; starts at 1."""
    partition: int
    """0 to 63: its key's."""
    stored_us: int
    """When the server stored it, microseconds since the epoch, UTC."""
    attempt: int = 1
    """How often it was handed to a handler; starts at 1."""
    reader: str = ""
    """Who reads: mesh and group. Empty outside a group."""
    part: int = 0
    epoch: int = 0
    """Of the member's claim, by which the store refuses whoever was taken over from."""

    @property
    def time(self) -> datetime:
        """When it was appended, in UTC."""
        return _EPOCH + timedelta(microseconds=self.time_us)

    def decode(self, kind: builtins.type[T]) -> T:
        """Return what was appended, as a type of yours.

        Raises:
            BadRequestError: it is none; names the path and the rule.
        """
        try:
            return msgspec.json.decode(self.data, type=kind)
        except msgspec.DecodeError as error:
            raise BadRequestError(f"event {self.id} ({self.type}): {error}") from error

    def is_new(self, transaction: Transaction) -> bool:
        """Tell, in a store's transaction, whether this event has its effect there yet.

        Write the effect in the same transaction if it is new: then it takes place once, however
        often the event comes, and whoever owned its partition before. It is remembered by its id
        (`StoreOptions.retention_s`, a week), so that one that was appended twice counts once.

        Raises:
            LeaseLostError: another member owns the partition now. Let it pass: the transaction
                fails, and the group lets go of the partition.
            UsageError: it was not handed out by a group.
            as `Transaction.execute`.
        """
        from agent99.store import advance_position  # noqa: PLC0415 - only where there is a store

        if not self.epoch:
            raise UsageError(f"event {self.id} was not handed out by a group")
        advance_position(transaction, self.reader, self.part, self.epoch, 0)
        return transaction.first_time(self.id, reader=self.reader)

    def as_cloud_event(self) -> CloudEvent:
        """Return it in the form in which it leaves the log."""
        return CloudEvent(
            specversion=SPEC_VERSION,
            id=self.id,
            source=self.source,
            type=self.type,
            subject=self.subject or None,
            time=self.time,
            sequence=str(self.sequence),
            partitionkey=self.subject or None,
            traceparent=self.traceparent or None,
            data=self.data,
        )

    def cloud_event(self) -> bytes:
        """Return it in the JSON format of CloudEvents, with `sequence` and `partitionkey`."""
        return _encode(self.as_cloud_event())


def event_of(
    record: Record, *, attempt: int = 1, reader: str = "", part: int = 0, epoch: int = 0
) -> Event:
    """Return a stored record as an event.

    Raises:
        BadRequestError: it is no event that could be read; names what is wrong.
    """
    header, body = split_message(record.payload)
    try:
        place = parse_log(record.subject)
        key = key_text(place.key)
    except InvalidNameError as error:
        raise BadRequestError(f"record {record.sequence}: {error}") from error
    return Event(
        id=header.event_uuid,
        source=header.from_uuid,
        type=place.topic,
        subject="" if key == header.event_uuid and _is_uuid(key) else key,
        time_us=header.timestamp,
        data=msgspec.Raw(body),
        traceparent=header.traceparent or "",
        sequence=record.sequence,
        partition=place.partition,
        stored_us=record.stored_us,
        attempt=attempt,
        reader=reader,
        part=part,
        epoch=epoch,
    )
