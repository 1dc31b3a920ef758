"""Records for the tests of ingestion, and how to read back what is stored of them."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import msgspec

from agent99 import Mesh
from agent99.groups import Event, read_events
from agent99.systems.analytics import Source
from agent99.systems.analytics._columns import ColumnBatch, decode_batch

AT = "2011-03-04T05:06:07Z"


class Line(msgspec.Struct, frozen=True):
    """A line of an invoice."""

    sold_at: datetime
    country: str
    number: int


LINES = Source("lines", Line, time="sold_at", shards=4, shard_by="country", delay_s=60.0)
"""Its delay is so long that single records linger as long as a test wants them to."""
COUNTRIES = ("United Kingdom", "Germany", "France", "EIRE", "Spain")


def line(number: int) -> Line:
    """Return a record that is known by its number."""
    return Line(datetime.fromisoformat(AT), COUNTRIES[number % len(COUNTRIES)], number)


def row(number: int, /, **other: Any) -> dict[str, Any]:
    """Return the same as JSON carries it, perhaps with fields that are not as they should be."""
    plain: dict[str, Any] = msgspec.to_builtins(line(number))
    return plain | other


async def events_of(mesh: Mesh, source: Source[Any] = LINES) -> list[Event]:
    """Return what is stored of a source."""
    return [event async for event in read_events(mesh, source.topic)]


async def batches_of(mesh: Mesh, source: Source[Any] = LINES) -> list[ColumnBatch]:
    """Return the batches that are stored of a source."""
    return [decode_batch(source, event.data) for event in await events_of(mesh, source)]


async def numbers_of(mesh: Mesh) -> Counter[int]:
    """Return how often each record of `LINES` is stored."""
    batches = await batches_of(mesh)
    return Counter(number for batch in batches for number in batch.columns["number"])
