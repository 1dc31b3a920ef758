"""What is PostgreSQL's own: many writers, conflicts, a server that goes away."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from agent99.errors import (
    StoreUnavailableError,
    TransactionConflictError,
)
from agent99.store import Migration, StoreOptions, Transaction, open_store
from tests._postgres import Postgres, free_port

TABLES = (Migration(1, "rows", ("CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER)",)),)
WAIT_S = 10.0


def put(number: int) -> Callable[[Transaction], None]:
    def work(transaction: Transaction) -> None:
        transaction.execute("INSERT INTO counter VALUES (:id, 0)", {"id": number})

    return work


def add_both(first: int, second: int) -> Callable[[Transaction], None]:
    """Count two rows up, without a lock and in the given order: it can deadlock."""

    def work(transaction: Transaction) -> None:
        for number in (first, second):
            transaction.execute("UPDATE counter SET n = n + 1 WHERE id = :id", {"id": number})

    return work


def read_then_add(number: int) -> Callable[[Transaction], None]:
    """Count a row up the naive way, which only a serializable transaction may."""

    def work(transaction: Transaction) -> None:
        seen = transaction.execute("SELECT n FROM counter WHERE id = :id", {"id": number}).scalar()
        change = "UPDATE counter SET n = :n WHERE id = :id"
        transaction.execute(change, {"id": number, "n": (seen or 0) + 1})

    return work


def total(transaction: Transaction) -> int:
    return int(transaction.execute("SELECT sum(n) FROM counter").scalar() or 0)


async def test_deadlocks_are_run_again(postgres_url: str) -> None:
    """Transactions that lock in opposite orders all take effect, once each."""
    meet = threading.Barrier(2)
    ran: list[int] = []

    def meeting(first: int, second: int) -> Callable[[Transaction], None]:
        def work(transaction: Transaction) -> None:
            ran.append(first)
            add = "UPDATE counter SET n = n + 1 WHERE id = :id"
            transaction.execute(add, {"id": first})
            if len(ran) <= 2:  # both hold their first row before either asks for its second
                meet.wait(WAIT_S)
            transaction.execute(add, {"id": second})

        return work

    async with open_store(postgres_url, migrations=TABLES) as store:
        await store.transaction(put(1))
        await store.transaction(put(2))
        await asyncio.gather(store.transaction(meeting(1, 2)), store.transaction(meeting(2, 1)))
        assert 4 == await store.read(total)
        assert 1 == store.statistics().retries


async def test_serializable_transactions_are_run_again(postgres_url: str) -> None:
    """Naive counting is exact when transactions are serializable."""
    options = StoreOptions(isolation="serializable", attempts_max=1000)
    async with open_store(postgres_url, migrations=TABLES, options=options) as store:
        await store.transaction(put(1))
        await asyncio.gather(*(store.transaction(read_then_add(1)) for _ in range(40)))
        assert 40 == await store.read(total)


async def test_conflicts_end(postgres_url: str) -> None:
    """After `attempts_max` a transaction is given up, typed; it took no effect."""
    meet = threading.Barrier(2)
    options = StoreOptions(isolation="serializable", attempts_max=1)

    def meeting(transaction: Transaction) -> None:
        transaction.execute("SELECT n FROM counter")
        meet.wait(WAIT_S)
        read_then_add(1)(transaction)

    async with open_store(postgres_url, migrations=TABLES, options=options) as store:
        await store.transaction(put(1))
        ended = await asyncio.gather(
            *(store.transaction(meeting) for _ in range(2)), return_exceptions=True
        )
        (error,) = [end for end in ended if end is not None]
        assert isinstance(error, TransactionConflictError)
        assert 1 == error.attempts
        assert 1 == await store.read(total)


async def test_duplicate_waits_for_the_first(postgres_url: str) -> None:
    """A call with a key that is under way waits, and gets the first one's answer."""
    loop = asyncio.get_running_loop()
    under_way, go_on = asyncio.Event(), threading.Event()

    def slow(transaction: Transaction) -> str:
        put(1)(transaction)
        loop.call_soon_threadsafe(under_way.set)
        assert go_on.wait(WAIT_S)
        return "first"

    async with (
        open_store(postgres_url, migrations=TABLES) as one,
        open_store(postgres_url, migrations=TABLES) as other,
    ):
        first = asyncio.ensure_future(one.once("k", 1, slow, str))
        await under_way.wait()
        again = asyncio.ensure_future(other.once("k", 1, lambda _: "second", str))
        await other.transaction(lambda _: None)
        while await one.read(locks_waited_for) == 0:
            assert not again.done()
        go_on.set()
        assert ["first", "first"] == await asyncio.gather(first, again)


