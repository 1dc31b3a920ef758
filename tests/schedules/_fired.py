"""What was fired, as the log has it; and times relative to now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.envelope import decode_user_headers, key_text, parse_log, split_message
from agent99.errors import StreamNotFoundError


class Fired(NamedTuple):
    """One event of the log."""

    event_id: str
    topic: str
    key: str
    body: dict[str, Any]
    schedule: str
    due_us: int
    stored_us: int
    from_uuid: str


async def fired(mesh: Mesh) -> list[Fired]:
    """Return every event that the log of a mesh has."""
    link, found = mesh.link, list[Fired]()
    try:
        async for record in link.journal.read(link.durable.streams.log):
            header, body = split_message(record.payload)
            told, place = decode_user_headers(record.payload), parse_log(record.subject)
            event = Fired(
                header.event_uuid,
                place.topic,
                key_text(place.key),
                msgspec.json.decode(body),
                told.get("schedule", ""),
                int(told.get("due_us", 0)),
                record.stored_us,
                header.from_uuid,
            )
            found.append(event)
    except StreamNotFoundError:
        return []
    return found


async def wait_fired(mesh: Mesh, count: int, *, timeout_s: float = 10.0) -> list[Fired]:
    """Wait until the log has so many events, and return them."""
    clock = SystemClock()
    until_s = clock.monotonic_s() + timeout_s
    while len(found := await fired(mesh)) < count:
        assert clock.monotonic_s() < until_s, f"{len(found)} of {count} events: {found}"
        await clock.sleep(0.02)
    return found


def moment(in_s: float) -> datetime:
    """Return the time in so many seconds."""
    return datetime.now(UTC) + timedelta(seconds=in_s)
