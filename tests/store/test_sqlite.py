"""What is SQLite's own: one file, one writer, shared commits."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from agent99.errors import (
    ConstraintError,
    StoreFullError,
    StoreUnavailableError,
    UsageError,
)
from agent99.store import Migration, StoreOptions, Transaction, make_folder, open_store

TABLES = (
    Migration(
        1,
        "tables",
        (
            "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
            """
            CREATE TABLE child (
                id INTEGER PRIMARY KEY,
                note INTEGER NOT NULL REFERENCES note(id) DEFERRABLE INITIALLY DEFERRED
            )
            """,
        ),
    ),
)


def put(number: int, text: str = "x") -> Callable[[Transaction], int]:
    def work(transaction: Transaction) -> int:
        transaction.execute("INSERT INTO note VALUES (:id, :text)", {"id": number, "text": text})
        return number

    return work


def put_child(note: int) -> Callable[[Transaction], int]:
    def work(transaction: Transaction) -> int:
        return transaction.execute("INSERT INTO child (note) VALUES (:n)", {"n": note}).changed

    return work


def count(transaction: Transaction) -> int:
    return int(transaction.execute("SELECT count(*) FROM note").scalar() or 0)


async def test_the_file_is_set_up_for_durability(sqlite_url: str) -> None:
    """Write-ahead log, full sync and foreign keys are on; a read may not write."""
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    async with open_store(sqlite_url) as store:
        for run, query_only in ((store.transaction, 0), (store.read, 1)):
            found = await run(
                lambda t: {name: t.execute(f"PRAGMA {name}").scalar() for name in wanted}
            )
            assert wanted == found
            only = await run(lambda t: t.execute("PRAGMA query_only").scalar())
            assert query_only == only


async def test_waiting_transactions_share_a_commit(sqlite_url: str) -> None:
    """64 that wait together cost a few commits; with `batch_max=1` each costs its own."""
    for batch_max, commits_max in ((256, 16), (1, 64)):
        options = StoreOptions(batch_max=batch_max)
        async with open_store(sqlite_url, migrations=TABLES, options=options) as store:
            before = store.statistics().commits
            await store.transaction(lambda t: t.execute("DELETE FROM note"))
            await asyncio.gather(*(store.transaction(put(n)) for n in range(64)))
            commits = store.statistics().commits - before - 1
            assert commits <= commits_max
            if batch_max == 1:
                assert commits_max == commits


async def test_deferred_rule_spoils_nobody_elses_commit(sqlite_url: str) -> None:
    """A rule that is checked at the commit fails the one that broke it, not those beside it."""
    async with open_store(sqlite_url, migrations=TABLES) as store:
        ended = await asyncio.gather(
            store.transaction(put(1)),
            store.transaction(put_child(99)),
            store.transaction(put(2)),
            store.transaction(put_child(1)),
            return_exceptions=True,
        )
        assert [1, ConstraintError, 2, 1] == [
            type(end) if isinstance(end, Exception) else end for end in ended
        ]
        assert isinstance(ended[1], ConstraintError)
        assert "foreign key" == ended[1].kind
        assert 2 == await store.read(count)


async def test_full_database_fails_what_does_not_fit(sqlite_url: str) -> None:
    """A full disk ends SQLite's whole transaction; still only what does not fit fails, typed."""
    async with open_store(sqlite_url, migrations=TABLES) as store:
        pages = await store.transaction(lambda t: t.execute("PRAGMA page_count").scalar())
        bound = int(pages or 0) + 4
        await store.transaction(lambda t: t.execute(f"PRAGMA max_page_count = {bound}"))
        ended = await asyncio.gather(
            store.transaction(put(1)),
            store.transaction(put(2, "y" * 100_000)),
            store.transaction(put(3)),
            return_exceptions=True,
        )
        assert [1, 3] == [ended[0], ended[2]]
        assert isinstance(ended[1], StoreFullError)
        assert 2 == await store.read(count)
        assert 4 == await store.transaction(put(4))


async def test_locked_by_another_process(sqlite_url: str) -> None:
    """Who waits too long for another's lock gets a typed error; reads go on; then all is well."""
    options = StoreOptions(lock_s_max=0.05)
    path = sqlite_url.removeprefix("sqlite:///")
    async with open_store(sqlite_url, migrations=TABLES, options=options) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            ended = await asyncio.gather(
                *(store.transaction(put(n)) for n in range(3)), return_exceptions=True
            )
            for error in ended:
                assert isinstance(error, StoreUnavailableError)
                assert error.retryable
                assert not error.outcome_unknown
            assert 0 == await store.read(count)
            other.execute("ROLLBACK")
        assert 7 == await store.transaction(put(7))


async def test_locked_while_it_is_opened(sqlite_url: str) -> None:
    """A file that another keeps for itself is a typed error, within `lock_s_max`."""
    options = StoreOptions(lock_s_max=0.05)
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE theirs (id INTEGER)")
        other.execute("BEGIN EXCLUSIVE")
        store = open_store(sqlite_url, migrations=TABLES, options=options)
        with pytest.raises(StoreUnavailableError, match="locked"):
            await store.open()
        other.execute("ROLLBACK")
    async with open_store(sqlite_url, migrations=TABLES, options=options) as store:
        assert 1 == await store.transaction(put(1))
        wait = await store.transaction(lambda t: t.execute("PRAGMA busy_timeout").scalar())
        assert 50 == wait


