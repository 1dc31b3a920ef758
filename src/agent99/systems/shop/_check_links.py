"""Links for those who prove and change nothing: one snapshot of a database, which is only read."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agent99.errors import StoreUnavailableError, UsageError, how_to_install

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

_WAIT_S: Final = 5.0
"""Seconds that a database may take to let us in, or a statement of SQLite's to get its lock."""
_STATEMENT_S: Final = 30.0
"""Seconds that a statement of PostgreSQL's may take."""


@contextmanager
def snapshot(url: str) -> Generator[Connection]:
    """Give a connection that can change nothing, and to which nothing changes while it is open.

    A database that is not there is not made. It blocks: an asynchronous caller is in a thread.

    Raises:
        StoreUnavailableError: the database is away or locked, or has not the tables.
        UsageError: a URL that is none; SQLAlchemy or the driver is not installed.
    """
    import sqlalchemy as sql  # noqa: PLC0415 - costs 0.2 s, which an agent should not pay
    from sqlalchemy.exc import ArgumentError, DBAPIError  # noqa: PLC0415 - as above

    try:
        address = sql.engine.make_url(url)
    except ArgumentError as error:
        raise UsageError("the address of a database is no URL") from error
    engine = _engine(address)
    try:
        with engine.connect() as connection:
            if address.get_backend_name() == "sqlite":  # the driver begins nothing for a read
                connection.exec_driver_sql("BEGIN")
            yield connection
    except DBAPIError as error:
        reason = str(error.orig).partition("\n")[0]
        name = address.set(username=None, password=None).render_as_string()
        raise StoreUnavailableError(name, reason) from error
    finally:
        engine.dispose()


def _engine(address: URL) -> Engine:
    import sqlalchemy as sql  # noqa: PLC0415 - as above

    kind = address.get_backend_name()
    if kind == "sqlite":
        path = Path(address.database or "").absolute()

        def connect() -> sqlite3.Connection:
            # Not mode=ro: who is the last to close clears up the log that the writers left.
            link = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=_WAIT_S)
            link.execute("PRAGMA query_only = ON")
            return link

        return sql.create_engine("sqlite://", creator=connect, poolclass=sql.pool.NullPool)
    if kind != "postgresql":
        raise UsageError(f"the check reads SQLite and PostgreSQL, not {kind}")
    arguments: dict[str, Any] = {
        "connect_timeout": int(_WAIT_S),
        "options": f"-c statement_timeout={int(_STATEMENT_S * 1000)}",
    }
    try:
        engine = sql.create_engine(
            address.set(drivername="postgresql+psycopg"),
            poolclass=sql.pool.NullPool,
            connect_args=arguments,
        )
    except ImportError as error:
        message = f"the check of a PostgreSQL needs psycopg: {how_to_install('postgres')}"
        raise UsageError(message) from error
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
