"""A store's promises: transactions, reads, locks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agent99.errors import ConstraintError, StoreError, UsageError
from agent99.store import StoreOptions, Transaction
from agent99.testing._store_accounts import (
    CALLERS,
    MIGRATIONS,
    MakeStore,
    clear,
    error_of,
    pence_of,
    put,
)


async def check_transaction_is_whole(make: MakeStore) -> None:
    """A result means all of the effect, an error none of it; the error comes back as it is."""
    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        await store.transaction(put("a", 5))

        def half(transaction: Transaction) -> None:
            put("b", 1)(transaction)
            raise LookupError("half way")

        error = await error_of(store.transaction(half))
        assert isinstance(error, LookupError), error
        assert await store.read(pence_of("a")) == 5
        assert await store.read(pence_of("b")) is None


async def check_failing_one_fails_alone(make: MakeStore) -> None:
    """Of transactions that wait together, one that fails takes no other with it."""
    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        await store.transaction(put("taken", 1))
        names = [f"n{index}" if index % 3 else "taken" for index in range(CALLERS)]
        ended = await asyncio.gather(*(error_of(store.transaction(put(n, 1))) for n in names))
        failed = [isinstance(error, ConstraintError) for error in ended]
        assert [name == "taken" for name in names] == failed
        count = await store.read(lambda t: t.execute("SELECT count(*) FROM account").scalar())
        assert count == 1 + sum(name != "taken" for name in names)


async def check_constraints_are_typed(make: MakeStore) -> None:
    """A broken rule of the tables names its kind, and dooms the transaction even if caught."""
    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        await store.transaction(put("a", 1))
        cases: tuple[tuple[str, Callable[[Transaction], Any]], ...] = (
            ("unique", put("a", 2)),
            ("check", put("b", -1)),
            (
                "not null",
                lambda t: t.execute("INSERT INTO account (id, pence) VALUES ('c', NULL)"),
            ),
        )
        for kind, work in cases:
            error = await error_of(store.transaction(work))
            assert isinstance(error, ConstraintError), error
            assert kind == error.kind

        def catches(transaction: Transaction) -> str:
            put("d", 1)(transaction)
            try:
                put("a", 3)(transaction)
            except ConstraintError:
                return "went on"
            return "was not refused"

        assert isinstance(await error_of(store.transaction(catches)), ConstraintError)
        assert await store.read(pence_of("d")) is None


async def check_misuse_is_refused(make: MakeStore) -> None:
    """Ending the transaction, writing in a read, keeping it, or an async function is an error."""
    async with make(MIGRATIONS) as store:
        await store.transaction(clear)

        async def asynchronous(_: Transaction) -> None:
            """Never runs."""

        kept: list[Transaction] = []
        await store.transaction(kept.append)
        misuses: tuple[Callable[[Transaction], Any], ...] = (
            asynchronous,
            lambda _: kept[0].execute("SELECT 1"),
            lambda t: t.execute("COMMIT"),
            lambda t: t.execute(" -- so\n /* and so */ ; rollback"),
        )
        for work in misuses:
            assert isinstance(await error_of(store.transaction(work)), UsageError)
        assert isinstance(await error_of(store.read(put("a", 1))), UsageError)
        assert isinstance(
            await error_of(store.transaction(lambda t: t.execute("SELEC"))), StoreError
        )
        await store.transaction(put("a", 1))


async def check_rows(make: MakeStore) -> None:
    """Rows are read by name and index; counts are those of changed rows; too many are refused."""
    async with make(MIGRATIONS, StoreOptions(rows_max=10)) as store:
        await store.transaction(clear)
        people = [{"id": f"p{index}", "pence": index} for index in range(11)]

        def work(transaction: Transaction) -> None:
            insert = "INSERT INTO account (id, pence) VALUES (:id, :pence)"
            assert transaction.execute(insert, people).changed == 11
            assert 0 == transaction.execute(insert, []).changed
            update = "UPDATE account SET pence = pence + :by WHERE pence < 2 RETURNING id, pence"
            raised = transaction.execute(update, {"by": 100})
            assert raised.changed == 2
            assert {("p0", 100), ("p1", 101)} == {tuple(row) for row in raised}
            query = "SELECT id, pence FROM account WHERE id = 'p2' OR id = :id ORDER BY id"
            found = transaction.execute(query, {"id": "p3"})
            assert found.scalars() == ["p2", "p3"]
            assert (found.changed, len(found), found.all()[0].pence) == (0, 2, 2)
            odd = "SELECT '50%' AS share, ':no' AS name, CAST(:n AS INTEGER) AS n"
            assert tuple(transaction.execute(odd, {"n": 7}).one()) == ("50%", ":no", 7)

        await store.transaction(work)
        error = await error_of(store.read(lambda t: t.execute("SELECT * FROM account")))
        assert isinstance(error, StoreError)
        assert "rows_max" in str(error)


async def check_tuples(make: MakeStore) -> None:
    """`tuples` gives the values that `execute` gives, bare, and is refused what that is refused."""
    async with make(MIGRATIONS, StoreOptions(rows_max=10)) as store:
        await store.transaction(clear)
        for name in ("a", "b", *(f"c{number}" for number in range(9))):
            await store.transaction(put(name, 1))
        query = "SELECT id, pence FROM account WHERE id <= :last ORDER BY id"

        def work(transaction: Transaction) -> None:
            found = transaction.tuples(query, {"last": "b"})
            assert [("a", 1), ("b", 1)] == list(found)
            assert {tuple} == set(map(type, found))
            assert [("50%",)] == list(transaction.tuples("SELECT '50%'"))
            assert 0 == len(transaction.tuples(query, {"last": ""}))
            raised = "UPDATE account SET pence = pence + 1 WHERE id = 'a'"
            assert 0 == len(transaction.tuples(raised))
            assert [(2,)] == list(transaction.tuples(f"{raised[:-3]}'b' RETURNING pence"))

        await store.transaction(work)
        assert await store.read(pence_of("a")) == 2
        error = await error_of(store.read(lambda t: t.tuples(query, {"last": "c9"})))
        assert isinstance(error, StoreError), error
        assert "rows_max" in str(error)
        kept: list[Transaction] = []
        await store.transaction(kept.append)
        misuses: tuple[Callable[[Transaction], Any], ...] = (
            lambda _: kept[0].tuples("SELECT 1"),
            lambda t: t.tuples("COMMIT"),
        )
        for misuse in misuses:
            assert isinstance(await error_of(store.transaction(misuse)), UsageError)

        def catches(transaction: Transaction) -> Any:
            put("d", 1)(transaction)
            with suppress(StoreError):
                transaction.tuples("SELEC")
            return transaction.tuples("SELECT 1")

        assert isinstance(await error_of(store.transaction(catches)), StoreError)
        assert await store.read(pence_of("d")) is None


async def check_lock(make: MakeStore) -> None:
    """`lock` gives the rows by key, in the order of the keys, without those that are not there."""
    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        for name in ("c", "a", "b"):
            await store.transaction(put(name, 1))

        def work(transaction: Transaction) -> list[str]:
            assert transaction.lock("account", ()) == {}
            rows = transaction.lock("account", ("c", "b", "none", "c"))
            assert rows["b"].pence == 1
            return list(rows)

        assert await store.transaction(work) == ["b", "c"]


async def check_money_is_conserved(make: MakeStore) -> None:
    """Many callers that move money between the same few rows neither make nor lose any."""
    names = [f"m{index}" for index in range(5)]
    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        for name in names:
            await store.transaction(put(name, 100))

        def move(source: str, target: str, pence: int) -> Callable[[Transaction], bool]:
            def work(transaction: Transaction) -> bool:
                rows = transaction.lock("account", (source, target))
                if source == target or rows[source].pence < pence:
                    return False
                change = "UPDATE account SET pence = pence + :by WHERE id = :id"
                transaction.execute(change, {"by": -pence, "id": source})
                transaction.execute(change, {"by": pence, "id": target})
                return True

            return work

        async def caller(index: int) -> None:
            for turn in range(8):
                source, target = names[index % 5], names[(index + turn) % 5]
                await store.transaction(move(source, target, 1 + (index * turn) % 40))

        await asyncio.gather(*(caller(index) for index in range(CALLERS)))
        total = await store.read(lambda t: t.execute("SELECT sum(pence) FROM account").scalar())
        assert total is not None
        assert int(total) == 500