async def test_reads_do_not_wait_for_the_writer(sqlite_url: str) -> None:
    """While a transaction is under way, a read sees the state before it."""
    async with open_store(sqlite_url, migrations=TABLES) as store:
        loop = asyncio.get_running_loop()
        under_way = asyncio.Event()
        done_reading: asyncio.Future[None] = loop.create_future()

        async def wait_done() -> None:
            await done_reading

        def slow(transaction: Transaction) -> None:
            put(1)(transaction)
            loop.call_soon_threadsafe(under_way.set)
            asyncio.run_coroutine_threadsafe(wait_done(), loop).result(5)

        writing = asyncio.ensure_future(store.transaction(slow))
        await under_way.wait()
        assert 0 == await store.read(count)
        done_reading.set_result(None)
        await writing
        assert 1 == await store.read(count)


async def test_unfit_files(tmp_path: Path) -> None:
    """A missing folder, and a file that is no database, are typed and name the file."""
    (tmp_path / "text.db").write_text("no database " * 100)
    for name, words in (("none/x.db", "does not exist"), ("text.db", "not a database")):
        store = open_store(f"sqlite:///{tmp_path}/{name}")
        with pytest.raises(StoreUnavailableError, match=words) as caught:
            await store.open()
        assert name in caught.value.database


@pytest.mark.parametrize(
    "address",
    ["sqlite://", "sqlite:///:memory:", "mysql://host/x", "no url", "sqlite:///file:x?mode=ro"],
)
def test_what_is_no_store(address: str) -> None:
    """Only a file of SQLite and PostgreSQL are stores; said at once."""
    with pytest.raises(UsageError):
        open_store(address)


@pytest.mark.parametrize(
    "address", ["postgresql:/me:hunter2@host/x", "postgresql://me:hunter2@host:port/x"]
)
def test_a_bad_address_is_not_shown(address: str) -> None:
    """What is no database URL may have a password all the same: no message shows it."""
    with pytest.raises(UsageError) as refused:
        open_store(address)
    assert "hunter2" not in str(refused.value)


async def test_a_function_that_breaks_badly(sqlite_url: str) -> None:
    """Whatever a function raises reaches its caller, and the writer lives on."""
    async with open_store(sqlite_url, migrations=TABLES) as store:
        for error in (StopIteration(1), GeneratorExit(), OSError()):

            def work(transaction: Transaction, error: BaseException = error) -> None:
                put(1)(transaction)
                raise error

            (end,) = await asyncio.gather(store.transaction(work), return_exceptions=True)
            assert isinstance(end, BaseException)
        assert 0 == await store.read(count)


async def test_too_many_keys(sqlite_url: str) -> None:
    """A lock takes a bounded number of keys, all of them in one statement."""
    async with open_store(sqlite_url, migrations=TABLES) as store:
        await store.transaction(put(7))
        assert "sqlite" == store.dialect
        rows = await store.transaction(lambda t: t.lock("note", range(10_000)))
        assert [7] == list(rows)
        with pytest.raises(UsageError, match="at most 10,000"):
            await store.transaction(lambda t: t.lock("note", range(10_001)))
        assert {} == await store.transaction(lambda t: t.lock("note", [1]))


async def test_doomed_transaction_goes_no_further(sqlite_url: str) -> None:
    """After a statement failed every other gives the same error, in `once` as well."""

    def work(transaction: Transaction) -> int:
        for _ in range(2):
            with suppress(ConstraintError):
                put(1)(transaction)
        with pytest.raises(ConstraintError):
            count(transaction)
        return 1

    async with open_store(sqlite_url, migrations=TABLES) as store:
        with pytest.raises(ConstraintError):
            await store.transaction(work)
        with pytest.raises(ConstraintError):
            await store.once("k", 1, work, int)
        assert 0 == await store.read(count)


async def test_sqlalchemy_statements(sqlite_url: str) -> None:
    """Statements of SQLAlchemy Core work as well as text."""
    import sqlalchemy as sa

    note = sa.table("note", sa.column("id", sa.Integer), sa.column("text", sa.Text))
    async with open_store(sqlite_url, migrations=TABLES) as store:

        def work(transaction: Transaction) -> list[str]:
            rows = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]
            assert 2 == transaction.execute(note.insert(), rows).changed
            update = note.update().where(note.c.id == 1).values(text="c").returning(note.c.text)
            assert "c" == transaction.execute(update).one().text
            query = sa.select(note.c.text).order_by(note.c.id)
            return transaction.execute(query).scalars()

        assert ["c", "b"] == await store.transaction(work)
        with pytest.raises(UsageError):
            await store.transaction(lambda t: t.execute(sa.text("COMMIT")))
        with pytest.raises(UsageError):
            await store.transaction(lambda t: t.execute(note.insert().values(nothing=1)))
        with pytest.raises(ConstraintError):
            await store.transaction(lambda t: t.execute(note.insert().values(id=1, text="d")))


def test_the_folder_of_a_file_is_made(tmp_path: Path) -> None:
    """It is there afterwards, as it was if it was; another database has none."""
    for _ in range(2):
        make_folder(f"sqlite:///{tmp_path}/a/b/data.db")
    make_folder("postgresql://nobody@nowhere/data")
    assert [tmp_path / "a", tmp_path / "a" / "b"] == sorted(tmp_path.rglob("*"))
