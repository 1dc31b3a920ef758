"""What a projection says of its state."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent99.envelope import PARTITIONS
from agent99.projections import _book as book_
from agent99.projections._book import Book, Generation
from agent99.projections._catch_up import Positions, progress
from agent99.projections._moves import positions_of
from agent99.projections._options import EventFailure, GenerationStatus, ProjectionStatus
from agent99.projections._parts import Parts

if TYPE_CHECKING:
    from agent99.journal import StreamState
    from agent99.store import Transaction

FAILURES_MAX: Final = 20
_FAILURES: Final = (
    "SELECT sequence, part, event_id, type, error, is_set_aside FROM agent99_projection_failure"
    " WHERE name = :name AND generation = :generation AND is_set_aside = :aside"
    " ORDER BY sequence DESC LIMIT :rows"
)
_ASIDE: Final = (
    "SELECT count(*) FROM agent99_projection_failure"
    " WHERE name = :name AND generation = :generation AND is_set_aside = 1"
)


class _Seen(NamedTuple):
    """A generation as the database has it, at one moment."""

    generation: Generation
    positions: Positions
    set_aside: int
    failures: tuple[EventFailure, ...]


async def status_of(parts: Parts, name: str) -> ProjectionStatus:
    """Return what the database and the log say of a projection.

    Raises:
        as `Projector.status`.
    """
    book, seen = await parts.store.read(partial(_see, name=name))
    log = await parts.log()
    found = {each.generation.generation: await _generation(parts, log, each) for each in seen}
    building = book.building
    at_work = [book.pointer, *([] if building is None else [building.generation])]
    return ProjectionStatus(
        name=name,
        live=found[book.pointer],
        building=None if building is None else found[building.generation],
        others=tuple(each for number, each in found.items() if number not in at_work),
    )


def _see(transaction: Transaction, name: str) -> tuple[Book, list[_Seen]]:
    book = book_.load(transaction, name)
    return book, [_look(transaction, name, book, each) for each in book.generations]


def _look(transaction: Transaction, name: str, book: Book, generation: Generation) -> _Seen:
    positions = positions_of(transaction, book.mesh, generation)
    which: dict[str, Any] = {"name": name, "generation": generation.generation}

    def failures(aside: int) -> list[EventFailure]:
        rows = transaction.execute(_FAILURES, which | {"aside": aside, "rows": FAILURES_MAX})
        return [
            _failure(row)
            for row in rows
            if aside or positions.get(row.part, (0, 0))[1] < row.sequence  # else it has passed
        ]

    newest = tuple([*failures(0), *failures(1)][:FAILURES_MAX])
    return _Seen(generation, positions, transaction.execute(_ASIDE, which).scalar() or 0, newest)


async def _generation(parts: Parts, log: StreamState, seen: _Seen) -> GenerationStatus:
    generation, backlogs = seen.generation, dict[int, int]()
    if generation.is_at_work:
        backlogs = await parts.backlogs(generation.topics, seen.positions, range(PARTITIONS))
    first, last = log.first_sequence, log.last_sequence
    return GenerationStatus(
        generation=generation.generation,
        version=generation.version,
        state=generation.state,
        backlog=sum(backlogs.values()),
        progress=progress(seen.positions, backlogs, first, last),
        first_sequence=generation.first_sequence,
        gap=_gap(generation),
        set_aside=seen.set_aside,
        failures=seen.failures,
    )


def _gap(generation: Generation) -> tuple[int, int] | None:
    if generation.gap_from is None or generation.gap_to is None:
        return None
    return generation.gap_from, generation.gap_to


def _failure(row: Any) -> EventFailure:
    return EventFailure(
        sequence=row.sequence,
        event_id=row.event_id,
        type=row.type,
        error=row.error,
        is_set_aside=bool(row.is_set_aside),
    )
