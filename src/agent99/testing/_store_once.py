"""A store's promises: a key takes effect once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from agent99.errors import (
    ConstraintError,
    Failure,
    IdempotencyConflictError,
    StoreError,
    UsageError,
)
from agent99.store import Transaction
from agent99.testing._store_accounts import (
    CALLERS,
    MIGRATIONS,
    MakeStore,
    clear,
    error_of,
    pence_of,
    put,
)


class _Receipt(msgspec.Struct, frozen=True):
    number: int
    lines: tuple[str, ...]


async def check_once(make: MakeStore) -> None:
    """A key takes effect once; the same request gets the same answer, another is a conflict."""
    receipt = _Receipt(1, ("x", "y"))

    def work(transaction: Transaction) -> _Receipt:
        put("once", 1)(transaction)
        return receipt

    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        answers = await asyncio.gather(
            *(store.once("k-once", {"a": 1, "b": 2}, work, _Receipt) for _ in range(CALLERS))
        )
        assert [receipt] * CALLERS == answers
    async with make(MIGRATIONS) as store:
        assert receipt == await store.once("k-once", {"b": 2, "a": 1}, work, _Receipt)
        error = await error_of(store.once("k-once", {"a": 2}, work, _Receipt))
        assert isinstance(error, IdempotencyConflictError), error
        assert error.key == "k-once"
        assert isinstance(
            await error_of(store.once("k-once", {"a": 1, "b": 2}, work, int)), StoreError
        )
        assert await store.read(pence_of("once")) == 1


async def check_failures_are_answers(make: MakeStore) -> None:
    """A `Failure` undoes the effect and is kept; a retryable one, or a crash, leaves no trace."""
    calls: list[str] = []

    def refuse(failure: Exception) -> Callable[[Transaction], int]:
        def work(transaction: Transaction) -> int:
            calls.append(str(failure))
            put("refused", 1)(transaction)
            raise failure

        return work

    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        no = Failure("Card declined", code="PAYMENT_DECLINED", details={"reason": "funds"})
        for _ in range(3):
            error = await error_of(store.once("k-no", 1, refuse(no), int))
            assert isinstance(error, Failure), error
            assert (
                error.code,
                error.details,
                error.message,
                error.retryable,
            ) == ("PAYMENT_DECLINED", {"reason": "funds"}, "Card declined", False)
        assert len(calls) == 1
        for passing in (Failure("busy", retryable=True), ValueError("a bug")):
            for _ in range(2):
                assert str(passing) == str(
                    await error_of(store.once("k-maybe", 1, refuse(passing), int))
                )
        assert len(calls) == 5
        assert await store.read(pence_of("refused")) is None
        assert await store.once("k-maybe", 1, lambda _: 7, int) == 7


async def check_caught_constraint_can_be_a_failure(make: MakeStore) -> None:
    """A broken rule that the function turns into a `Failure` is kept like any other."""

    def work(transaction: Transaction) -> int:
        try:
            put("there", 1)(transaction)
        except ConstraintError:
            raise Failure("there already", code="EXISTS") from None
        return 1

    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        await store.transaction(put("there", 1))
        for _ in range(2):
            error = await error_of(store.once("k-there", 1, work, int))
            assert isinstance(error, Failure), error
            assert error.code == "EXISTS"


async def check_answers_must_be_json(make: MakeStore) -> None:
    """An answer that cannot be kept, or read back as its type, takes no effect."""

    def work(answer: Any) -> Callable[[Transaction], Any]:
        def insert(transaction: Transaction) -> Any:
            put("odd", 1)(transaction)
            return answer

        return insert

    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        assert isinstance(await error_of(store.once("k-odd", 1, work(object()), int)), UsageError)
        assert isinstance(await error_of(store.once("k-odd", 1, work("text"), int)), StoreError)
        assert isinstance(await error_of(store.once("k-odd", object(), work(1), int)), UsageError)
        for key in ("", "x" * 257, "nul\0", "\ud800"):
            assert isinstance(await error_of(store.once(key, 1, work(1), int)), UsageError)
        assert await store.read(pence_of("odd")) is None
