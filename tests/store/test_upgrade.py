"""A database that an older agent99 made: it is brought up to date where it lies."""

from __future__ import annotations

import hashlib

import pytest

from agent99.store import Migration, Store, Transaction, open_store
from agent99.store._migrations import migrate
from agent99.store._tables import OWN_MIGRATIONS

NOTES = (Migration(1, "notes", ("CREATE TABLE note (id INTEGER PRIMARY KEY)",)),)
FIRST = """
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
"""As the first release made it; written out, so that it stays what it was."""


def first_release(transaction: Transaction) -> None:
    """Make the tables of the first release, with an answer and a note."""
    is_sqlite = transaction.dialect == "sqlite"
    binary, tail = ("BLOB", "WITHOUT ROWID") if is_sqlite else ("BYTEA", "")
    steps = (
        FIRST.format(binary=binary, tail=tail),
        "CREATE INDEX agent99_idempotency_age ON agent99_idempotency (schema_name, created_us)",
    )
    own = (Migration(1, "idempotency", steps),)
    migrate(transaction, (("agent99", own), ("main", NOTES)), now_us=1)
    transaction.execute("INSERT INTO note VALUES (7)")
    transaction.execute(
        "INSERT INTO agent99_idempotency VALUES ('main', 'k', :fingerprint, 'done', :answer, :us)",
        {"fingerprint": hashlib.sha256(b"1").digest(), "answer": b'"kept"', "us": 2**60},
    )


async def make_old(url: str) -> None:
    """Run `first_release` with the store's own threads, on a database of no release yet."""
    store = open_store(url)
    store._engine.start()
    await store.transaction(first_release)
    await store.aclose()


def append_and_see(transaction: Transaction) -> str:
    """Use what the first release had not."""
    event_id = transaction.append("a", None)
    assert transaction.first_time(event_id)
    return event_id


async def tables(store: Store) -> list[tuple[object, ...]]:
    """Return what the database says of its tables and indexes."""
    queries = {
        "sqlite": ("SELECT name, sql FROM sqlite_master WHERE name LIKE 'agent99%' ORDER BY 1",),
        "postgresql": (
            """
            SELECT table_name, column_name, data_type, is_nullable, is_identity
            FROM information_schema.columns WHERE table_name LIKE 'agent99%' ORDER BY 1, 2
            """,
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename LIKE 'agent99%' ORDER BY 1",
        ),
    }
    return [
        tuple(" ".join(str(value).split()) for value in row)
        for query in queries[store.dialect]
        for row in await store.read(lambda t, query=query: t.execute(query).all())
    ]


async def test_old_database_is_upgraded_in_place(url: str) -> None:
    """Its data and its answers are there, and all that is new works."""
    await make_old(url)
    for _ in range(2):
        async with open_store(url, migrations=NOTES) as store:
            assert "kept" == await store.once("k", 1, lambda _: "again", str)
            assert [7] == await store.read(lambda t: t.execute("SELECT id FROM note").scalars())
            event_id = await store.transaction(append_and_see)
            lease = await store.outbox.claim()
            assert lease is not None
            assert event_id in [row.id for row in await lease.take()]
            await lease.release()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_upgraded_is_as_new(kind: str, request: pytest.FixtureRequest) -> None:
    """An upgraded database has the same tables and indexes as a new one."""
    if kind == "sqlite":
        path = request.getfixturevalue("tmp_path")
        old, new = f"sqlite:///{path}/old.db", f"sqlite:///{path}/new.db"
    else:
        server = request.getfixturevalue("postgres")
        old, new = server.make_database(), server.make_database()
    await make_old(old)
    async with open_store(old, migrations=NOTES) as upgraded, open_store(new) as fresh:
        assert await tables(fresh) == await tables(upgraded)
        assert len(await tables(fresh)) > 4


def test_own_migrations_have_kept_their_names() -> None:
    """What was applied once is never renamed or moved: a database would be refused."""
    names = ["idempotency", "outbox", "inbox"]
    assert names == [migration.name for migration in OWN_MIGRATIONS][: len(names)]
    assert list(range(1, len(OWN_MIGRATIONS) + 1)) == [own.number for own in OWN_MIGRATIONS]
