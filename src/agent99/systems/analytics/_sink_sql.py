"""Rows in a table of a database, one for each window and key: its latest revision."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent99.envelope import parse_name
from agent99.errors import MigrationError, StoreError, UsageError
from agent99.systems.analytics._sink import SINK_CURVE, Column, Refused, SinkWriter, Target
from agent99.systems.analytics._sink_columns import (
    WINDOW,
    Cells,
    cells_of,
    check_columns,
    with_kinds,
)

if TYPE_CHECKING:
    from agent99.groups import Event
    from agent99.store import Store, Transaction
    from agent99.systems.analytics._delta import WindowRow
    from agent99.work import Curve

_is_table = re.compile(r"(?!sqlite_)[a-z][a-z0-9_]{0,49}").fullmatch
_TABLE_RULE: Final = "up to 50 of a-z, 0-9 and _, beginning with a letter, not with sqlite_"
_NOT_OURS: Final = frozenset(("cmax", "cmin", "ctid", "tableoid", "xmax", "xmin"))
"""Columns that each table of PostgreSQL has."""
_TYPES: Final = {int: "BIGINT", float: "DOUBLE PRECISION", str: "TEXT", bool: "BOOLEAN"}
_TAIL: Final = (Column("records", int), Column("revision", int))
_VERSION: Final = Column("version", int)
_WINDOW: Final = tuple(Column(one, str if one == "key_json" else int) for one in WINDOW)


@dataclass(frozen=True)
class SqlSink:
    """Keeps rows in a table, of SQLite or PostgreSQL, in which anybody may read.

    The table is made where there is none: the columns of the key and of the figures; `start_us`,
    `end_us` and `number` of the window; `version` of the job; `records`, `revision`; and
    `key_json`, by which a row is found. One that is there may have rules of its own: a row that
    breaks them goes into quarantine, and the others are written. `{table}_retracted` remembers the
    windows that were taken back, whose rows are deleted, those of earlier versions too.

    Delivery: effectively once: a row is changed by a higher revision alone, whoever writes, and
        however often it comes.

    Raises:
        UsageError, InvalidNameError: an argument.
    """

    url: str = field(repr=False)
    """Of the database."""
    table: str
    """Up to 50 of a-z, 0-9 and _, beginning with a letter, not with `sqlite_`. Its rows are of one
    pipeline, of all versions of its job; another one needs another table."""
    name: str = field(default="sql", kw_only=True)
    """Of the sink, by the grammar of names."""
    kinds: Mapping[str, type] = field(default_factory=dict[str, type], kw_only=True)
    """What computed columns hold: int, float, str or bool, by name. Of the others text is made."""
    curve: Curve = field(default=SINK_CURVE, kw_only=True)
    """How often an event is tried, and how long one attempt may take."""

    def __post_init__(self) -> None:
        parse_name("sink", self.name)
        if not isinstance(self.table, str) or not _is_table(self.table):
            message = f"sink {self.name!r}: no name of a table: {self.table!r}; {_TABLE_RULE}"
            raise UsageError(message)

    def check(self, key: Sequence[Column], values: Sequence[Column], /) -> None:
        """Refuse columns that the table cannot have.

        Raises:
            UsageError: says which.
        """
        check_columns((*key, *values), self.kinds)
        for column in (*key, *values):
            if column.name.lower() in _NOT_OURS:
                raise UsageError(f"{column.name!r} is a column that PostgreSQL keeps for itself")

    @asynccontextmanager
    async def open(self, target: Target, /) -> AsyncGenerator[SinkWriter, None]:
        """Open the database, and make the table where there is none.

        Raises:
            UsageError: the URL.
            StoreError or one of its kinds: also where the table has other columns, or the rows of
                another pipeline.
        """
        from agent99.store import Migration, StoreOptions, open_store  # noqa: PLC0415 - loads SQLAlchemy

        key = with_kinds(target.key, self.kinds)
        values = with_kinds(target.values, self.kinds)
        statements = _Statements(self.table, key, values)
        # Windows of two pipelines may have one name: they would take each other's place.
        owner = f"{target.mesh}/{target.job}/{target.pipeline}"
        store = open_store(
            self.url,
            migrations=(Migration(1, f"the rows of {owner}", statements.create),),
            schema=f"sink-{self.table}",  # tables may share a database, so each has a history
            # Serializable: see `_put`. It writes one event after the other: more links than one
            # would only be held, by each of many processors.
            options=StoreOptions(isolation="serializable", writers_max=1, readers_max=1),
        )
        try:
            await store.open()
        except MigrationError as error:
            raise StoreError(f"the table {self.table!r} is not of {owner!r}: {error}") from error
        async with aclosing(store):
            writer = _SqlWriter(store, target.version, statements)
            await writer.probe()
            yield writer


class _Statements:
    """The SQL of one table."""

    def __init__(self, table: str, key: Sequence[Column], values: Sequence[Column]) -> None:
        self.key: Final = key
        self.values: Final = values
        columns = (*_WINDOW, *key, *values, *_TAIL)
        gone_columns = (*_WINDOW, _TAIL[1])
        gone = f'"{table}_retracted"'
        names = ", ".join(f'"{one.name}"' for one in columns)
        window = ", ".join(WINDOW)
        given = ", ".join(_mark(one) for one in columns)
        named = [one for one in _WINDOW if one.name != "version"]
        same = " AND ".join(f"{one.name} = {_mark(one)}" for one in named)
        last = f"version = {_mark(_VERSION)} AND revision"
        changed = ", ".join(
            f'"{one.name}" = excluded."{one.name}"' for one in columns if one not in _WINDOW
        )
        revision = _mark(_TAIL[1])
        self.create: Final = (
            f'CREATE TABLE IF NOT EXISTS "{table}" ({_typed(columns)}, PRIMARY KEY ({window}))',
            f"CREATE TABLE IF NOT EXISTS {gone} ({_typed(gone_columns)}, PRIMARY KEY ({window}))",
        )
        # The table's name and the columns' are plain ones, as was checked.
        put = (
            f'INSERT INTO "{table}" ({names}) SELECT {given} WHERE {{}} AND NOT EXISTS'  # noqa: S608 - plain names, checked
            f" (SELECT 1 FROM {gone} WHERE {same} AND (version > {_mark(_VERSION)}"
            f" OR {last} >= {revision}))"
            f" ON CONFLICT ({window}) DO UPDATE SET {changed}"
            f' WHERE "{table}".revision < excluded.revision'
        )
        self.put: Final = put.format("1 = 1")
        self.put_nothing: Final = put.format("1 = 0")
        self.nothing: Final = {f"c_{one.name}": None for one in columns}
        self.retract: Final = (
            f"INSERT INTO {gone} ({window}, revision) VALUES"  # noqa: S608 - plain names, checked
            f" ({', '.join(map(_mark, gone_columns))})"
            f" ON CONFLICT ({window}) DO UPDATE SET revision = excluded.revision"
            f" WHERE {gone}.revision < excluded.revision"
        )
        self.delete: Final = (
            f'DELETE FROM "{table}" WHERE {same} AND (version < {_mark(_VERSION)}'  # noqa: S608 - plain names, checked
            f" OR {last} <= {revision})"
        )

    def __repr__(self) -> str:
        return f"_Statements({self.put!r})"


class _SqlWriter:
    """Writes rows into a table."""

    def __init__(self, store: Store, version: int, statements: _Statements) -> None:
        self._store: Final = store
        self._version: Final = version
        self._statements: Final = statements

    def __repr__(self) -> str:
        return f"_SqlWriter({self._store!r})"

    async def probe(self) -> None:
        """Write no row at all, and so see whether rows can be written.

        Raises:
            StoreError or one of its kinds: the table is not there, or not as it must be.
        """
        nothing, values = self._statements.put_nothing, self._statements.nothing
        await self._store.transaction(lambda transaction: transaction.execute(nothing, values))

    async def write(self, rows: Sequence[WindowRow], _event: Event, /) -> Sequence[Refused]:
        """Write all rows in one transaction; where one is refused, the others in smaller ones.

        Raises:
            StoreError or one of its kinds: no row is at fault.
        """
        statements = self._statements
        fit, refused = cells_of(rows, self._version, statements.key, statements.values)
        await self._write(list(fit.items()), refused)
        return refused

    async def _write(self, cells: list[tuple[int, Cells]], refused: list[Refused]) -> None:
        """Write rows, and note which are refused: half by half, until each is alone."""
        if not cells:
            return
        try:
            await self._store.transaction(
                partial(_put, statements=self._statements, cells=[one for _, one in cells])
            )
        except StoreError as error:
            if error.retryable:
                raise
            await self.probe()  # it is no row's fault if the table has gone, or has been changed
            if len(cells) == 1:
                refused.append(Refused(cells[0][0], str(error)))
                return
            middle = len(cells) // 2
            await self._write(cells[:middle], refused)
            await self._write(cells[middle:], refused)


def _put(transaction: Transaction, statements: _Statements, cells: Sequence[Cells]) -> None:
    """Write rows, and take rows back.

    Who writes a row sees whether it was taken back, and who takes one back deletes what there is.
    Where two do so at once, neither may miss what the other does: these are to be serial.
    """
    kept = [one for one in cells if not one["is_retracted"]]
    retracted = [one for one in cells if one["is_retracted"]]
    if kept:
        transaction.execute(statements.put, _parameters(kept))
    if retracted:
        transaction.execute(statements.retract, _parameters(retracted))
        transaction.execute(statements.delete, _parameters(retracted))


def _parameters(cells: Sequence[Cells]) -> list[dict[str, Any]]:
    return [{f"c_{name}": value for name, value in one.items()} for one in cells]


def _mark(column: Column) -> str:
    """Return the parameter of a column; with its type, since PostgreSQL cannot tell it of NULL."""
    return f"CAST(:c_{column.name} AS {_TYPES[column.kind or str]})"


def _typed(columns: Sequence[Column]) -> str:
    needed = {one.name for one in (*_WINDOW, *_TAIL)}
    return ", ".join(
        f'"{one.name}" {_TYPES[one.kind or str]}{" NOT NULL" if one.name in needed else ""}'
        for one in columns
    )
