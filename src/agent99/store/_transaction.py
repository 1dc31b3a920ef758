"""What a transaction's function is given: statements and locks, for as long as it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent99.errors import Agent99Error, StoreError, UsageError
from agent99.store._append import COUNT, INSERT, TAKE_TURNS, check_text, outbox_row, turns
from agent99.store._failures import store_error
from agent99.store._link import Dialect, Link
from agent99.store._rows import Rows
from agent99.store._scope import Scope
from agent99.store._sqlalchemy import sqlalchemy
from agent99.store._statements import check_statement

if TYPE_CHECKING:
    from sqlalchemy.sql.base import Executable

Parameters = Mapping[str, Any] | Sequence[Mapping[str, Any]]

_KEYS_MAX = 10_000
_MESSAGE_ID_BYTES_MAX = 256
_SEE = (
    "INSERT INTO agent99_inbox (schema_name, reader, message_id, seen_us)"
    " VALUES (:schema, :reader, :message_id, :now_us) ON CONFLICT DO NOTHING"
)


class Transaction:
    """One transaction in the hands of a function; of no use after the function has returned.

    A statement that fails dooms it, even if its error is caught: PostgreSQL goes no further, and
    what works on one database must work on the other. To go on without a row that is there already,
    say `ON CONFLICT`; to answer no, raise a `Failure`.

    Invariant: every statement's rows are fetched before `execute` returns, so that nothing of the
    transaction is open when it ends.
    """

    __slots__ = ("_appended", "_link", "_marked", "doom", "scope")

    def __init__(self, link: Link, scope: Scope) -> None:
        self._link: Link | None = link
        self._appended: list[dict[str, Any]] = []
        self._marked = 0
        self.scope = scope
        """Private to the store."""
        self.doom: Agent99Error | None = None
        """The first error of a statement: the transaction cannot take effect any more."""

    def __repr__(self) -> str:
        return f"Transaction({'ended' if self._link is None else self._link.database.name})"

    @property
    def dialect(self) -> Dialect:
        """`sqlite` or `postgresql`: where their SQL differs."""
        return self._open_link().dialect

    def execute(self, statement: str | Executable, parameters: Parameters | None = None) -> Rows:
        """Run one statement and return its rows, or the count of those it changed.

        Args:
            statement: SQL with parameters as `:name` (the fast way: 3 µs on SQLite), or a
                statement of SQLAlchemy Core (about 20 µs when kept with `bindparam`, 150 µs when
                built anew).
            parameters: Values by name; a sequence of such mappings runs the statement for each.

        Raises:
            ConstraintError: a rule of the tables forbids it.
            StoreFullError, StoreUnavailableError
            StoreError: the database refuses the statement; more rows than `rows_max`.
            UsageError: `BEGIN`, `COMMIT` and the like; a write in a read; the transaction is over.
        """
        link = self._open_link()
        if self.doom is not None:
            raise self.doom
        try:
            if isinstance(statement, str):
                return _execute_plain(link, statement, parameters)
            return _execute_core(link, statement, parameters)
        except link.errors as error:
            self.doom = store_error(error, link.database.name, read_only=link.read_only)
            raise self.doom from error

    def tuples(
        self, statement: str, parameters: Mapping[str, Any] | None = None
    ) -> Sequence[tuple[Any, ...]]:
        """Run one query of plain SQL and return its rows as bare tuples, for who reads very many.

        To give the rows names, as `execute` does, takes an eighth more.

        Args:
            statement: As of `execute`, but not of SQLAlchemy Core.
            parameters: Values by name.

        Raises:
            as `execute`.
        """
        link = self._open_link()
        if self.doom is not None:
            raise self.doom
        try:
            cursor = _run_plain(link, statement, parameters)
            if cursor.description is None:
                return ()
            return _fetch(cursor, link.database.options.rows_max)
        except link.errors as error:
            self.doom = store_error(error, link.database.name, read_only=link.read_only)
            raise self.doom from error

    def lock(self, table: str, keys: Iterable[Any], *, key: str = "id") -> dict[Any, Any]:
        """Lock rows until the transaction ends, in the order of their keys; return them by key.

        Transactions that lock all they change in one call cannot deadlock one another. On SQLite,
        where there is one writer, it only reads. A key without a row is absent from the result, and
        not locked.

        Args:
            table: The table's name.
            keys: At most 10,000; repeated ones count once.
            key: The column that the keys are of; best its primary key.

        Raises:
            as `execute`.
        """
        link = self._open_link()
        wanted = list(dict.fromkeys(keys))
        if len(wanted) > _KEYS_MAX:
            message = f"{len(wanted):,} rows in one lock; at most {_KEYS_MAX:,}"
            raise UsageError(message)
        if not wanted:
            return {}
        rows = self.execute(*_lock_statement(link, table, key, wanted)).all()
        if not rows:
            return {}
        index = rows[0]._fields.index(key)
        return {row[index]: row for row in rows}

    def append(
        self,
        topic: str,
        event: Any,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        traceparent: str = "",
    ) -> str:
        """Put an event into the outbox and return its id: it leaves if the transaction commits.

        It is encoded now and written when the function has returned, as the last statement of the
        transaction, so that a query of the transaction does not see it.

        Args:
            topic: Names joined by dots: `order.placed`.
            event: An object that JSON can carry: a Struct, a dict, or None for `{}`.
            key: Whose events stay in order, at most 128 bytes; without one the event stands alone.
            headers: Of your own, at most 8 KiB.
            traceparent: The trace it belongs to, in the form of W3C Trace Context.

        Delivery: a relay sends it at least once, under its id, so that a reader can tell a
            duplicate; after the events of the same key whose transactions ended before.

        Raises:
            InvalidNameError: the topic, the key, the traceparent.
            PayloadTooLargeError: the event or its headers are over their bounds.
            UsageError: the event is no JSON object; a header; a read; the transaction is over.
        """
        self._open_link()
        row = outbox_row(self.scope, topic, event, key, headers, traceparent)
        self._appended.append(row)
        event_id: str = row["id"]
        return event_id

    def first_time(self, message_id: str, *, reader: str = "") -> bool:
        """Tell whether this message is new, and remember it with the effect: the inbox.

        However often a message comes, and to however many processes, one transaction that commits
        has seen True, for `retention_s` at least. One that comes while that is under way waits.

        Args:
            message_id: 1 to 256 bytes; the same whenever the message comes.
            reader: Who reads, where several do so in one schema; up to 256 bytes.

        Raises:
            InvalidNameError: the message id or the reader.
            as `execute`.
        """
        check_text("message id", message_id, _MESSAGE_ID_BYTES_MAX)
        if reader:
            check_text("reader", reader, _MESSAGE_ID_BYTES_MAX)
        scope = self.scope
        values = {
            "schema": scope.schema,
            "reader": reader,
            "message_id": message_id,
            "now_us": scope.clock.wall_us(),
        }
        is_new = self.execute(_SEE, values).changed == 1
        scope.leaves_rows = True
        return is_new

    def write_appended(self) -> bool:
        """Private to the store: write what was appended; returns whether there was anything.

        Raises:
            StoreOverloadedError: the outbox is full.
            as `execute`.
        """
        rows = self._appended
        if not rows:
            return False
        which = {"schema": self.scope.schema}
        self.scope.room.take(len(rows), lambda: self.execute(COUNT, which).scalar() or 0)
        numbers = turns(rows) if self.dialect == "postgresql" else []
        if numbers:
            self.execute(TAKE_TURNS, {"numbers": numbers})
        self.execute(INSERT, rows if len(rows) > 1 else rows[0])
        return True

    def end(self) -> None:
        """Private to the store: make every later use an error."""
        self._link = None

    def mark(self) -> None:
        """Private to the store: remember this moment, for `undo`."""
        self._open_link().raw.execute("SAVEPOINT a99_mark")
        self._marked = len(self._appended)

    def undo(self) -> None:
        """Private to the store: undo everything since `mark`, a doom included."""
        self._open_link().raw.execute("ROLLBACK TO SAVEPOINT a99_mark")
        del self._appended[self._marked :]
        self.doom = None

    def _open_link(self) -> Link:
        if self._link is None:
            message = "the transaction is over; use it only inside its function"
            raise UsageError(message)
        return self._link


def _lock_statement(
    link: Link, table: str, key: str, wanted: list[Any]
) -> tuple[str, dict[str, Any]]:
    quote = link.connection.dialect.identifier_preparer.quote
    column = quote(key)
    name = ".".join(quote(part) for part in table.split("."))
    if link.dialect == "postgresql":
        match, tail, values = "= ANY(:keys)", " FOR UPDATE", dict[str, Any](keys=wanted)
    else:
        values = {f"k{index}": value for index, value in enumerate(wanted)}
        match, tail = f"IN ({','.join(f':{mark}' for mark in values)})", ""
    head = f"SELECT * FROM {name} WHERE {column}"  # noqa: S608 - the names are quoted
    return f"{head} {match} ORDER BY {column}{tail}", values


def _execute_plain(link: Link, sql: str, parameters: Parameters | None) -> Rows:
    cursor = _run_plain(link, sql, parameters)
    if cursor.description is None:
        return Rows((), max(cursor.rowcount, 0))
    found = _fetch(cursor, link.database.options.rows_max)
    make = link.statements.row_maker(tuple([column[0] for column in cursor.description]))
    changed = 0 if _is_query(link, cursor) else max(cursor.rowcount, 0)
    return Rows([make(row) for row in found], changed)


def _run_plain(link: Link, sql: str, parameters: Parameters | None) -> Any:
    """Run a statement; returns the driver's cursor."""
    form = link.statements.form(sql)
    if parameters is None:
        return link.raw.execute(sql)  # without values a driver looks for no marks
    if isinstance(parameters, (dict, Mapping)):  # dict first: asking for Mapping costs 0.5 µs
        return link.raw.execute(form, parameters)
    cursor = link.raw.cursor()
    cursor.executemany(form, parameters)
    return cursor


def _is_query(link: Link, cursor: Any) -> bool:
    """Tell rows of a query from rows of `RETURNING`; psycopg counts both alike."""
    if link.dialect == "sqlite":
        return False  # its row count of a query is -1
    return not (cursor.statusmessage or "").startswith(("INSERT", "UPDATE", "DELETE", "MERGE"))


def _execute_core(link: Link, statement: Executable, parameters: Parameters | None) -> Rows:
    if isinstance(statement, sqlalchemy.TextClause):
        check_statement(statement.text)
    result = link.connection.execute(statement, parameters)
    if not result.returns_rows:
        return Rows((), max(result.rowcount, 0))
    found = _fetch(result, link.database.options.rows_max)
    result.close()
    changed = max(result.rowcount, 0) if statement.is_dml else 0
    return Rows(found, changed)


def _fetch(cursor: Any, rows_max: int) -> Sequence[Any]:
    found: Sequence[Any] = cursor.fetchmany(rows_max + 1)
    if len(found) > rows_max:
        cursor.close()
        message = f"the statement gives more than {rows_max:,} rows (StoreOptions.rows_max)"
        raise StoreError(message)
    return found
