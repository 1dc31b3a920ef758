"""Where the data lives, and one connection to it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any, Final, Literal, cast

from agent99.errors import StoreUnavailableError, UsageError, how_to_install
from agent99.store._failures import store_error
from agent99.store._options import StoreOptions
from agent99.store._sqlalchemy import exc, pool, sqlalchemy
from agent99.store._statements import Statements

Dialect = Literal["sqlite", "postgresql"]

_SQLITE: Final = "sqlite:///"
_DRIVERS: Final[dict[str, str]] = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
_WAL_ATTEMPT_S = 0.02  # SQLite answers "busy" at once, busy_timeout or not, while another switches
_JOURNAL_BYTES_MAX = 64 * 1024 * 1024  # what a large transaction leaves of the WAL file
_STATEMENTS_KEPT = 512  # compiled statements per connection
# A server that vanished without a word is noticed within about 10 s.
_POSTGRES_KEEPALIVE: Final[dict[str, int]] = {
    "connect_timeout": 5,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


def make_folder(url: str) -> None:
    """Have the folder of a SQLite file be there, with those above it; another database needs none.

    Args:
        url: As of `open_store`.

    Raises:
        OSError: it cannot be made.
    """
    if url.startswith(_SQLITE):
        Path(url.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)


class Database:
    """The address of the data; makes links to it, from any thread."""

    def __init__(self, address: str, options: StoreOptions) -> None:
        try:
            url = sqlalchemy.engine.make_url(address)
        except (exc.ArgumentError, ValueError) as error:  # the latter: its port is no number
            message = (
                "what was given is no database URL, as sqlite:///path or postgresql://host/name"
            )
            raise UsageError(message) from error  # not shown: it may have a password
        kind = url.get_backend_name()
        if kind not in _DRIVERS:
            message = f"a store is sqlite:///path or postgresql://..., not {kind}"
            raise UsageError(message)
        self.dialect: Dialect = cast("Dialect", kind)
        self.name = sqlalchemy.URL.create(
            kind, host=url.host, port=url.port, database=url.database
        ).render_as_string()
        """The address without its credential."""
        self.options = options
        if kind == "sqlite":
            self._file = _database_file(url.database)
        self._engine = _engine(url.set(drivername=_DRIVERS[kind]), kind, options)
        driver = cast("Any", self._engine.dialect).dbapi
        self.errors: tuple[type[Exception], ...] = (
            exc.SQLAlchemyError,
            driver.Error,
            driver.Warning,
        )
        """The bases of what SQLAlchemy and the driver raise."""

    def __repr__(self) -> str:
        return f"Database({self.name!r})"

    def connect(self, *, read_only: bool) -> Link:
        """Open a link; it belongs to the calling thread.

        Raises:
            StoreUnavailableError
        """
        try:
            link = Link(self, self._connect(read_only=read_only), read_only=read_only)
            if self.dialect == "sqlite":
                _set_up_sqlite(link)
            else:
                _set_up_postgres(link)
        except self.errors as error:
            known = store_error(error, self.name)
            if isinstance(known, StoreUnavailableError):
                raise known from error
            raise StoreUnavailableError(self.name, str(known)) from error
        return link

    def close(self) -> None:
        """Forget the engine; links are closed by their own threads."""
        self._engine.dispose()

    def _connect(self, *, read_only: bool) -> sqlalchemy.Connection:
        if self.dialect == "sqlite":
            if not self._file.parent.is_dir():
                reason = f"the folder {self._file.parent} does not exist"
                raise StoreUnavailableError(self.name, reason)
            return self._engine.connect()
        connection = self._engine.connect()
        level = "REPEATABLE READ" if read_only else self.options.isolation.upper()
        return connection.execution_options(isolation_level=level, postgresql_readonly=read_only)


class Link:
    """One connection, for the thread that opened it.

    Invariant: SQLAlchemy believes to be in one endless transaction, so that it never begins or ends
    one; beginning and ending is done here, on the driver's own connection.
    """

    def __init__(
        self, database: Database, connection: sqlalchemy.Connection, *, read_only: bool
    ) -> None:
        self.database = database
        self.dialect: Dialect = database.dialect
        self.read_only = read_only
        self.connection = connection
        self.raw: Any = connection.connection.driver_connection
        self.errors = database.errors
        self.statements = Statements(percent=self.dialect == "postgresql")
        self._begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
        connection.begin()

    def __repr__(self) -> str:
        return f"Link({self.database.name!r}, read_only={self.read_only})"

    @property
    def in_transaction(self) -> bool:
        """Whether the database still has our transaction open."""
        if self.dialect == "sqlite":
            return bool(self.raw.in_transaction)
        return bool(self.raw.info.transaction_status)  # 0 is idle

    @property
    def is_broken(self) -> bool:
        """Whether the link itself is gone."""
        return self.dialect == "postgresql" and bool(self.raw.closed)

    def begin(self) -> None:
        """Begin a transaction; on PostgreSQL the first statement does."""
        if self.dialect == "sqlite":
            self.raw.execute(self._begin)

    def commit(self) -> None:
        """Make what was done last."""
        self.raw.commit()

    def roll_back(self) -> None:
        """Undo what was done; does nothing when no transaction is open."""
        self.raw.rollback()

    def close(self) -> None:
        """Close; an unfinished transaction is undone."""
        try:
            self.connection.invalidate()  # closes the driver's connection and asks it nothing
            self.connection.close()
        except self.errors:
            # Only the goodbye failed. What was committed is committed, the rest is undone.
            return


def _database_file(path: str | None) -> Path:
    if not path or path == ":memory:" or path.startswith("file:"):
        message = "a store on SQLite is a file: sqlite:///path/to/file.db"
        raise UsageError(message)
    return Path(path)


def _engine(url: sqlalchemy.URL, kind: str, options: StoreOptions) -> sqlalchemy.Engine:
    if kind == "sqlite":
        arguments: dict[str, Any] = {
            "isolation_level": None,  # transactions begin and end where we say
            "timeout": options.lock_s_max,
            "cached_statements": _STATEMENTS_KEPT,
        }
    else:
        arguments = dict(_POSTGRES_KEEPALIVE)
    try:
        return sqlalchemy.create_engine(url, poolclass=pool.NullPool, connect_args=arguments)
    except ImportError as error:
        message = f"a store on PostgreSQL needs psycopg: {how_to_install('postgres')}"
        raise UsageError(message) from error


def _set_up_sqlite(link: Link) -> None:
    _use_wal(link)
    for pragma in (
        "synchronous = FULL",
        "foreign_keys = ON",
        f"journal_size_limit = {_JOURNAL_BYTES_MAX}",
        f"query_only = {int(link.read_only)}",
    ):
        link.raw.execute(f"PRAGMA {pragma}")


def _use_wal(link: Link) -> None:
    """Switch the file to a write-ahead log; when several processes do it at once, all succeed."""
    lock_s_max = link.database.options.lock_s_max
    attempts = int(lock_s_max / _WAL_ATTEMPT_S) + 1
    pause = threading.Event()
    link.raw.execute("PRAGMA busy_timeout = 0")  # else each attempt might wait that long itself
    for attempt in range(1, attempts + 1):
        try:
            mode = link.raw.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError:
            if attempt == attempts:
                raise
            pause.wait(_WAL_ATTEMPT_S)
            continue
        if mode != "wal":
            reason = f"it keeps the journal mode {mode!r} (is it on a network file system?)"
            raise StoreUnavailableError(link.database.name, reason)
        break
    link.raw.execute(f"PRAGMA busy_timeout = {int(lock_s_max * 1000)}")


def _set_up_postgres(link: Link) -> None:
    options = link.database.options
    link.raw.execute(
        "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false)",
        (f"{int(options.statement_s_max * 1000)}", f"{int(options.lock_s_max * 1000)}"),
    )
    link.commit()
