"""The outbox: against a naive model, by a clock that stands still, and its bound."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.clock import SystemClock
from agent99.errors import LeaseLostError, StoreOverloadedError
from agent99.ids import SeededIds
from agent99.store import OutboxReceipt, Store, StoreOptions, Transaction, open_store
from agent99.store._append import turns
from agent99.store._arrivals import Arrivals
from agent99.store._room import Room
from agent99.testing import ManualClock
from tests._wait import eventually


def append(*keys: str) -> Callable[[Transaction], list[str]]:
    def work(transaction: Transaction) -> list[str]:
        return [transaction.append("t", {"k": key}, key=key) for key in keys]

    return work


# --- a model --------------------------------------------------------------------------------------


class Step(NamedTuple):
    """One thing that happens."""

    what: str
    count: int
    stream: str


class ModelRow:
    """A row as the model has it."""

    def __init__(self, event_id: str) -> None:
        self.id = event_id
        self.at: tuple[str, int] | None = None
        self.stored_s = 0.0


class Model:
    """What should stand in the outbox: a list, and loops over all of it."""

    def __init__(self) -> None:
        self.rows: list[ModelRow] = []

    def waiting(self) -> list[str]:
        return [row.id for row in self.rows if row.at is None]

    def mark(self, event_id: str, stream: str, sequence: int, now_s: float) -> None:
        for row in self.rows:
            if row.id == event_id and row.at is None:
                row.at, row.stored_s = (stream, sequence), now_s

    def give_back(self, stream: str, above: int) -> int:
        count = 0
        for row in self.rows:
            if row.at is not None and row.at[0] == stream and row.at[1] > above:
                row.at = None
                count += 1
        return count

    def forget(self, before_s: float) -> int:
        kept = [row for row in self.rows if row.at is None or row.stored_s >= before_s]
        count = len(self.rows) - len(kept)
        self.rows = kept
        return count

    def heights(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for row in self.rows:
            if row.at is not None:
                found[row.at[0]] = max(row.at[1], found.get(row.at[0], 0))
        return found


class Player:
    """Does each step to a store and to the model, and compares."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.model = Model()
        self.ends = {"one": 0, "two": 0}

    async def play(self, steps: list[Step]) -> None:
        for step in steps:
            self.lease = await self.claim()
            await getattr(self, step.what)(step)
            assert self.model.waiting() == [row.id for row in await self.lease.take(10_000)]
            heights = {height.stream: height.sequence for height in await self.lease.heights()}
            assert self.model.heights() == heights
            counts = await self.store.outbox.counts()
            assert len(self.model.waiting()) == counts.waiting
            assert len(self.model.rows) == counts.waiting + counts.stored

    async def claim(self) -> Any:
        lease = await self.store.outbox.claim()
        assert lease is not None
        return lease

    async def append(self, step: Step) -> None:
        work = append(*["k"] * step.count)
        self.model.rows += [ModelRow(name) for name in await self.store.transaction(work)]

    async def fail(self, step: Step) -> None:
        def work(transaction: Transaction) -> None:
            append(*["k"] * step.count)(transaction)
            raise LookupError

        with suppress(LookupError):
            await self.store.transaction(work)

    async def mark(self, step: Step) -> None:
        rows = (await self.lease.take(10_000))[:: step.count]
        receipts: list[OutboxReceipt] = []
        for row in rows:
            self.ends[step.stream] += 1
            receipts.append(OutboxReceipt(row.position, step.stream, self.ends[step.stream]))
            now_s = self.clock.monotonic_s()
            self.model.mark(row.id, step.stream, self.ends[step.stream], now_s)
        assert len(rows) == await self.lease.mark(receipts)
        assert 0 == await self.lease.mark(receipts)

    async def give_back(self, step: Step) -> None:
        above = max(0, self.ends[step.stream] - step.count)
        expected = self.model.give_back(step.stream, above)
        assert expected == await self.lease.give_back(step.stream, above)
        self.ends[step.stream] = above

    async def forget(self, _: Step) -> None:
        expected = self.model.forget(self.clock.monotonic_s() - 10)
        assert expected == await self.lease.forget()

    async def wait(self, step: Step) -> None:
        await self.clock.advance(step.count * 3)

    async def lose(self, _: Step) -> None:
        old, self.lease = self.lease, await self.claim()
        with pytest.raises(LeaseLostError):
            await old.forget()


