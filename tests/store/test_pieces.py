"""The pieces of the store: what they say of themselves, and how they end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent99.clock import SystemClock
from agent99.errors import (
    ClosedError,
    ConstraintError,
    Failure,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from agent99.ids import SystemIds
from agent99.store import Outbox, OutboxLease, Rows, StoreOptions, open_store
from agent99.store._cleaning import Cleaning
from agent99.store._engine import Engine
from agent99.store._failures import SerializationError, store_error
from agent99.store._idempotency import Answer, Once
from agent99.store._link import Database
from agent99.store._runner import TransactionRunner
from agent99.store._scope import Scope
from agent99.store._transaction import Transaction
from agent99.store._workers import Answers, Desk, Job, Outcome


def make_scope() -> Scope:
    return Scope("main", StoreOptions(), SystemClock(), SystemIds())


def test_rows() -> None:
    """Rows can be taken whole, first, alone, or by their first column."""
    rows = Rows([(1, "a"), (2, "b")], 0)
    assert [(1, "a"), (2, "b")] == list(rows)
    assert ((1, "a"), 1, [1, 2], 2) == (rows.first(), rows.scalar(), rows.scalars(), len(rows))
    assert (None, None, []) == (Rows((), 3).first(), Rows((), 3).scalar(), Rows((), 3).scalars())
    for some in (rows, Rows((), 0)):
        with pytest.raises(StoreError, match="one row was expected"):
            some.one()
    assert "Rows(rows=2, changed=0)" == repr(rows)


async def test_representations(tmp_path: Path) -> None:
    """Every piece says what it is."""
    name = f"'sqlite:///{tmp_path}/x.db'"
    database = Database(f"sqlite:///{tmp_path}/x.db", StoreOptions())
    link = database.connect(read_only=True)
    scope = make_scope()
    transaction = Transaction(link, scope)
    loop = asyncio.get_running_loop()
    job = Job(None, loop.create_future())
    expected = {
        f"Database({name})": database,
        f"Link({name}, read_only=True)": link,
        f"Transaction({name.strip(chr(39))})": transaction,
        "Job(None, attempts=0)": job,
        "Outcome(Job(None, attempts=0), error=None)": Outcome(job, 1, None),
        "Answers(ready=0)": Answers(loop, lambda _: None),
        "Desk(reads, waiting=0)": Desk("reads", scope, print),
        f"TransactionRunner({name}, read_only=True)": TransactionRunner(
            database, scope, read_only=True
        ),
        "Answer(value=1, failure=None)": Answer(1, None),
        "Once(key='k')": Once("k", 1, lambda _: 1, int),
        "Scope('main')": scope,
        "Room(left=0, rows_max=100000)": scope.room,
        f"Engine({name}, new)": (engine := Engine(database, scope)),
        "Arrivals(has_rung=False, waiters=0)": engine.arrivals,
        "Cleaning(removed=0, failures=0)": Cleaning(engine),
        f"Outbox({name}, schema='main')": Outbox(engine),
        "OutboxLease(epoch=3, is_live=True)": OutboxLease(engine, 3, scope.clock.monotonic_s()),
    }
    assert list(expected) == [repr(piece) for piece in expected.values()]
    transaction.end()
    assert "Transaction(ended)" == repr(transaction)
    link.close()
    link.close()
    database.close()


def test_known_errors_pass() -> None:
    """An error that is agent99's already stays what it is."""
    error = StoreUnavailableError("x", "y")
    assert error is store_error(error, "x")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("53100", StoreFullError),
        ("53300", StoreUnavailableError),
        ("57P01", StoreUnavailableError),
        ("40P01", SerializationError),
        ("23505", ConstraintError),
        ("23P01", ConstraintError),
        ("42P01", StoreError),
        (None, StoreError),
    ],
)
def test_states_of_postgres(state: str | None, expected: type[StoreError]) -> None:
    """PostgreSQL's five letters lead to one kind of error each; others are a plain refusal."""

    class DriverError(Exception):
        sqlstate = state

    assert expected is type(store_error(DriverError("words\nmore"), "x"))


async def test_conflict_after_the_threads_were_told_to_end() -> None:
    """A transaction that waits to run again when the store gives up gets its answer too."""
    desk = Desk("transactions", make_scope(), print)
    answered = desk.submit(lambda _: None)
    job = desk._jobs.get()
    desk._deliver(Outcome(job, None, SerializationError("others")))
    assert 1 == desk.retries
    desk._ended.append(asyncio.get_running_loop().create_future())
    with pytest.raises(StoreError, match="closed before"):
        await asyncio.wait_for(answered, 5)
    desk.stop()
    with pytest.raises(ClosedError):
        desk.submit(lambda _: None)


async def test_closing_is_given_up(sqlite_url: str) -> None:
    """A cancelled `aclose` still ends the threads once their work is done."""
    store = open_store(sqlite_url)
    await store.open()
    writing = asyncio.ensure_future(store.transaction(lambda _: "done"))
    await SystemClock().sleep(0)
    closing = asyncio.ensure_future(store.aclose())
    await SystemClock().sleep(0)
    closing.cancel()
    assert "done" == await asyncio.wait_for(writing, 5)
    await asyncio.gather(closing, return_exceptions=True)
    assert store._engine.writers is not None
    await asyncio.wait_for(asyncio.gather(*store._engine.writers._ended), 5)


async def test_a_transaction_may_raise_a_failure(sqlite_url: str) -> None:
    """Outside `once` a `Failure` is an exception like any other."""

    def work(_: Transaction) -> None:
        raise Failure("no")

    async with open_store(sqlite_url) as store:
        with pytest.raises(Failure, match="no"):
            await store.transaction(work)
