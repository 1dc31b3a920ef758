"""The store from outside: its life, its counts, its clean-up, its dependency."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from agent99.clock import SystemClock
from agent99.errors import InvalidNameError, UsageError
from agent99.store import Migration, StoreOptions, StoreStatistics, Transaction, open_store
from tests._wait import PATIENCE_S, eventually


class ShiftedClock(SystemClock):
    """The machine's clock, so many seconds ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def wall_us(self) -> int:
        return super().wall_us() + int(self.ahead_s * 1_000_000)


async def test_unclosed_store_warns(sqlite_url: str) -> None:
    """A store that is collected while it is open says so, and its threads end."""
    store = open_store(sqlite_url)
    await store.open()
    engine = store._engine
    ends = [desk for desk in (engine.writers, engine.readers) if desk is not None]
    stores = [store]
    del store
    with pytest.warns(ResourceWarning, match="unclosed Store"):
        stores.clear()
    for desk in ends:
        await asyncio.wait_for(asyncio.gather(*desk._ended), 5)


async def test_all_who_close_at_once_see_the_end(sqlite_url: str) -> None:
    """Each `aclose` returns once the last transaction has ended, also after one was given up."""
    gate, begun = threading.Event(), threading.Event()
    store = open_store(sqlite_url)
    await store.open()

    def hang(_: Transaction) -> bool:
        begun.set()
        return gate.wait(10)

    hanging = asyncio.create_task(store.transaction(hang))
    await eventually(begun.is_set)
    closing = [asyncio.create_task(store.aclose()) for _ in range(3)]
    await asyncio.wait(closing, timeout=0)
    closing.pop(0).cancel()
    await asyncio.wait(closing, timeout=0)
    assert not any(task.done() for task in closing)
    gate.set()
    await asyncio.wait_for(asyncio.gather(*closing), 5)
    assert await hanging
    assert "closed" in repr(store)


async def test_repr_hides_the_credential() -> None:
    """The representation says where and what state, and no password."""
    store = open_store("postgresql://ada:secret@localhost/shop?sslkey=secret", schema="orders")
    assert "Store('postgresql://localhost/shop', schema='orders', new)" == repr(store)
    await store.aclose()
    assert "closed" in repr(store)


@pytest.mark.parametrize("schema", ["", "A", "1a", "a b", "agent99", "a" * 64])
def test_schema_names(schema: str) -> None:
    """A schema's name has a grammar, and `agent99` is taken."""
    with pytest.raises(InvalidNameError):
        open_store("sqlite:///x.db", schema=schema)


@pytest.mark.parametrize("history", [(2,), (1, 3), (1, 1), (0,)])
def test_migration_numbers(history: tuple[int, ...]) -> None:
    """Migrations count 1, 2, 3."""
    migrations = [Migration(number, "x", ()) for number in history]
    with pytest.raises(UsageError, match="has number"):
        open_store("sqlite:///x.db", migrations=migrations)


def test_migration_without_a_name() -> None:
    """A migration has a name."""
    with pytest.raises(UsageError, match="no name"):
        open_store("sqlite:///x.db", migrations=[Migration(1, " ", ())])


@pytest.mark.parametrize(
    "bounds",
    [
        {"waiting_max": 0},
        {"batch_max": -1},
        {"retention_s": 0},
        {"lock_s_max": -1.0},
        {"outbox_rows_max": 0},
        {"event_bytes_max": 0},
        {"outbox_lease_s": 0},
        {"outbox_kept_s": -1.0},
    ],
)
def test_option_bounds(bounds: dict[str, int]) -> None:
    """An impossible bound is refused, and named."""
    with pytest.raises(UsageError, match=next(iter(bounds))):
        StoreOptions(**bounds)