steps = st.builds(
    Step,
    st.sampled_from(["append", "append", "mark", "mark", "fail", "give_back", "forget", "wait"])
    | st.just("lose"),
    st.integers(1, 5),
    st.sampled_from(["one", "two"]),
)


@settings(max_examples=20)
@given(st.lists(steps, max_size=16), st.integers(0, 2**32))
def test_outbox_against_the_model(played: list[Step], number: int) -> None:
    """Whatever happens in whatever order, the outbox holds what a plain list would."""

    async def run(url: str) -> None:
        clock = ManualClock()
        options = StoreOptions(outbox_kept_s=10)
        ids = SeededIds(number)
        async with open_store(url, options=options, clock=clock, ids=ids) as store:
            await Player(store, clock).play(played)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(f"sqlite:///{folder}/x.db"))


# --- the lease ------------------------------------------------------------------------------------


async def test_who_takes_now_and_then_stays_the_owner(url: str) -> None:
    """A look at the rows is a sign of life, and so is a mark; a lease may go on for ever."""
    clock = ManualClock()
    options = StoreOptions(outbox_lease_s=9)
    async with (
        open_store(url, options=options, clock=clock) as one,
        open_store(url, options=options, clock=clock) as other,
    ):
        lease = await one.outbox.claim()
        assert lease is not None
        for turn in range(12):
            assert await other.outbox.claim() is None
            await clock.advance(4)
            if turn % 2:
                assert [] == await lease.take()
            else:
                assert 0 == await lease.forget()
            assert lease.is_live
        assert await other.outbox.claim() is None
        await clock.advance(8)
        assert lease.is_live
        assert await other.outbox.claim() is None
        await clock.advance(1)
        assert not lease.is_live
        second = await other.outbox.claim()
        assert second is not None
        assert 2 == second.epoch
        with pytest.raises(LeaseLostError, match="epoch 1"):
            await lease.take()


async def test_a_look_alone_writes_nothing(url: str) -> None:
    """Between two signs of life a look at the rows costs the writer nothing."""
    clock = ManualClock()
    options = StoreOptions(outbox_lease_s=9)
    async with open_store(url, options=options, clock=clock) as store:
        lease = await store.outbox.claim()
        assert lease is not None
        before = store.statistics().transactions
        for _ in range(5):
            await lease.take()
        assert before == store.statistics().transactions
        await clock.advance(3)
        await lease.take()
        assert before + 1 == store.statistics().transactions


async def test_schemas_have_their_own_outboxes(url: str) -> None:
    """Two schemas in one database have an owner and rows each."""
    async with open_store(url, schema="one") as one, open_store(url, schema="two") as two:
        (mine,) = await one.transaction(append("k"))
        leases = [await store.outbox.claim() for store in (one, two)]
        assert all(lease is not None for lease in leases)
        rows = [[row.id for row in await lease.take()] for lease in leases if lease is not None]
        assert [[mine], []] == rows
        assert 0 == (await two.outbox.counts()).waiting


async def test_age_is_that_of_the_oldest(url: str) -> None:
    """The age counts from the append of the first row that waits."""
    clock = ManualClock()
    async with open_store(url, clock=clock) as store:
        await store.transaction(append("a"))
        await clock.advance(5)
        await store.transaction(append("b"))
        await clock.advance(2)
        assert 7.0 == (await store.outbox.counts()).oldest_age_s


# --- the bell -------------------------------------------------------------------------------------


async def test_a_bell_nobody_rings() -> None:
    """Who waits for rows hears after the time-out that none came, and leaves nothing behind."""
    clock = ManualClock()
    bell = Arrivals(clock)
    waiting = [asyncio.ensure_future(bell.wait(3)) for _ in range(2)]
    await clock.advance(2)
    assert not any(task.done() for task in waiting)
    waiting[1].cancel()
    await clock.advance(2)
    assert waiting[0].result() is False
    assert waiting[1].cancelled()
    assert "Arrivals(has_rung=False, waiters=0)" == repr(bell)


