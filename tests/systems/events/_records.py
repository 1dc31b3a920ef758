"""Stored events, as a group is given them."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from agent99.envelope import Header, Subjects, Topic, encode_message, parse_key, partition_of
from agent99.groups import Batch
from agent99.journal import Record

READER = "m/audit"
_SUBJECTS = Subjects("m", "me")


def record(
    sequence: int, *, topic: str = "order.placed", key: str = "k", event_id: str = ""
) -> Record:
    """Return a stored event; its stored time is its sequence in seconds."""
    header = Header(
        type="event",
        from_uuid=f"by-{key}",
        to_uuid=topic,
        event_uuid=event_id or f"e{sequence}",
        timestamp=sequence * 1_000_000 - 5,
        traceparent=f"00-{sequence:032x}-{1:016x}-01",
    )
    payload = encode_message(header, msgspec.json.encode({"number": sequence}))
    subject = _SUBJECTS.log(Topic(topic), parse_key(key))
    return Record(subject, sequence, payload, sequence * 1_000_000)


def batches(records: Iterable[Record], epoch: int = 1) -> list[Batch]:
    """Return a batch for each run of records of one partition."""
    found: list[Batch] = []
    for one in records:
        partition = int(one.subject.split(".")[3])
        if found and found[-1].partition == partition:
            found[-1] = msgspec.structs.replace(found[-1], records=(*found[-1].records, one))
        else:
            batch = Batch(
                group="audit", reader=READER, partition=partition, epoch=epoch, records=(one,)
            )
            found.append(batch)
    return found


def other_key(key: str) -> str:
    """Return a key of another partition."""
    return next(
        each
        for each in (f"other-{number}" for number in range(100))
        if partition_of(parse_key(each)) != partition_of(parse_key(key))
    )