async def test_statistics(url: str) -> None:
    """Transactions, failures, commits and reads are counted."""
    async with open_store(url) as store:
        before = store.statistics()
        await store.transaction(lambda t: t.execute("SELECT 1").scalar())
        await store.read(lambda t: t.execute("SELECT 1").scalar())
        with pytest.raises(ZeroDivisionError):
            await store.transaction(lambda _: 1 // 0)
        after = store.statistics()
        assert (2, 1, 1, 0) == (
            after.transactions - before.transactions,
            after.failures,
            after.reads,
            after.waiting,
        )


async def test_old_answers_are_cleaned_up(url: str) -> None:
    """Answers are kept for `retention_s`, then removed a few at a time."""
    clock = ShiftedClock()
    options = StoreOptions(retention_s=3600, purge_every_s=1e-9, purge_rows_max=4)
    async with open_store(url, options=options, clock=clock) as store:

        def count() -> asyncio.Future[int]:
            query = "SELECT count(*) FROM agent99_idempotency"
            return asyncio.ensure_future(store.read(lambda t: t.execute(query).scalar() or 0))

        for number in range(10):
            await store.once(f"old-{number}", 1, lambda _: 1, int)
        clock.ahead_s = 3599
        await store.once("new-0", 1, lambda _: 1, int)
        assert 0 == store.statistics().purged
        clock.ahead_s = 3700
        for number in range(1, 9):
            await store.once(f"new-{number}", 1, lambda _: 1, int)
        async with asyncio.timeout(PATIENCE_S):
            while store.statistics().purged < 10:  # four at a time; each call goes on
                await store.transaction(lambda _: None)
        assert 9 == await count()
        # Its key is as new: it takes effect again.
        assert 2 == await store.once("old-1", "other", lambda _: 2, int)


async def test_messages_seen_long_ago_are_cleaned_up(url: str) -> None:
    """A seen message is remembered for `retention_s`; without new ones nothing is cleaned up."""
    clock = ShiftedClock()
    options = StoreOptions(retention_s=3600, purge_every_s=1e-9, purge_rows_max=2)
    async with open_store(url, options=options, clock=clock) as store:

        async def is_new(message_id: str, reader: str = "") -> bool:
            return await store.transaction(lambda t: t.first_time(message_id, reader=reader))

        for number in range(5):
            assert await is_new(f"old-{number}", reader="x" * (number % 2))
        clock.ahead_s = 3599
        await store.transaction(lambda _: None)
        assert not await is_new("old-0")
        assert 0 == store.statistics().purged
        clock.ahead_s = 3700
        assert await is_new("new")
        async with asyncio.timeout(PATIENCE_S):
            while store.statistics().purged < 5:  # two at a time; each call goes on
                await store.transaction(lambda _: None)
        assert [True, False] == [await is_new("old-0"), await is_new("new")]


async def test_failed_clean_up_is_counted(sqlite_url: str) -> None:
    """A clean-up that cannot be done disturbs no caller, and is counted."""
    options = StoreOptions(purge_every_s=1e-9)
    async with open_store(sqlite_url, options=options) as store:
        await store.transaction(
            lambda t: t.execute(
                "CREATE TRIGGER keep BEFORE DELETE ON agent99_idempotency"
                " BEGIN SELECT RAISE(ABORT, 'kept'); END"
            )
        )
        clock = ShiftedClock()
        store._engine.scope.clock = clock
        await store.once("a", 1, lambda _: 1, int)
        clock.ahead_s = 8 * 24 * 3600
        await store.once("b", 1, lambda _: 1, int)
        await store.transaction(lambda _: None)
        assert 1 == store.statistics().purge_failures


async def test_no_room_for_a_clean_up(sqlite_url: str) -> None:
    """A clean-up that finds no room waits for its next turn, and is counted."""
    options = StoreOptions(purge_every_s=1e-9, waiting_max=2)
    async with open_store(sqlite_url, options=options) as store:
        await store.once("a", 1, lambda _: 1, int)
        await store.transaction(lambda _: None)
        waiting = [asyncio.ensure_future(store.transaction(lambda _: None)) for _ in range(2)]
        await SystemClock().sleep(0)  # they are queued
        store._cleaning.start()
        await asyncio.gather(*waiting)
        assert 1 == store.statistics().purge_failures
    assert "closed" in repr(store)
    store._cleaning.start()  # too late, and nothing happens


def test_statistics_of_a_new_store() -> None:
    """A store that was never opened has counted nothing."""
    store = open_store("sqlite:///never.db")
    assert StoreStatistics() == store.statistics()


async def test_reads_need_an_open_store() -> None:
    """A read before the opening is a usage error that says what to do."""
    store = open_store("sqlite:///never.db")
    with pytest.raises(UsageError, match="async with"):
        await store.read(lambda _: None)


def test_without_sqlalchemy() -> None:
    """Without SQLAlchemy the import fails with one sentence that says what to install."""
    programme = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "import agent99.errors\n"
        "try:\n import agent99.store\n"
        "except ImportError as error:\n print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", programme], capture_output=True, check=True
    )
    expected = (
        "agent99.store needs SQLAlchemy: install agent99 with its extra 'store':"
        " pip install '.[store]' in a checkout"
    )
    assert expected == ended.stdout.decode().strip()


def test_without_psycopg() -> None:
    """Without psycopg a PostgreSQL address is refused with one sentence."""
    programme = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from agent99.store import open_store\n"
        "from agent99.errors import UsageError\n"
        "try:\n open_store('postgresql://localhost/x')\n"
        "except UsageError as error:\n print(error)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", programme], capture_output=True, check=True
    )
    expected = (
        "a store on PostgreSQL needs psycopg: install agent99 with its extra 'postgres':"
        " pip install '.[postgres]' in a checkout"
    )
    assert expected == ended.stdout.decode().strip()