async def test_a_failed_transaction_rings_no_bell(url: str) -> None:
    """Only a commit wakes whoever sends."""

    def work(transaction: Transaction) -> None:
        append("k")(transaction)
        raise LookupError

    async with open_store(url) as store:
        await asyncio.gather(*(store.transaction(work) for _ in range(3)), return_exceptions=True)
        assert not await store.outbox.wait_added(0)
        await asyncio.gather(store.transaction(append("k")), store.transaction(lambda _: 1))
        assert await store.outbox.wait_added(0)


async def test_an_open_outbox_keeps_no_store_alive(sqlite_url: str) -> None:
    """A store that is dropped while its relay still has the lease ends like any other."""
    store = open_store(sqlite_url)
    await store.open()
    lease = await store.outbox.claim()
    assert lease is not None
    desk = store._engine.writers
    assert desk is not None
    stores = [store]
    del store
    with pytest.warns(ResourceWarning, match="unclosed Store"):
        stores.clear()
    await asyncio.wait_for(asyncio.gather(*desk._ended), 5)


# --- the bound ------------------------------------------------------------------------------------


def test_room_is_counted_rarely() -> None:
    """While there is plenty of room most transactions ask the database nothing."""
    counted: list[int] = []
    room = Room(1600, ManualClock())
    waiting = 0

    def count() -> int:
        counted.append(waiting)
        return waiting

    for _ in range(1600):
        room.take(1, count)
        waiting += 1
    with pytest.raises(StoreOverloadedError) as caught:
        room.take(1, count)
    assert (1600, 1600) == (caught.value.waiting, caught.value.waiting_max)
    assert len(counted) < 100


def test_room_is_shared_by_processes() -> None:
    """Two processes that fill one outbox pass its bound by a sixteenth at the most."""
    clock = ManualClock()
    rooms = [Room(1600, clock) for _ in range(2)]
    waiting: list[Room] = []
    refused = 0
    while refused < 2:
        refused = 0
        for room in rooms:
            try:
                room.take(1, waiting.__len__)
                waiting.append(room)
            except StoreOverloadedError:
                refused += 1
    assert 1600 <= len(waiting) <= 1700


async def test_a_full_outbox_is_not_counted_again_and_again() -> None:
    """Refusals are cheap for a tenth of a second; then there is another look."""
    clock = ManualClock()
    room = Room(10, clock)
    counted: list[int] = []

    def full() -> int:
        counted.append(1)
        return 10

    for _ in range(5):
        with pytest.raises(StoreOverloadedError, match="10 outbox rows wait"):
            room.take(1, full)
    assert 1 == len(counted)
    await clock.advance(0.2)
    room.take(3, lambda: 7)
    with pytest.raises(StoreOverloadedError):
        room.take(8, lambda: 3)


async def test_more_than_the_bound_at_once(sqlite_url: str) -> None:
    """A transaction that appends more than may ever wait is refused, whole."""
    async with open_store(sqlite_url, options=StoreOptions(outbox_rows_max=3)) as store:
        with pytest.raises(StoreOverloadedError):
            await store.transaction(append("a", "b", "c", "d"))
        assert 0 == (await store.outbox.counts()).waiting
        await eventually_appends(store, "a", "b", "c")


async def eventually_appends(store: Store, *keys: str) -> None:
    done = asyncio.Event()

    async def keep_on() -> None:
        while True:
            with suppress(StoreOverloadedError):
                await store.transaction(append(*keys))
                done.set()
                return
            await SystemClock().sleep(0.01)

    task = asyncio.create_task(keep_on())
    await eventually(done.is_set)
    await task


def test_turns_are_of_given_keys_alone() -> None:
    """Each key that was given has one number, in order; an event without one waits for nobody."""
    rows = [
        {"schema": schema, "key": key, "id": event_id}
        for schema, key, event_id in (
            ("main", "a", "1"),
            ("main", "b", "2"),
            ("main", "a", "3"),
            ("main", "4", "4"),
            ("other", "a", "5"),
        )
    ]
    numbers = turns(rows)
    assert 3 == len(numbers)
    assert sorted(numbers) == numbers
    assert all(-(2**63) <= number < 2**63 for number in numbers)
