"""What may become of the generations of a projection: each move is one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from agent99.errors import LogIncompleteError, UsageError
from agent99.groups import reader_name
from agent99.projections import _book as book_
from agent99.projections._book import Book, Generation
from agent99.projections._catch_up import Positions, Settled, has_caught_up
from agent99.projections._options import State
from agent99.projections._projection import Definition
from agent99.projections._tables import Names

if TYPE_CHECKING:
    from agent99.store import Transaction

HOLDS_APART: Final = 10
"""A hold that was not enough is followed by so many times its length without one."""


class Moment(NamedTuple):
    """What a move that makes a generation has to know of the world."""

    mesh: str
    group: str
    """A name for its group, used by nobody."""
    first: int
    """The first place that the log holds."""
    now_us: int


def open_projection(
    transaction: Transaction, definition: Definition, moment: Moment, *, allow_partial: bool
) -> Book:
    """Have a generation of the code's version: the first one, or one that is built.

    Raises:
        LogIncompleteError: the log does not hold any more what the live one has counted.
        UsageError: the database is of a newer version, or of another mesh.
        as `Transaction.execute`.
    """
    book_.set_up(transaction)
    name, version = definition.name, definition.version
    book_.own(transaction, name)
    book = book_.find(transaction, name)
    if book is None:
        empty = book_.begin(transaction, name, moment.mesh, version)
        _make(transaction, definition, empty, moment, "live", may_be_partial=False)
        return book_.load(transaction, name)
    book_.check_mesh(book, name, moment.mesh)
    if book.live.version > version:
        message = f"projection {name!r} is at version {book.live.version}, the code at {version}"
        raise UsageError(message)
    if book.live.version < version:
        return _build(transaction, definition, book, moment, allow_partial=allow_partial)
    return book


def start_rebuild(
    transaction: Transaction, definition: Definition, moment: Moment, *, allow_partial: bool
) -> int:
    """Have a generation that is built from the first event, and return its number.

    One that is built already, by this version or a newer one, is the one.

    Raises:
        as `open_projection`.
    """
    name = definition.name
    book_.own(transaction, name)
    book = book_.load(transaction, name)
    if book.live.version > definition.version:
        message = f"projection {name!r} is at version {book.live.version}: this code is older"
        raise UsageError(message)
    building = _build(transaction, definition, book, moment, allow_partial=allow_partial).building
    assert building is not None
    return building.generation


def positions_of(transaction: Transaction, mesh: str, generation: Generation) -> Positions:
    """Return how far a generation is, by partition."""
    from agent99.store import read_positions  # noqa: PLC0415 - loads SQLAlchemy

    return read_positions(transaction, reader_name(mesh, generation.group))


def switch(
    transaction: Transaction, name: str, generation: int, settled: Settled, now_us: int
) -> bool:
    """Have a generation read from now on, if it has everything that its readers saw.

    Returns:
        Whether it is read now.
    """
    book_.own(transaction, name)
    book = book_.load(transaction, name)
    building, live = book.building, book.live
    if building is None or building.generation != generation:
        return book.pointer >= generation
    new = positions_of(transaction, book.mesh, building)
    if not has_caught_up(new, positions_of(transaction, book.mesh, live), settled):
        return False
    book_.point(transaction, name, live.generation, building)
    book_.move(transaction, name, building.generation, "live", now_us)
    book_.move(transaction, name, live.generation, "retired", now_us)
    return True


def hold(transaction: Transaction, name: str, generation: int, now_us: int, hold_us: int) -> None:
    """Have the live generation wait for the one that is built, unless it just did so in vain."""
    book_.own(transaction, name)
    book = book_.load(transaction, name)
    building, live = book.building, book.live
    is_its = building is not None and building.generation == generation
    if is_its and may_hold(live, now_us, hold_us):
        book_.hold(transaction, name, live.generation, now_us + hold_us)


def may_hold(live: Generation, now_us: int, hold_us: int) -> bool:
    """Tell whether the last hold of a generation is long enough ago for another one."""
    return now_us > live.held_until_us + HOLDS_APART * hold_us


def see(transaction: Transaction, name: str, generation: int, first: int, seen: int) -> bool:
    """Note up to where a generation has everything; see `_book.see`."""
    book_.share(transaction, name)
    return book_.see(transaction, name, generation, first, seen)


def fail(transaction: Transaction, name: str, generation: int, now_us: int, lost: int) -> None:
    """Give a generation up that is built: the log has lost what it may not have read.

    Args:
        lost: The first place that the log still holds.
    """
    book_.own(transaction, name)
    building = book_.load(transaction, name).building
    if building is not None and building.generation == generation:
        book_.move(transaction, name, generation, "failed", now_us, lost)


def drop(transaction: Transaction, name: str, generation: int) -> bool:
    """Drop the tables of a generation that is neither read nor built, and forget it.

    Returns:
        Whether it was there, and is not any more.
    """
    book_.own(transaction, name)
    found = book_.one(transaction, name, generation)
    if found is None or found.is_at_work:
        return False
    names = Names(name, generation, found.tables)
    for table in found.tables:
        transaction.execute(f"DROP TABLE IF EXISTS {names.of(table)}")
    book_.forget(transaction, name, generation)
    return True


def missing(live: Generation, first: int) -> LogIncompleteError | None:
    """Return what is wrong if the log does not hold all that a generation has counted.

    Args:
        live: The generation that another one is to follow.
        first: The first place that the log holds.
    """
    if live.first_sequence is None or first <= live.first_sequence:
        return None
    return LogIncompleteError(live.first_sequence, first)


def _build(
    transaction: Transaction,
    definition: Definition,
    book: Book,
    moment: Moment,
    *,
    allow_partial: bool,
) -> Book:
    building = book.building
    if building is not None and building.version >= definition.version:
        return book
    error = missing(book.live, moment.first)
    if error is not None and not allow_partial:
        raise error
    if building is not None:  # of a version that nobody waits for any more
        book_.move(transaction, definition.name, building.generation, "retired", moment.now_us)
    _make(transaction, definition, book, moment, "building", may_be_partial=allow_partial)
    return book_.load(transaction, definition.name)


def _make(
    transaction: Transaction,
    definition: Definition,
    book: Book,
    moment: Moment,
    state: State,
    *,
    may_be_partial: bool,
) -> None:
    """Make the tables of a generation, and note it."""
    number = book.count + 1
    names = definition.names(number)
    for statement in definition.statements:
        transaction.execute(names.sql(statement))
    generation = Generation(
        generation=number,
        version=definition.version,
        state=state,
        group=moment.group.format(number),
        topics=definition.topics,
        tables=definition.tables,
        may_be_partial=may_be_partial,
        first_sequence=None,
        held_until_us=0,
        lost_sequence=None,
        changed_us=moment.now_us,
        seen_sequence=moment.first - 1,
    )
    book_.add(transaction, definition.name, generation)
