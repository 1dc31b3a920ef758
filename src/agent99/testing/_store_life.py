"""A store's promises: opening, migrating, bounds, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent99.clock import SystemClock
from agent99.errors import ClosedError, MigrationError, StoreError, StoreOverloadedError, UsageError
from agent99.store import Migration, Store, StoreOptions, Transaction
from agent99.testing._store_accounts import (
    MIGRATIONS,
    MakeStore,
    clear,
    error_of,
    pence_of,
    put,
)


async def check_migrations(make: MakeStore) -> None:
    """Applied once, in order, all or nothing; a history that does not fit is refused."""
    first = Migration(1, "first", ("CREATE TABLE step (n INTEGER)", "INSERT INTO step VALUES (1)"))

    def count(transaction: Transaction) -> None:
        before = transaction.execute("SELECT count(*) FROM step").scalar()
        transaction.execute("INSERT INTO step VALUES (:n)", {"n": (before or 0) + 1})

    second = Migration(2, "second", (count,))
    broken = Migration(3, "broken", (count, "CREATE TABLE"))
    async with _other(make, (first,)) as store:
        assert await store.read(_steps) == [1]
    async with _other(make, (first, second)) as store:
        assert await store.read(_steps) == [1, 2]
    error = await error_of(_other(make, (first, second, broken)).open())
    assert isinstance(error, StoreError)
    async with _other(make, (first, second)) as store:
        assert await store.read(_steps) == [1, 2]
    renamed = Migration(2, "renamed", (count,))
    for history, number in (((first,), 2), ((first, renamed), 2)):
        error = await error_of(_other(make, history).open())
        assert isinstance(error, MigrationError), error
        assert number == error.number


def _other(make: MakeStore, migrations: Sequence[Migration]) -> Store:
    """Return a store of another schema than the accounts have."""
    return make(migrations, schema="steps")


def _steps(transaction: Transaction) -> list[int]:
    return transaction.execute("SELECT n FROM step ORDER BY n").scalars()


async def check_stores_that_open_together(make: MakeStore) -> None:
    """Of several that open an old database at once, one migrates."""
    stores = [make(MIGRATIONS) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    await asyncio.gather(*(store.aclose() for store in stores))


async def check_bound(make: MakeStore) -> None:
    """Beyond `waiting_max` a transaction is refused, and does not run; then there is room again."""
    async with make(MIGRATIONS, StoreOptions(waiting_max=3)) as store:
        await store.transaction(clear)
        waiting = [asyncio.ensure_future(store.transaction(put(n, 1))) for n in "abcde"]
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert ended[:3] == [None] * 3
        for error in ended[3:]:
            assert isinstance(error, StoreOverloadedError), error
            assert (error.waiting, error.waiting_max) == (3, 3)
        await store.transaction(put("f", 1))
        names = await store.read(
            lambda t: t.execute("SELECT id FROM account ORDER BY id").scalars()
        )
        assert names == ["a", "b", "c", "f"]


async def check_cancelled_caller(make: MakeStore) -> None:
    """A caller that gives up holds nobody up."""
    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        callers = [asyncio.ensure_future(store.transaction(put(n, 1))) for n in "abcd"]
        await SystemClock().sleep(0)  # they are queued
        for caller in callers[::2]:
            caller.cancel()
        ended = await asyncio.gather(*callers, return_exceptions=True)
        assert ended[1::2] == [None, None]
        assert all(isinstance(error, asyncio.CancelledError) for error in ended[::2])
        await store.transaction(put("e", 1))


async def check_close(make: MakeStore) -> None:
    """Closing waits for what is queued, takes in nothing more, and can be done twice."""
    store = make(MIGRATIONS)
    assert isinstance(await error_of(store.transaction(clear)), UsageError)
    await store.open()
    await store.transaction(clear)
    queued = [asyncio.ensure_future(store.transaction(put(n, 1))) for n in "abc"]
    await SystemClock().sleep(0)  # they are queued
    await store.aclose()
    await store.aclose()
    assert [caller.result() for caller in queued] == [None] * 3
    assert isinstance(await error_of(store.transaction(clear)), ClosedError)
    assert isinstance(await error_of(store.read(pence_of("a"))), ClosedError)
    assert isinstance(await error_of(store.open()), UsageError)
    assert store.statistics().waiting == 0
