"""Brings the tables to the form that the code expects, once, in order, and remembers it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from agent99.errors import InvalidNameError, MigrationError, UsageError
from agent99.store._transaction import Transaction

Step = str | Callable[[Transaction], None]

OWN_SCHEMA: Final = "agent99"
_SCHEMA = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_ADVISORY_LOCK = 0x61393973  # "a99s"; any number that only this room uses

_HISTORY = """
CREATE TABLE IF NOT EXISTS agent99_migrations (
    schema_name TEXT NOT NULL,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    applied_us BIGINT NOT NULL,
    PRIMARY KEY (schema_name, number)
)
"""


class Migration(msgspec.Struct, frozen=True):
    """One change of the tables; what has been applied once must never be edited."""

    number: int
    """Its place; starts at 1, without a gap."""
    name: str
    """What it does, in a word or two; recorded, so that a changed history is noticed."""
    steps: tuple[Step, ...]
    """SQL statements, one each, or functions that are given the transaction."""


def check_migrations(schema: str, migrations: Sequence[Migration]) -> None:
    """Check what the programme says, before anything is touched.

    Raises:
        InvalidNameError: the schema's name.
        UsageError: the numbers are not 1, 2, 3 ..., or a name is empty.
    """
    if not _SCHEMA.fullmatch(schema) or schema == OWN_SCHEMA:
        rule = "up to 63 of a-z, 0-9, `_` and `-`, beginning with a letter, and not `agent99`"
        raise InvalidNameError("schema", schema, rule)
    for expected, migration in enumerate(migrations, start=1):
        if migration.number != expected:
            message = f"migration {migration.name!r} has number {migration.number}, not {expected}"
            raise UsageError(message)
        if not migration.name.strip():
            message = f"migration {expected} of schema {schema!r} has no name"
            raise UsageError(message)


def migrate(
    transaction: Transaction, wanted: Sequence[tuple[str, Sequence[Migration]]], now_us: int
) -> None:
    """Apply what has not been applied yet, of every schema, all or nothing.

    Of processes that come together one applies; the others wait, and find it done.

    Raises:
        MigrationError: the recorded history is not the beginning of the code's.
        StoreError: a step failed.
    """
    if transaction.dialect == "postgresql":
        # On SQLite the transaction itself is the lock: it began as IMMEDIATE.
        transaction.execute(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
    transaction.execute(_HISTORY)
    for schema, migrations in wanted:
        done = _applied(transaction, schema, migrations)
        for migration in migrations[done:]:
            _apply(transaction, schema, migration, now_us)


def _applied(transaction: Transaction, schema: str, migrations: Sequence[Migration]) -> int:
    """Return how many are applied; checks that they are the ones that the code names."""
    rows = transaction.execute(
        "SELECT number, name FROM agent99_migrations WHERE schema_name = :schema ORDER BY number",
        {"schema": schema},
    )
    for index, (number, name) in enumerate(rows):
        if index >= len(migrations):
            rule = f"the database has {name!r} and the code has not: it is older than the database"
            raise MigrationError(schema, number, rule)
        if name != migrations[index].name:
            rule = f"applied as {name!r}, but the code says {migrations[index].name!r}"
            raise MigrationError(schema, number, rule)
    return len(rows)


def _apply(transaction: Transaction, schema: str, migration: Migration, now_us: int) -> None:
    for step in migration.steps:
        if isinstance(step, str):
            transaction.execute(step)
        else:
            step(transaction)
    transaction.execute(
        "INSERT INTO agent99_migrations (schema_name, number, name, applied_us)"
        " VALUES (:schema, :number, :name, :now_us)",
        {
            "schema": schema,
            "number": migration.number,
            "name": migration.name,
            "now_us": now_us,
        },
    )
