"""Idempotent transactions against a naive model."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.errors import (
    Failure,
    IdempotencyConflictError,
    TransactionConflictError,
    UsageError,
)
from agent99.store import Migration, StoreOptions, Transaction, open_store
from agent99.store._idempotency import fingerprint

TABLES = (Migration(1, "effects", ("CREATE TABLE effect (value INTEGER)",)),)


class Call(NamedTuple):
    """One call: its key, its request, and how its function ends."""

    key: str
    request: int
    end: str
    value: int


calls = st.builds(
    Call,
    st.sampled_from("abcd"),
    st.integers(0, 1),
    st.sampled_from(["answer", "answer", "refuse", "busy", "bug"]),
    st.integers(0, 1000),
)


class Model:
    """What should happen, the naive way: one call after the other, a dictionary for the table."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[int, Any]] = {}
        self.effects: list[int] = []

    def call(self, call: Call) -> Any:
        if call.key in self.kept:
            request, answer = self.kept[call.key]
            return answer if request == call.request else "conflict"
        if call.end in ("busy", "bug"):
            return call.end
        answer = call.value if call.end == "answer" else f"refused {call.value}"
        self.kept[call.key] = (call.request, answer)
        if call.end == "answer":
            self.effects.append(call.value)
        return answer


def work(call: Call) -> Callable[[Transaction], int]:
    def run(transaction: Transaction) -> int:
        transaction.execute("INSERT INTO effect VALUES (:value)", {"value": call.value})
        if call.end == "refuse":
            raise Failure(f"refused {call.value}")
        if call.end == "busy":
            raise Failure("busy", retryable=True)
        if call.end == "bug":
            raise LookupError("bug")
        return call.value

    return run


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(calls, min_size=1, max_size=8), max_size=8), st.integers(1, 4))
def test_once_against_the_model(groups: list[list[Call]], batch_max: int) -> None:
    """Calls that come together, in batches of any size, end as if they came one by one."""
    model = Model()

    async def run(url: str) -> None:
        options = StoreOptions(batch_max=batch_max)
        async with open_store(url, migrations=TABLES, options=options) as store:

            async def end_of(call: Call) -> Any:
                try:
                    return await store.once(call.key, call.request, work(call), int)
                except (Failure, LookupError) as error:
                    return str(error.args[0])
                except IdempotencyConflictError:
                    return "conflict"

            for group in groups:
                expected = [model.call(call) for call in group]
                assert expected == await asyncio.gather(*(end_of(call) for call in group))
            rows = await store.read(lambda t: t.execute("SELECT value FROM effect").scalars())
            assert sorted(model.effects) == sorted(rows)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(f"sqlite:///{folder}/x.db"))


class _Plain(msgspec.Struct):
    a: int
    b: str


class _Turned(msgspec.Struct):
    b: str
    a: int


def test_fingerprint_is_of_the_content() -> None:
    """The order of fields and keys does not matter; any other difference does."""
    same = (_Plain(1, "x"), _Turned("x", 1), {"b": "x", "a": 1}, {"a": 1, "b": "x"})
    assert 1 == len({fingerprint(request) for request in same})
    others = ({"a": 1}, {"a": 2, "b": "x"}, {"a": "1", "b": "x"}, [1, "x"], None)
    assert 6 == len({fingerprint(request) for request in (*others, same[0])})


@pytest.mark.parametrize("request_", [object(), {1: object()}, float])
def test_fingerprint_of_no_json(request_: object) -> None:
    """What JSON cannot carry is a usage error."""
    with pytest.raises(UsageError):
        fingerprint(request_)


async def test_an_answer_that_goes_out_of_date_meanwhile(sqlite_url: str) -> None:
    """A key that is neither free nor there, as during a clean-up, is tried again; then typed."""
    options = StoreOptions(attempts_max=3)
    async with open_store(sqlite_url, options=options) as store:
        await store.transaction(
            lambda t: t.execute(
                "CREATE TRIGGER gone BEFORE INSERT ON agent99_idempotency"
                " WHEN NEW.key = 'k' BEGIN SELECT RAISE(IGNORE); END"
            )
        )
        with pytest.raises(TransactionConflictError) as caught:
            await store.once("k", 1, lambda _: 1, int)
        assert 3 == caught.value.attempts
        assert 1 == await store.once("other", 1, lambda _: 1, int)


async def test_schemas_do_not_share_keys(url: str) -> None:
    """Two schemas in one database have keys of their own."""
    for schema in ("one", "two"):
        async with open_store(url, schema=schema) as store:
            assert schema == await store.once("k", 1, lambda _, schema=schema: schema, str)
