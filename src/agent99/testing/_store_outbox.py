"""A store's promises: what a transaction appends leaves with its effect, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from agent99.clock import SystemClock
from agent99.errors import (
    Failure,
    InvalidNameError,
    PayloadTooLargeError,
    StoreError,
    StoreOverloadedError,
    UsageError,
)
from agent99.store import OutboxLease, OutboxReceipt, OutboxRow, Store, StoreOptions, Transaction
from agent99.testing._store_accounts import (
    CALLERS,
    MIGRATIONS,
    MakeStore,
    clear,
    error_of,
    pence_of,
    put,
)


class _Opened(msgspec.Struct, frozen=True):
    account: str
    pence: int


def open_account(name: str, pence: int = 1) -> Callable[[Transaction], str]:
    """Return a function that makes an account and appends that it did; it gives the event's id."""

    def work(transaction: Transaction) -> str:
        event_id = transaction.append("account.opened", _Opened(name, pence), key=name)
        put(name, pence)(transaction)
        return event_id

    return work


async def owned(store: Store) -> OutboxLease:
    """Claim the outbox and empty it of what other checks left."""
    lease = await store.outbox.claim()
    assert lease is not None
    while rows := await lease.take(10_000):
        await lease.mark(receipts(rows, stream="before"))
    return lease


def receipts(
    rows: Sequence[OutboxRow], *, stream: str = "log", first: int = 1
) -> list[OutboxReceipt]:
    """Return receipts for rows that were stored one after the other."""
    return [
        OutboxReceipt(row.position, stream, sequence)
        for sequence, row in enumerate(rows, start=first)
    ]


async def check_events_leave_with_the_effect(make: MakeStore) -> None:
    """A transaction that commits has its events in the outbox, whole; one that fails has none."""

    def fails(transaction: Transaction) -> None:
        open_account("b")(transaction)
        raise LookupError("after the append")

    def appends(transaction: Transaction) -> tuple[str, str]:
        return (
            transaction.append("A.B", {"x": [1]}, headers={"tenant": "7"}, traceparent="00-1-2-01"),
            transaction.append("a.c", None, key="k/ü"),
        )

    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        lease = await owned(store)
        before_us = SystemClock().wall_us()
        opened = await store.transaction(open_account("a", 5))
        assert isinstance(await error_of(store.transaction(fails)), LookupError)
        plain, keyed = await store.transaction(appends)
        rows = await lease.take()
        assert [opened, plain, keyed] == [row.id for row in rows]
        assert [("account.opened", "a"), ("a.b", plain), ("a.c", "k/ü")] == [
            (row.topic, row.key) for row in rows
        ]
        assert [b'{"account":"a","pence":5}', b'{"x":[1]}', b"{}"] == [row.body for row in rows]
        assert [b"", b'{"tenant":"7"}', b""] == [row.headers for row in rows]
        assert ["", "00-1-2-01", ""] == [row.traceparent for row in rows]
        assert sorted(row.position for row in rows) == [row.position for row in rows]
        assert all(before_us <= row.created_us <= SystemClock().wall_us() for row in rows)
        await lease.release()


async def check_a_failing_one_takes_no_events_with_it(make: MakeStore) -> None:
    """Of transactions that wait together each has its own events, also where some fail."""

    def work(name: str, *, fails: bool) -> Callable[[Transaction], str]:
        def run(transaction: Transaction) -> str:
            event_id = open_account(name)(transaction)
            if fails:
                raise LookupError(name)
            return event_id

        return run

    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        lease = await owned(store)
        ended = await asyncio.gather(
            *(
                store.transaction(work(f"n{index}", fails=index % 3 == 0))
                for index in range(CALLERS)
            ),
            return_exceptions=True,
        )
        appended = {end for end in ended if isinstance(end, str)}
        assert CALLERS - len(appended) == sum(index % 3 == 0 for index in range(CALLERS))
        assert appended == {row.id for row in await lease.take()}
        await lease.release()


async def check_once_appends_once(make: MakeStore) -> None:
    """Under a key the events leave once; those of a refusal that is kept do not leave."""

    def refuse(transaction: Transaction) -> str:
        open_account("no")(transaction)
        raise Failure("no", code="NO")

    async with make(MIGRATIONS) as store:
        await store.transaction(clear)
        lease = await owned(store)
        answers = await asyncio.gather(
            *(store.once("k-outbox", 1, open_account("a"), str) for _ in range(CALLERS))
        )
        for _ in range(2):
            assert isinstance(await error_of(store.once("k-no-event", 1, refuse, str)), Failure)
        assert {row.id for row in await lease.take()} == set(answers)
        assert await store.read(pence_of("no")) is None
        await lease.release()


async def check_appends_are_checked(make: MakeStore) -> None:
    """What could not be sent is refused in the transaction, which then takes no effect."""
    wrong: tuple[tuple[type[UsageError], dict[str, Any]], ...] = (
        (InvalidNameError, {"topic": "a b"}),
        (InvalidNameError, {"topic": ""}),
        (InvalidNameError, {"topic": "a.*"}),
        (InvalidNameError, {"key": "x" * 129}),
        (InvalidNameError, {"key": "nul\0"}),
        (InvalidNameError, {"key": "\ud800"}),
        (InvalidNameError, {"traceparent": "x" * 257}),
        (UsageError, {"event": [1]}),
        (UsageError, {"event": {"header": 1}}),
        (UsageError, {"event": {"x": object()}}),
        (UsageError, {"headers": {"event_uuid": "mine"}}),
        (PayloadTooLargeError, {"event": {"x": "y" * 100}}),
    )

    def work(values: dict[str, Any]) -> Callable[[Transaction], str]:
        def run(transaction: Transaction) -> str:
            put("wrong", 1)(transaction)
            rest: dict[str, Any] = {"topic": "a", "event": None, **values}
            return transaction.append(rest.pop("topic"), rest.pop("event"), **rest)

        return run

    async with make(MIGRATIONS, StoreOptions(event_bytes_max=100)) as store:
        await store.transaction(clear)
        lease = await owned(store)
        for kind, values in wrong:
            error = await error_of(store.transaction(work(values)))
            assert isinstance(error, kind), (values, error)
        error = await error_of(store.read(lambda t: t.append("a", None)))
        assert isinstance(error, UsageError), error
        kept: list[Transaction] = []
        await store.transaction(kept.append)
        error = await error_of(store.transaction(lambda _: kept[0].append("a", None)))
        assert isinstance(error, UsageError), error
        assert await store.read(pence_of("wrong")) is None
        assert await lease.take() == []
        await lease.release()


async def check_outbox_bound(make: MakeStore) -> None:
    """A full outbox refuses transactions that append, and no others, until there is room again."""
    clock = SystemClock()
    async with make(MIGRATIONS, StoreOptions(outbox_rows_max=5)) as store:
        await store.transaction(clear)
        lease = await owned(store)
        ended = [await error_of(store.transaction(open_account(name))) for name in "abcdef"]
        assert [None] * 5 == ended[:5]
        assert isinstance(ended[5], StoreOverloadedError), ended[5]
        assert ended[5].what == "outbox rows"
        assert ended[5].retryable
        assert await store.read(pence_of("f")) is None
        await store.transaction(put("g", 1))
        await lease.mark(receipts(await lease.take()))
        until_s = clock.monotonic_s() + 5.0
        while isinstance(await error_of(store.transaction(open_account("h"))), StoreError):
            assert clock.monotonic_s() < until_s, "there is room, and it is not found"
            await clock.sleep(0.01)
        assert [row.key for row in await lease.take()] == ["h"]
        await lease.release()
