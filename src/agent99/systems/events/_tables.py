"""The tables of the audit log. They refuse to be changed; what changes them all the same shows."""

from __future__ import annotations

from typing import Final

from agent99.store import Migration, Transaction
from agent99.systems.events._entry import GENESIS

AUDIT_SCHEMA: Final = "audit"

_REFUSE_POSTGRESQL: Final = """
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'check_violation'; END $$
"""

# INSERT OR REPLACE takes rows away and calls no other trigger.
_REFUSE_REPLACE: Final = """
CREATE TRIGGER audit_no_replace BEFORE INSERT ON audit_entries
WHEN EXISTS (
    SELECT 1 FROM audit_entries WHERE number = NEW.number OR previous = NEW.previous
    OR (event_id = NEW.event_id AND is_repeat = 0 AND NEW.is_repeat = 0)
)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END
"""


def _create(transaction: Transaction) -> None:
    is_postgresql = transaction.dialect == "postgresql"
    binary = "BYTEA" if is_postgresql else "BLOB"
    transaction.execute(
        f"""
        CREATE TABLE audit_entries (
            number BIGINT PRIMARY KEY,
            event_id TEXT NOT NULL,
            type TEXT NOT NULL,
            actor TEXT NOT NULL,
            entity TEXT NOT NULL,
            correlation TEXT NOT NULL,
            occurred_us BIGINT NOT NULL,
            stored_us BIGINT NOT NULL,
            partition_number INTEGER NOT NULL,
            sequence BIGINT NOT NULL,
            is_repeat INTEGER NOT NULL CHECK (is_repeat IN (0, 1)),
            event {binary} NOT NULL,
            previous {binary} NOT NULL UNIQUE,
            hash {binary} NOT NULL
        )
        """
    )
    transaction.execute(
        "CREATE UNIQUE INDEX audit_events ON audit_entries (event_id) WHERE is_repeat = 0"
    )
    for column in ("type", "actor", "entity", "correlation"):
        transaction.execute(f"CREATE INDEX audit_by_{column} ON audit_entries ({column}, number)")
    transaction.execute("CREATE INDEX audit_by_time ON audit_entries (stored_us)")
    transaction.execute(
        f"""
        CREATE TABLE audit_head (
            id INTEGER PRIMARY KEY,
            number BIGINT NOT NULL,
            hash {binary} NOT NULL,
            chain TEXT NOT NULL
        )
        """
    )
    begin = {"hash": GENESIS, "chain": transaction.scope.ids.token().decode()}
    transaction.execute("INSERT INTO audit_head VALUES (1, 0, :hash, :chain)", begin)
    transaction.execute(_REFUSE_POSTGRESQL if is_postgresql else _REFUSE_REPLACE)
    for event in ("UPDATE", "DELETE", "TRUNCATE")[: 3 if is_postgresql else 2]:
        transaction.execute(_refuse(event, is_postgresql=is_postgresql))


def _refuse(event: str, *, is_postgresql: bool) -> str:
    begin = f"CREATE TRIGGER audit_no_{event.lower()} BEFORE {event} ON audit_entries"
    if is_postgresql:
        return f"{begin} FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()"
    return f"{begin} BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"


AUDIT_MIGRATIONS: Final = (Migration(1, "entries and head", (_create,)),)
