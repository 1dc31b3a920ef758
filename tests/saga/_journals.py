"""Journals of sagas that no agent runs: what an operator looks at, written by a test."""

from __future__ import annotations

from uuid import NAMESPACE_DNS, uuid5

import msgspec

from agent99 import Mesh
from agent99.envelope import Name
from agent99.saga._markers import Marker, Markers
from agent99.saga._records import (
    Error,
    Finished,
    Intent,
    Record,
    Result,
    Started,
    StepId,
    Stuck,
    encode_record,
)

OWNER = "3f2a91c0-0000-4000-8000-000000000000"
SOLD_OUT = Error("SOLD_OUT", "sold out")


def id_of(number: int) -> str:
    """Return the id of a test's saga."""
    return str(uuid5(NAMESPACE_DNS, f"saga {number}"))


def started(at_us: int = 1) -> Started:
    """Return a beginning."""
    return Started(
        operation="book",
        version=1,
        owner=OWNER,
        fingerprint="f",
        request=msgspec.Raw(b'{"to":"Rome"}'),
        event_id="e",
        key="k",
        at_us=at_us,
    )


def intent(name: str, at_us: int = 2, *, is_pivot: bool = False) -> Intent:
    """Return the intent of a step that can be undone."""
    return Intent(
        step=StepId(name), arguments=0, has_undo=not is_pivot, is_pivot=is_pivot, at_us=at_us
    )


def result(name: str, value: bytes = b'{"n":1}', at_us: int = 3) -> Result:
    """Return a step's result."""
    return Result(step=StepId(name), value=msgspec.Raw(value), at_us=at_us)


def stuck(name: str | None = None, at_us: int = 8) -> Stuck:
    """Return that it is stuck."""
    step = None if name is None else StepId(name)
    return Stuck(error=SOLD_OUT, step=step, at_us=at_us)


def done(at_us: int = 9) -> Finished:
    """Return a good end."""
    return Finished(outcome="done", answer=msgspec.Raw(b'{"result":7}'), is_value=True, at_us=at_us)


class Hand:
    """Writes journals and markers into a mesh, as instances of an agent would."""

    def __init__(self, mesh: Mesh) -> None:
        self._link = mesh.link
        self.markers = Markers(mesh.link.journal, mesh.link.subjects.mesh, replicas=1)

    async def write(self, number: int, *records: Record | bytes, agent: str = "trips") -> str:
        """Add to a saga's journal; what is no record is stored as it is. Returns the saga's id."""
        await self._link.durable.streams.ensure_sagas()
        subject = self._link.subjects.saga(Name(agent), id_of(number))
        for record in records:
            data = record if isinstance(record, bytes) else encode_record(record)
            await self._link.journal.append(subject, data)
        return id_of(number)

    async def mark(self, number: int, *, started_us: int = 1, agent: str = "trips") -> None:
        """Say that a saga is open."""
        marker = Marker(owner=OWNER, operation="book", version=1, started_us=started_us)
        await self.markers.put(Name(agent), id_of(number), marker)

    async def open(self, number: int, *records: Record | bytes, agent: str = "trips") -> str:
        """Write a saga that has not ended; returns its id."""
        await self.mark(number, started_us=number, agent=agent)
        return await self.write(number, started(number), *records, agent=agent)

    async def flag(self, saga_id: str) -> str:
        """Return what its marker asks for."""
        found = {each.saga_id: each.marker.flag for each in await self.markers.every()}
        return found[saga_id]
