"""What a user writes: the tables, and what one event does to them."""

from __future__ import annotations

import re
from typing import ClassVar, Final, Literal

from agent99.envelope import parse_pattern
from agent99.errors import InvalidNameError, UsageError
from agent99.groups import Event
from agent99.projections._tables import Names, Tables

_NAME: Final = re.compile(r"[a-z](?:[a-z0-9_]{0,22}[a-z0-9])?")
_NAME_RULE: Final = "1 to 24 of a-z, 0-9 and '_', beginning with a letter and not ending with '_'"
_TABLE: Final = re.compile(r"\s*CREATE\s+TABLE\s+\{([^}]*)\}", re.IGNORECASE)
_INDEX: Final = re.compile(r"\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+\{([^}]*)\}", re.IGNORECASE)


class Projection:
    """Tables that are what all stored events so far make of them. Derive from it.

        class Revenue(Projection):
            name = "revenue"
            topics = ("order.*",)
            tables = ("CREATE TABLE {revenue} (day TEXT PRIMARY KEY, pence BIGINT NOT NULL)",)

            def apply(self, tables: Tables, event: Event) -> None:
                ...

    Events of one key come in their order; those of different keys in any, and in a rebuild in
    another one. So what `apply` makes must not depend on the order of different keys.
    """

    name: ClassVar[str]
    """1 to 24 of a-z, 0-9 and `_`; in a database each name is used once."""
    topics: ClassVar[tuple[str, ...]]
    """Patterns of the topics that it reads; they must not overlap."""
    tables: ClassVar[tuple[str, ...]]
    """CREATE TABLE and CREATE INDEX statements, for both databases; `{revenue}` stands for the
    table, and begins an index's name: `CREATE INDEX {revenue}_by_pence ON {revenue} (pence)`."""
    version: ClassVar[int] = 1
    """Of the code; raise it whenever `tables`, `topics` or `apply` change: the tables are rebuilt
    when it starts, and readers see those of before until the new ones have caught up."""
    on_error: ClassVar[Literal["wait", "set aside"]] = "wait"
    """What becomes of an event at which `apply` raises. `wait`: it comes again, with a pause that
    grows, and what lies behind it in its partition waits: the tables are late, never wrong. `set
    aside`: it is recorded, with the error, and left out: the tables go on, without it. Both show in
    the status. An error that may pass (`retryable`, a database that is away) always waits."""
    ignores_repeats: ClassVar[bool] = True
    """An event that is in the log twice, under one id (an outbox that sent it again), counts once.
    It costs an insert for each event; False where nothing is appended twice, or it does no harm."""

    def apply(self, tables: Tables, event: Event) -> None:
        """Bring the tables up to date with one event: by statements alone, nothing else.

        It runs in a thread, in the transaction that moves the position on, and may run more than
        once for one that took no effect. What it raises: see `on_error`.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}(version={self.version})"


class Definition:
    """A projection that was looked at.

    Raises:
        UsageError, InvalidNameError: something of it is missing, or wrong.
    """

    def __init__(self, projection: Projection) -> None:
        for field in ("name", "topics", "tables"):
            if not getattr(projection, field, None):
                raise UsageError(f"{type(projection).__name__} says no {field!r}")
        self.projection = projection
        self.name = _checked("projection", projection.name)
        self.topics = tuple(sorted(parse_pattern(topic) for topic in _several(projection.topics)))
        self.version = projection.version
        if self.version < 1:
            raise UsageError(f"{projection!r}: a version is 1 or more")
        if projection.on_error not in {"wait", "set aside"}:
            raise UsageError(f"on_error is 'wait' or 'set aside', not {projection.on_error!r}")
        self.statements = _several(projection.tables)
        self.tables = _tables(self.statements)

    def __repr__(self) -> str:
        return f"Definition({self.name!r}, version={self.version})"

    def names(self, generation: int) -> Names:
        """Return what the tables of a generation are called."""
        return Names(self.name, generation, self.tables)


def _tables(statements: tuple[str, ...]) -> tuple[str, ...]:
    tables = list[str]()
    for statement in statements:
        if made := _TABLE.match(statement):
            tables.append(_checked("table", made[1]))
        elif _INDEX.match(statement) is None:
            rule = "begins with CREATE TABLE {name} or CREATE INDEX {name}_…"
            raise UsageError(f"{' '.join(statement.split())[:80]!r}: a statement {rule}")
    if not tables:
        raise UsageError("a projection has a table")
    names = Names("", 1, tables)
    for statement in statements:
        names.sql(statement)  # refuses what it does not know
    return tuple(tables)


def _several(texts: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise UsageError(f"{texts!r} stands alone: write ({texts!r},)")
    return tuple(texts)


def _checked(kind: str, name: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise InvalidNameError(kind, name, _NAME_RULE)
    return name