async def test_duplicate_of_one_that_fails(postgres_url: str) -> None:
    """A call that waited for a first one that failed takes effect itself."""
    loop = asyncio.get_running_loop()
    under_way, go_on = asyncio.Event(), threading.Event()

    def fails(transaction: Transaction) -> str:
        put(1)(transaction)
        loop.call_soon_threadsafe(under_way.set)
        assert go_on.wait(WAIT_S)
        raise LookupError("first")

    def works(transaction: Transaction) -> str:
        put(1)(transaction)
        return "second"

    async with open_store(postgres_url, migrations=TABLES) as store:
        first = asyncio.ensure_future(store.once("k", 1, fails, str))
        await under_way.wait()
        again = asyncio.ensure_future(store.once("k", 1, works, str))
        while await store.read(locks_waited_for) == 0:
            assert not again.done()
        go_on.set()
        with pytest.raises(LookupError, match="first"):
            await first
        assert "second" == await again


def locks_waited_for(transaction: Transaction) -> int:
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return int(transaction.execute(waiting).scalar() or 0)


HELD_COMMIT = Migration(
    2,
    "a commit that can be held",
    (
        """
        CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_advisory_xact_lock(42);
            RETURN NULL;
        END $$
        """,
        """
        CREATE CONSTRAINT TRIGGER held AFTER INSERT ON counter DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.id = 42) EXECUTE FUNCTION hold()
        """,
    ),
)


def put_and_tell(number: int, key: str) -> Callable[[Transaction], None]:
    def work(transaction: Transaction) -> None:
        put(number)(transaction)
        transaction.append("put", {"number": number}, key=key)

    return work


async def test_events_of_one_key_are_seen_in_their_order(postgres_url: str) -> None:
    """A transaction that is about to commit holds up those of its key, and nobody else's.

    Else a later event could be seen, and sent, while the earlier one is still hidden.
    """
    migrations = (*TABLES, HELD_COMMIT)
    async with open_store(postgres_url, migrations=migrations) as store:
        lease = await store.outbox.claim()
        assert lease is not None

        async def seen() -> list[bytes]:
            assert lease is not None
            return [row.body for row in await lease.take()]

        with psycopg.connect(postgres_url) as holder:
            holder.execute("SELECT pg_advisory_xact_lock(42)")
            first = asyncio.ensure_future(store.transaction(put_and_tell(42, "k")))
            while await store.read(locks_waited_for) < 1:
                assert not first.done()
            second = asyncio.ensure_future(store.transaction(put_and_tell(1, "k")))
            while await store.read(locks_waited_for) < 2:
                assert not second.done()
            await store.transaction(put_and_tell(2, "other"))
            assert [b'{"number":2}'] == await seen()
            holder.rollback()
        await asyncio.gather(first, second)
        numbers = [b'{"number":42}', b'{"number":1}', b'{"number":2}']
        assert numbers == sorted(await seen(), key=numbers.index)
        of_key = [body for body in await seen() if body != b'{"number":2}']
        assert numbers[:2] == of_key


async def test_several_keys_in_any_order(postgres_url: str) -> None:
    """Transactions that append under the same keys in different orders do not deadlock."""

    def work(*keys: str) -> Callable[[Transaction], None]:
        def run(transaction: Transaction) -> None:
            for key in keys:
                transaction.append("t", None, key=key)

        return run

    async with open_store(postgres_url) as store:
        orders = (("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a"))
        await asyncio.gather(*(store.transaction(work(*orders[n % 3])) for n in range(24)))
        assert 72 == (await store.outbox.counts()).waiting
        assert 0 == store.statistics().retries


async def test_lock_that_does_not_come(postgres_url: str) -> None:
    """Who waits for a lock longer than `lock_s_max` gets a typed error that may be retried."""
    options = StoreOptions(lock_s_max=0.05)
    async with open_store(postgres_url, migrations=TABLES, options=options) as store:
        await store.transaction(put(1))
        with psycopg.connect(postgres_url) as other:
            other.execute("SELECT * FROM counter FOR UPDATE")
            with pytest.raises(StoreUnavailableError, match="lock timeout") as caught:
                await store.transaction(lambda t: t.lock("counter", [1]))
            assert caught.value.retryable
        assert [1] == list(await store.transaction(lambda t: t.lock("counter", [1])))


