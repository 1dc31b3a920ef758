"""The generations of a projection as the database has them: one row that says which one is read.

    building ──▶ live ──▶ retired ──▶ (its tables are gone)
        └──────▶ failed ─────────────────────┘

Whoever folds events shares a lock, and whoever moves a generation on has it alone: so no effect
comes between what is compared and what is decided by it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.errors import StoreError, UsageError
from agent99.projections._options import State

if TYPE_CHECKING:
    from agent99.store import Transaction

_SETUP_LOCK: Final = 0x61393970  # "a99p"; any number that only this room uses
_TABLES: Final = (
    (
        "CREATE TABLE IF NOT EXISTS agent99_projection (name TEXT PRIMARY KEY, mesh TEXT NOT NULL,"
        " generation BIGINT NOT NULL, version BIGINT NOT NULL, generations BIGINT NOT NULL)"
    ),
    (
        "CREATE TABLE IF NOT EXISTS agent99_projection_generation (name TEXT NOT NULL,"
        " generation BIGINT NOT NULL, version BIGINT NOT NULL, state TEXT NOT NULL,"
        " group_name TEXT NOT NULL, topics TEXT NOT NULL, tables TEXT NOT NULL,"
        " may_be_partial INTEGER NOT NULL, first_sequence BIGINT, held_until_us BIGINT NOT NULL,"
        " lost_sequence BIGINT, seen_sequence BIGINT NOT NULL, gap_from BIGINT, gap_to BIGINT,"
        " changed_us BIGINT NOT NULL, PRIMARY KEY (name, generation))"
    ),
    (
        "CREATE TABLE IF NOT EXISTS agent99_projection_failure (name TEXT NOT NULL,"
        " generation BIGINT NOT NULL, sequence BIGINT NOT NULL, part INTEGER NOT NULL,"
        " event_id TEXT NOT NULL, type TEXT NOT NULL, error TEXT NOT NULL,"
        " is_set_aside INTEGER NOT NULL, PRIMARY KEY (name, generation, sequence))"
    ),
)
_COLUMNS: Final = (
    "generation, version, state, group_name, topics, tables, may_be_partial, first_sequence,"
    " held_until_us, lost_sequence, changed_us, seen_sequence, gap_from, gap_to"
)
_READ: Final = f"SELECT {_COLUMNS} FROM agent99_projection_generation WHERE name = :name"  # noqa: S608 - our names
_POINTER: Final = (
    "SELECT mesh, generation, version, generations FROM agent99_projection WHERE name = :name"
)
_ADD: Final = (
    f"INSERT INTO agent99_projection_generation (name, {_COLUMNS}) VALUES (:name, :generation,"  # noqa: S608 - our names
    " :version, :state, :group_name, :topics, :tables, :may_be_partial, NULL, 0, NULL,"
    " :changed_us, :seen_sequence, NULL, NULL)"
)
_COUNT: Final = "UPDATE agent99_projection SET generations = :generation WHERE name = :name"
_POINT: Final = (
    "UPDATE agent99_projection SET generation = :generation, version = :version"
    " WHERE name = :name AND generation = :before"
)
_BEGIN: Final = (
    "INSERT INTO agent99_projection (name, mesh, generation, version, generations)"
    " VALUES (:name, :mesh, 1, :version, 0)"
)
_MOVE: Final = (
    "UPDATE agent99_projection_generation SET state = :state, changed_us = :now_us,"
    " lost_sequence = :lost WHERE name = :name AND generation = :generation"
)
_HOLD: Final = (
    "UPDATE agent99_projection_generation SET held_until_us = :until_us"
    " WHERE name = :name AND generation = :generation AND state = 'live'"
)
_SEE: Final = (
    "UPDATE agent99_projection_generation SET seen_sequence = :seen, gap_from = :gap_from,"
    " gap_to = :gap_to WHERE name = :name AND generation = :generation"
    " AND seen_sequence < :seen"
)
_FORGET: Final = (
    "DELETE FROM agent99_projection_failure WHERE name = :name AND generation = :generation",
    "DELETE FROM agent99_projection_generation WHERE name = :name AND generation = :generation",
)


class Generation(msgspec.Struct, frozen=True):
    """One build of the tables, as its row has it."""

    generation: int
    version: int
    state: State
    group: str
    """Its group's name: used by no other generation, of this database or of one before it."""
    topics: tuple[str, ...]
    tables: tuple[str, ...]
    """As the projection calls them."""
    may_be_partial: bool
    first_sequence: int | None
    """Of the first event that it was given; None: there was none yet."""
    held_until_us: int
    """Until then it takes in nothing, if it is live."""
    lost_sequence: int | None
    """The first that the log still held when it failed."""
    changed_us: int
    seen_sequence: int
    """Up to there it has counted all that it is to count, as it was last found."""
    gap_from: int | None = None
    """Between these the log has dropped what it may not have counted; None: nothing."""
    gap_to: int | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether events are folded into it."""
        return self.state in {"building", "live"}


class Book(msgspec.Struct, frozen=True):
    """All generations of a projection."""

    mesh: str
    pointer: int
    """The generation that is read."""
    generations: tuple[Generation, ...]
    """In their order."""
    count: int
    """Generations that there ever were: the highest number."""

    @property
    def live(self) -> Generation:
        """The one that is read."""
        return next(each for each in self.generations if each.generation == self.pointer)

    @property
    def building(self) -> Generation | None:
        """The one that is built, if there is one."""
        return next((each for each in self.generations if each.state == "building"), None)


def set_up(transaction: Transaction) -> None:
    """Make the tables of this room, if they are not there."""
    if transaction.dialect == "postgresql":
        # Two that create one table at once: one of them fails. On SQLite there is one writer.
        transaction.execute(f"SELECT pg_advisory_xact_lock({_SETUP_LOCK})")
    for statement in _TABLES:
        transaction.execute(statement)


def share(transaction: Transaction, name: str) -> None:
    """Until this transaction ends, no generation of a projection changes its state."""
    _lock(transaction, name, "pg_advisory_xact_lock_shared")


def own(transaction: Transaction, name: str) -> None:
    """Until this transaction ends, nobody folds into a projection, or moves it on."""
    _lock(transaction, name, "pg_advisory_xact_lock")


def find(transaction: Transaction, name: str) -> Book | None:
    """Return the generations of a projection, or None: the database knows no such one."""
    pointer = transaction.execute(_POINTER, {"name": name}).first()
    if pointer is None:
        return None
    rows = transaction.execute(f"{_READ} ORDER BY generation", {"name": name})
    generations = tuple(generation_of(row) for row in rows)
    return Book(pointer.mesh, pointer.generation, generations, pointer.generations)


def load(transaction: Transaction, name: str) -> Book:
    """Return the generations of a projection.

    Raises:
        StoreError: the database knows no such one.
    """
    book = find(transaction, name)
    if book is None:
        raise StoreError(f"the database has lost its projection {name!r}")
    return book


def one(transaction: Transaction, name: str, generation: int) -> Generation | None:
    """Return one generation of a projection, or None: it is gone."""
    values = {"name": name, "generation": generation}
    row = transaction.execute(f"{_READ} AND generation = :generation", values).first()
    return None if row is None else generation_of(row)


def generation_of(row: Any) -> Generation:
    """Return a row as a generation."""
    fields: list[Any] = list(row)
    fields[4], fields[5] = (tuple(msgspec.json.decode(text)) for text in fields[4:6])
    fields[6] = bool(fields[6])
    return Generation(*fields)


def begin(transaction: Transaction, name: str, mesh: str, version: int) -> Book:
    """Note a projection that the database does not know."""
    transaction.execute(_BEGIN, {"name": name, "mesh": mesh, "version": version})
    return load(transaction, name)


def add(transaction: Transaction, name: str, generation: Generation) -> None:
    """Note a new generation."""
    text = {
        field: msgspec.json.encode(getattr(generation, field)).decode()
        for field in ("topics", "tables")
    }
    values = {
        "name": name,
        "generation": generation.generation,
        "version": generation.version,
        "state": generation.state,
        "group_name": generation.group,
        "may_be_partial": int(generation.may_be_partial),
        "changed_us": generation.changed_us,
        "seen_sequence": generation.seen_sequence,
    }
    transaction.execute(_ADD, values | text)
    transaction.execute(_COUNT, {"name": name, "generation": generation.generation})


def move(
    transaction: Transaction, name: str, generation: int, state: State, now_us: int, lost: int = 0
) -> None:
    """Change the state of a generation."""
    values: dict[str, Any] = {"name": name, "generation": generation, "state": state}
    transaction.execute(_MOVE, values | {"now_us": now_us, "lost": lost or None})


def point(transaction: Transaction, name: str, before: int, after: Generation) -> None:
    """Have another generation read from now on.

    Raises:
        StoreError: the pointer is not where it was.
    """
    values = {"name": name, "before": before, "generation": after.generation}
    if transaction.execute(_POINT, values | {"version": after.version}).changed != 1:
        raise StoreError(f"the pointer of projection {name!r} is not at generation {before}")


def hold(transaction: Transaction, name: str, generation: int, until_us: int) -> None:
    """Have the live generation take in nothing for a while."""
    values = {"name": name, "generation": generation, "until_us": until_us}
    transaction.execute(_HOLD, values)


def see(transaction: Transaction, name: str, generation: int, first: int, seen: int) -> bool:
    """Note up to where a generation has everything, and what the log has dropped before it came.

    Others may do the same at the same time.

    Args:
        first: The first place that the log holds.
        seen: Up to there the generation has counted everything.

    Returns:
        Whether there is a gap that was not there before.
    """
    found = one(transaction, name, generation)
    if found is None or not found.is_at_work:
        return False
    is_gap = first > found.seen_sequence + 1
    gap_from, gap_to = found.gap_from, found.gap_to
    if is_gap:
        gap_from, gap_to = gap_from or found.seen_sequence + 1, first - 1
    new = max(seen, first - 1, found.seen_sequence)
    if new > found.seen_sequence:
        values = {"name": name, "generation": generation, "seen": new}
        transaction.execute(_SEE, values | {"gap_from": gap_from, "gap_to": gap_to})
    return is_gap


def forget(transaction: Transaction, name: str, generation: int) -> None:
    """Remove what is noted of a generation."""
    for statement in _FORGET:
        transaction.execute(statement, {"name": name, "generation": generation})


def check_mesh(book: Book, name: str, mesh: str) -> None:
    """Refuse a projection that another mesh keeps in this database.

    Raises:
        UsageError
    """
    if book.mesh != mesh:
        raise UsageError(f"projection {name!r} of this database belongs to mesh {book.mesh!r}")


def _lock(transaction: Transaction, name: str, how: str) -> None:
    if transaction.dialect == "postgresql":  # on SQLite transactions come one after the other
        digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"a99-projection").digest()
        number = int.from_bytes(digest, signed=True)
        transaction.execute(f"SELECT {how}(:number)", {"number": number})
