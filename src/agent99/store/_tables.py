"""The store's own tables. What is here once is never edited: a change is a new migration."""

from __future__ import annotations

from typing import Final

from agent99.store._migrations import Migration
from agent99.store._transaction import Transaction


def _idempotency(transaction: Transaction) -> None:
    binary, tail = (
        ("BYTEA", "") if transaction.dialect == "postgresql" else ("BLOB", "WITHOUT ROWID")
    )
    transaction.execute(
        f"""
        CREATE TABLE agent99_idempotency (
            schema_name TEXT NOT NULL,
            key TEXT NOT NULL,
            fingerprint {binary} NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed')),
            answer {binary},
            created_us BIGINT NOT NULL,
            PRIMARY KEY (schema_name, key)
        ) {tail}
        """
    )
    transaction.execute(
        "CREATE INDEX agent99_idempotency_age ON agent99_idempotency (schema_name, created_us)"
    )


def _outbox(transaction: Transaction) -> None:
    # A position is never used twice: what is said of one must not hit another row.
    binary, position = (
        ("BYTEA", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
        if transaction.dialect == "postgresql"
        else ("BLOB", "INTEGER PRIMARY KEY AUTOINCREMENT")
    )
    transaction.execute(
        f"""
        CREATE TABLE agent99_outbox (
            position {position},
            schema_name TEXT NOT NULL,
            id TEXT NOT NULL,
            topic TEXT NOT NULL,
            key TEXT NOT NULL,
            body {binary} NOT NULL,
            headers {binary} NOT NULL,
            traceparent TEXT NOT NULL,
            created_us BIGINT NOT NULL,
            stream TEXT,
            sequence BIGINT,
            stored_us BIGINT
        )
        """
    )
    # Every row stands in one of two indexes: it waits, or it is stored and kept for a while.
    transaction.execute(
        "CREATE INDEX agent99_outbox_waiting ON agent99_outbox (schema_name, position)"
        " WHERE stored_us IS NULL"
    )
    transaction.execute(
        "CREATE INDEX agent99_outbox_stored ON agent99_outbox (schema_name, stored_us)"
        " WHERE stored_us IS NOT NULL"
    )
    transaction.execute(
        """
        CREATE TABLE agent99_relay (
            schema_name TEXT PRIMARY KEY,
            epoch BIGINT NOT NULL,
            beats BIGINT NOT NULL,
            owner TEXT NOT NULL
        )
        """
    )


def _inbox(transaction: Transaction) -> None:
    tail = "" if transaction.dialect == "postgresql" else "WITHOUT ROWID"
    transaction.execute(
        f"""
        CREATE TABLE agent99_inbox (
            schema_name TEXT NOT NULL,
            reader TEXT NOT NULL,
            message_id TEXT NOT NULL,
            seen_us BIGINT NOT NULL,
            PRIMARY KEY (schema_name, reader, message_id)
        ) {tail}
        """
    )
    transaction.execute("CREATE INDEX agent99_inbox_age ON agent99_inbox (schema_name, seen_us)")


def _positions(transaction: Transaction) -> None:
    tail = "" if transaction.dialect == "postgresql" else "WITHOUT ROWID"
    transaction.execute(
        f"""
        CREATE TABLE agent99_position (
            schema_name TEXT NOT NULL,
            reader TEXT NOT NULL,
            part INTEGER NOT NULL,
            epoch BIGINT NOT NULL,
            position BIGINT NOT NULL,
            PRIMARY KEY (schema_name, reader, part)
        ) {tail}
        """
    )


OWN_MIGRATIONS: Final = (
    Migration(1, "idempotency", (_idempotency,)),
    Migration(2, "outbox", (_outbox,)),
    Migration(3, "inbox", (_inbox,)),
    Migration(4, "positions", (_positions,)),
    Migration(
        5,
        "where positions began",
        ("ALTER TABLE agent99_position ADD COLUMN begun BIGINT NOT NULL DEFAULT 0",),
    ),
)