async def test_statement_that_takes_too_long(postgres_url: str) -> None:
    """A statement ends after `statement_s_max`."""
    options = StoreOptions(statement_s_max=0.05)
    async with open_store(postgres_url, options=options) as store:
        with pytest.raises(StoreUnavailableError, match="statement timeout"):
            await store.transaction(lambda t: t.execute("SELECT pg_sleep(60)"))
        assert 1 == await store.transaction(lambda t: t.execute("SELECT 1").scalar())


async def test_cut_connections_are_replaced(postgres_url: str) -> None:
    """A connection that the server ended while it was idle is replaced, and nobody notices."""
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    options = StoreOptions(writers_max=2, readers_max=1)
    async with open_store(postgres_url, migrations=TABLES, options=options) as store:
        await asyncio.gather(*(store.transaction(lambda _: None) for _ in range(8)))
        await store.read(total)
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute(cut)
        await asyncio.gather(*(store.transaction(put(n)) for n in range(8)))
        counted = await store.read(lambda t: t.execute("SELECT count(*) FROM counter").scalar())
        assert 8 == counted


async def test_connection_cut_by_its_own_statement(postgres_url: str) -> None:
    """A connection that breaks again and again is a typed error, and the store goes on."""
    async with open_store(postgres_url) as store:
        with pytest.raises(StoreUnavailableError) as caught:
            await store.transaction(
                lambda t: t.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            )
        assert not caught.value.outcome_unknown
        assert 1 == await store.transaction(lambda t: t.execute("SELECT 1").scalar())


async def test_nobody_listens() -> None:
    """A missing server is one typed error that names the address without its credential."""
    url = f"postgresql://ada:secret@127.0.0.1:{free_port()}/shop"
    with pytest.raises(StoreUnavailableError) as caught:
        async with open_store(url):
            pass
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in caught.value.database


async def test_keys_of_other_types(postgres_url: str) -> None:
    """Rows are locked by keys of any type: whole numbers, UUIDs as text."""
    table = 'CREATE TABLE item (id UUID PRIMARY KEY, "order" BIGINT NOT NULL UNIQUE)'
    key = "0d2c1f6e-4a55-4a2b-9d53-111111111111"
    async with open_store(postgres_url, migrations=(Migration(1, "item", (table,)),)) as store:
        insert = "INSERT INTO item VALUES (:id, 7)"
        await store.transaction(lambda t: t.execute(insert, {"id": key}))
        rows = await store.transaction(lambda t: t.lock("item", [key]))
        assert [key] == [str(found) for found in rows]
        assert [7] == list(await store.transaction(lambda t: t.lock("item", [7, 8], key="order")))


@pytest.fixture
def own_server(postgres: Postgres) -> Iterator[Postgres]:
    """Give a server that the test may end."""
    folder = Path(tempfile.mkdtemp(prefix="agent99-postgres-"))
    server = Postgres(postgres.binaries, folder)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
async def test_server_dies_under_load(own_server: Postgres) -> None:
    """Through a server's sudden end what was acknowledged lasts, and the store recovers."""
    url = own_server.make_database()
    acknowledged: list[int] = []
    unknown: list[int] = []
    progress = asyncio.Condition()
    stop = asyncio.Event()

    async with open_store(url, migrations=TABLES) as store:

        async def caller(start: int) -> None:
            number = start
            while not stop.is_set():
                try:
                    await store.transaction(put(number))
                    acknowledged.append(number)
                    async with progress:
                        progress.notify_all()
                except StoreUnavailableError as error:
                    if error.outcome_unknown:
                        unknown.append(number)
                number += 100

        callers = [asyncio.ensure_future(caller(index)) for index in range(16)]
        async with progress:
            await progress.wait_for(lambda: len(acknowledged) >= 200)
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.start)
        enough = len(acknowledged) + 200
        async with progress:
            await progress.wait_for(lambda: len(acknowledged) >= enough)
        stop.set()
        await asyncio.gather(*callers)
        found = await store.read(lambda t: t.execute("SELECT id FROM counter").scalars())
    assert set() == set(acknowledged) - set(found)
    assert set() == set(found) - set(acknowledged) - set(unknown)
