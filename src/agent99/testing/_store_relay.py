"""A store's promises: the outbox has one owner, who takes rows in order and marks them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agent99.clock import SystemClock
from agent99.errors import LeaseLostError, UsageError
from agent99.store import (
    OutboxHeight,
    OutboxLease,
    OutboxRow,
    Store,
    StoreOptions,
    Transaction,
)
from agent99.testing._store_accounts import MakeStore, error_of
from agent99.testing._store_outbox import owned, receipts

_LEASE_S = 0.3
_WAIT_S = 10.0


def _append(*numbers: int) -> Callable[[Transaction], None]:
    def work(transaction: Transaction) -> None:
        for number in numbers:
            transaction.append("number", {"n": number}, key=f"k{number % 3}")

    return work


async def _numbers(lease: OutboxLease, rows_max: int = 256, *, after: int = 0) -> list[bytes]:
    return [row.body for row in await lease.take(rows_max, after=after)]


def _bodies(*numbers: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in numbers]


async def check_rows_wait_until_they_are_marked(make: MakeStore) -> None:
    """Rows come in order, again and again, until they are marked; both kinds are counted."""
    async with make(schema="relay") as store:
        lease = await owned(store)
        kept = (await store.outbox.counts()).stored
        await store.transaction(_append(0, 1, 2))
        await store.transaction(_append(3, 4))
        for _ in range(2):
            assert _bodies(0, 1, 2, 3, 4) == await _numbers(lease)
        assert _bodies(0, 1) == await _numbers(lease, 2)
        rows = await lease.take()
        assert _bodies(3, 4) == await _numbers(lease, after=rows[2].position)
        some = receipts([rows[0], rows[3]])
        assert [2, 0] == [await lease.mark(some) for _ in range(2)]
        assert await lease.mark([]) == 0
        assert _bodies(1, 2, 4) == await _numbers(lease)
        counts = await store.outbox.counts()
        assert (3, kept + 2) == (counts.waiting, counts.stored)
        assert counts.oldest_age_s > 0
        await lease.mark(receipts([row for row in rows if row not in (rows[0], rows[3])]))
        assert await lease.take() == []
        assert (await store.outbox.counts()).oldest_age_s == 0
        for rows_max in (0, -1, 10_001):
            assert isinstance(await error_of(lease.take(rows_max)), UsageError)
        await lease.release()


async def check_a_batch_is_bounded(make: MakeStore) -> None:
    """A batch has some megabytes at most, but for one row, which always comes."""
    large = {"x": "y" * 900_000}
    async with make(schema="relay") as store:
        lease = await owned(store)
        for _ in range(12):
            await store.transaction(lambda t: t.append("large", large))
        taken: list[int] = []
        while rows := await lease.take():
            taken.append(len(rows))
            assert sum(len(row.body) for row in rows) <= 8 * 1024 * 1024
            await lease.mark(receipts(rows))
        assert [9, 3] == taken
        await lease.release()


async def check_rows_are_given_back(make: MakeStore) -> None:
    """What a stream turned out not to have waits again, in its old place; the rest stays stored."""
    async with make(schema="relay") as store:
        lease = await owned(store)
        await store.transaction(_append(0, 1, 2, 3, 4, 5))
        rows = await lease.take()
        await lease.mark(receipts(rows[:4], stream="one", first=11))
        await lease.mark(receipts(rows[4:5], stream="two", first=99))
        heights = {height.stream: height for height in await lease.heights()}
        assert heights["one"] == OutboxHeight("one", 14, rows[3].id)
        assert heights["two"] == OutboxHeight("two", 99, rows[4].id)
        await lease.take()
        assert await lease.give_back("one", 14) == 0
        assert not await store.outbox.wait_added(0)
        assert await lease.give_back("one", 12) == 2
        assert await store.outbox.wait_added(0)
        assert _bodies(2, 3, 5) == await _numbers(lease)
        heights = {height.stream: height for height in await lease.heights()}
        assert heights["one"].sequence == 12
        assert await lease.give_back("one", 0) == 2
        assert "one" not in {height.stream for height in await lease.heights()}
        await lease.release()


async def check_old_rows_are_forgotten(make: MakeStore) -> None:
    """Rows that were stored long enough ago go; those that wait stay, however old."""
    async with make(schema="relay") as store:
        lease = await owned(store)
        await store.transaction(_append(0, 1))
        await lease.mark(receipts((await lease.take())[:1], stream="forgotten"))
        assert "forgotten" in {height.stream for height in await lease.heights()}
        await lease.release()
    async with make(options=StoreOptions(outbox_kept_s=1e-6), schema="relay") as store:
        lease = await _claimed(store)
        assert await lease.forget() >= 1
        assert await lease.forget() == 0
        assert await lease.heights() == []
        assert _bodies(1) == await _numbers(lease)
        await lease.release()


async def check_one_owner(make: MakeStore) -> None:
    """While one owns the outbox no other does; who gave it up, or lost it, changes nothing."""
    async with make(schema="relay") as one, make(schema="relay") as other:
        lease = await owned(one)
        await one.transaction(_append(0))
        assert await other.outbox.claim() is None
        rows = await lease.take()
        await lease.release()
        assert not lease.is_live
        await _check_lost(lease, rows)
        second = await _claimed(other)
        assert second.epoch > lease.epoch
        assert second.is_live
        assert _bodies(0) == await _numbers(second)
        assert await one.outbox.claim() is None
        third = await _claimed(other)  # the same store: its relay was started anew
        await _check_lost(second, rows)
        await third.mark(receipts(rows))
        await third.release()


async def _check_lost(lease: OutboxLease, rows: Sequence[OutboxRow]) -> None:
    uses: tuple[Callable[[], Awaitable[Any]], ...] = (
        lease.take,
        lambda: lease.mark(receipts(rows)),
        lease.heights,
        lambda: lease.give_back("before", 0),
        lease.forget,
        lease.release,
    )
    for use in uses:
        assert isinstance(await error_of(use()), LeaseLostError), use


async def _claimed(store: Store) -> OutboxLease:
    lease = await store.outbox.claim()
    assert lease is not None
    return lease


async def check_a_silent_owner_is_followed(make: MakeStore) -> None:
    """An owner without a sign of life is followed, and knows when it may be; a living one stays."""
    clock = SystemClock()
    options = StoreOptions(outbox_lease_s=_LEASE_S)
    async with (
        make(options=options, schema="relay") as one,
        make(options=options, schema="relay") as other,
    ):
        lease = await owned(one)
        silent_s = clock.monotonic_s() + 3 * _LEASE_S
        until_s = silent_s + _WAIT_S
        while (second := await other.outbox.claim()) is None:
            assert clock.monotonic_s() < until_s, "nobody follows"
            if clock.monotonic_s() < silent_s:
                await lease.take()
            await clock.sleep(_LEASE_S / 20)
        assert not lease.is_live  # also on a machine that stood still for a while
        assert isinstance(await error_of(lease.take()), LeaseLostError)
        await second.release()


async def check_commits_ring(make: MakeStore) -> None:
    """A commit of this process that appends wakes whoever waits, once; others do not."""
    async with make(schema="relay") as store:
        lease = await owned(store)
        await lease.take()
        waiting = asyncio.ensure_future(store.outbox.wait_added(_WAIT_S))
        await store.transaction(lambda _: None)
        assert not waiting.done()
        await store.transaction(_append(0))
        assert await waiting
        assert await store.outbox.wait_added(0)  # until it is looked at
        await lease.take()
        assert not await store.outbox.wait_added(0)
        await lease.mark(receipts(await lease.take()))
        await lease.release()
