"""Turns what the drivers raise into the errors of agent99."""

from __future__ import annotations

import sqlite3

from agent99.errors import (
    Agent99Error,
    ConstraintError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
    UsageError,
)
from agent99.store._sqlalchemy import exc


class SerializationError(StoreError):
    """Private: run the transaction again, others changed the same rows meanwhile."""

    code = "TRANSACTION_CONFLICT"
    retryable = True


_SQLITE_CONSTRAINTS = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: "unique",
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: "unique",
    sqlite3.SQLITE_CONSTRAINT_ROWID: "unique",
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "foreign key",
    sqlite3.SQLITE_CONSTRAINT_CHECK: "check",
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: "not null",
}
_SQLITE_UNAVAILABLE = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
    )
)
_PRIMARY_CODE = 0xFF  # the low byte of an SQLite error code is its family

_POSTGRES_CONSTRAINTS = {
    "23505": "unique",
    "23P01": "unique",  # an exclusion constraint
    "23503": "foreign key",
    "23514": "check",
    "23502": "not null",
}
_POSTGRES_AGAIN = frozenset(("40001", "40P01"))  # serialization failure, deadlock
_POSTGRES_READ_ONLY = "25006"
_POSTGRES_FULL = frozenset(("53100", "53200"))  # disk, memory
# Classes: connection exception, insufficient resources, operator intervention, system error, bad
# credential, unknown database; and one code of its own, a lock that did not come in time.
_POSTGRES_UNAVAILABLE = ("08", "53", "57", "58", "28", "3D", "55P03")
_POSTGRES_LINK_BROKEN = "08006"

_READ_ONLY = "a read may not write; use `transaction`"


def store_error(error: Exception, database: str, *, read_only: bool = False) -> Agent99Error:
    """Return the error of agent99 that stands for a driver's, or SQLAlchemy's, `error`."""
    if isinstance(error, Agent99Error):
        return error
    if isinstance(error, exc.SQLAlchemyError):
        origin = getattr(error, "orig", None)
        if not isinstance(origin, Exception):
            return UsageError(f"SQLAlchemy refuses the statement: {error}")
        error = origin
    if isinstance(error, (sqlite3.Error, sqlite3.Warning)):
        return _from_sqlite(error, database, read_only=read_only)
    return _from_postgres(error, database, read_only=read_only)


def _from_sqlite(error: Exception, database: str, *, read_only: bool) -> Agent99Error:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & _PRIMARY_CODE
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return ConstraintError(_SQLITE_CONSTRAINTS.get(code, "other"), str(error))
    if primary == sqlite3.SQLITE_FULL:
        return StoreFullError(database, str(error))
    if primary == sqlite3.SQLITE_READONLY and read_only:
        return UsageError(_READ_ONLY)
    if primary in _SQLITE_UNAVAILABLE:
        return StoreUnavailableError(database, str(error))
    return StoreError(f"the database refuses the statement: {error}")


def _from_postgres(error: Exception, database: str, *, read_only: bool) -> Agent99Error:
    state: str | None = getattr(error, "sqlstate", None)
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if state is None:  # psycopg's own: the link broke, or a value cannot be sent
        state = _POSTGRES_LINK_BROKEN if _is_operational(error) else ""
    if state.startswith("23"):
        return ConstraintError(_POSTGRES_CONSTRAINTS.get(state, "other"), reason)
    if state in _POSTGRES_AGAIN:
        return SerializationError(reason)
    if state in _POSTGRES_FULL:
        return StoreFullError(database, reason)
    if state.startswith(_POSTGRES_UNAVAILABLE):
        return StoreUnavailableError(database, reason)
    if state == _POSTGRES_READ_ONLY and read_only:
        return UsageError(_READ_ONLY)
    return StoreError(f"the database refuses the statement: {reason}")


def _is_operational(error: Exception) -> bool:
    """Tell errors of the link; by name, since psycopg is optional."""
    return any(cls.__name__ == "OperationalError" for cls in type(error).__mro__)
