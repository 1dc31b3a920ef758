"""Events in memory: CloudEvents built and encoded, ours and the `cloudevents` package's, in turns.

Both make the JSON format from the same: id, source, type, subject, time and a small dict. Of the
package both interfaces are measured, `core` and the older `v1.http`. What is stored and read back
is decoded by `event_of`. Prints one JSON object: lists of events per second, one per round.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
from _bench import is_installed
from _order import ORDER

from agent99.envelope import (
    Header,
    Subjects,
    encode_body,
    encode_message,
    parse_key,
    parse_topic,
)
from agent99.groups import CloudEvent, event_of
from agent99.journal import Record

ID = "0b3c1f52-7d7e-4d0a-9a59-2b1f0f6a9e11"
SOURCE = "4f1c9a52-7d7e-4d0a-9a59-2b1f0f6a9e12"
TYPE = "order.placed"
SUBJECT = "customer-7"
TIME = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
TIME_TEXT = "2026-03-01T12:00:00.123456Z"
DATA = {"order": "0b3c1f52-0001", "total": 124.72, "items": 3, "is_paid": True}
Work = Callable[[], object]
"""What is done for one event."""

_encode = msgspec.json.Encoder().encode


def ours() -> bytes:
    """Build and encode by agent99."""
    return _encode(
        CloudEvent(
            specversion="1.0",
            id=ID,
            source=SOURCE,
            type=TYPE,
            subject=SUBJECT,
            time=TIME,
            data=msgspec.Raw(_encode(DATA)),
        )
    )


def core() -> Work:
    """Return what builds and encodes by the package's interface of today."""
    from cloudevents.core.formats.json import JSONFormat  # noqa: PLC0415 - may be absent
    from cloudevents.core.v1.event import CloudEvent as Theirs  # noqa: PLC0415

    write = JSONFormat().write

    def build() -> bytes:
        attributes = {
            "specversion": "1.0",
            "id": ID,
            "source": SOURCE,
            "type": TYPE,
            "subject": SUBJECT,
            "time": TIME,
        }
        return write(Theirs(attributes, DATA))

    return build


def v1() -> Work:
    """Return what builds and encodes by the package's older interface."""
    from cloudevents.v1.conversion import to_json  # noqa: PLC0415 - may be absent
    from cloudevents.v1.http import CloudEvent as Theirs  # noqa: PLC0415

    def build() -> bytes:
        attributes = {
            "specversion": "1.0",
            "id": ID,
            "source": SOURCE,
            "type": TYPE,
            "subject": SUBJECT,
            "time": TIME_TEXT,
        }
        return to_json(Theirs(attributes, DATA))

    return build


def stored() -> Work:
    """Return what decodes a stored event, as readers are given it."""
    topic, key = parse_topic(TYPE), parse_key(SUBJECT)
    header = Header(
        type="event",
        from_uuid=SOURCE,
        to_uuid=topic,
        event_uuid=ID,
        timestamp=1_772_000_000_000_000,
    )
    payload = encode_message(header, encode_body(ORDER))
    record = Record(Subjects("bench", "bench").log(topic, key), 1, payload, 1_772_000_000_000_001)
    return lambda: event_of(record)


def check(made: Any, other: Any) -> None:
    """See to it that both made the same event.

    Raises:
        SystemExit: they differ.
    """
    mine, theirs = msgspec.json.decode(made), msgspec.json.decode(other)
    if mine != {name: value for name, value in theirs.items() if value is not None}:
        raise SystemExit(f"the events differ: {mine}, {theirs}")


def per_s(work: Work, count: int) -> float:
    """Return how many events of so many it does in a second."""
    began = time.perf_counter()
    for _ in range(count):
        work()
    return count / (time.perf_counter() - began)


def main() -> None:
    """Measure; the arguments are rounds, and events for each figure."""
    rounds, count = int(sys.argv[1]), int(sys.argv[2])
    works: dict[str, Work] = {"ours": ours, "stored": stored()}
    if is_installed("cloudevents"):
        works |= {"core": core(), "v1": v1()}
        check(ours(), works["core"]())
        check(ours(), works["v1"]())
    for work in works.values():
        per_s(work, count // 10)
    figures: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            figures[name].append(per_s(work, count))
    print(msgspec.json.encode(figures).decode())


if __name__ == "__main__":
    main()
