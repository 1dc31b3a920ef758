"""The table's book: each change takes effect once, whatever becomes of answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent99.clock import SystemClock
from agent99.journal import Bucket, BucketConfig, Journal, MemoryJournal
from agent99.systems.cache._book import TABLE, TableBook, bucket_config
from agent99.systems.cache._edits import joined
from agent99.systems.cache._table import Node, Table, decode_table, encode_table, new_table
from agent99.testing import ManualClock
from tests._wait import eventually

from ._world import DoorJournal, Doors

CONFIG = bucket_config("t", 1)


class SlowJournal(MemoryJournal):
    """Gives its bucket only while its gate is open; one that is being followed is not held up."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.gate = asyncio.Event()
        self.waiting = 0
        self.gate.set()

    async def bucket(self, config: BucketConfig) -> Bucket:
        self.waiting += 1
        await self.gate.wait()
        self.waiting -= 1
        return await super().bucket(config)


class Desk:
    """Some books of one bucket, each behind doors of its own."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.clock = ManualClock()
        self.journal = MemoryJournal(clock=self.clock)
        self.doors: list[Doors] = []
        self.books: list[TableBook] = []
        self._stack = stack

    async def open(self, *, follows: bool = True) -> TableBook:
        """Open one more book."""
        doors = Doors()
        journal = cast("Journal", DoorJournal(self.journal, doors))
        book = TableBook(journal, CONFIG, self.clock, pattern=">")
        self.doors.append(doors)
        self.books.append(book)
        self._stack.push_async_callback(book.close)
        if follows:
            task = asyncio.get_running_loop().create_task(book.follow())
            self._stack.push_async_callback(_end, task)
            await self.clock.advance(0)
        return book

    async def do(self, *works: Any) -> list[Any]:
        """Let time pass until all of them are done."""
        done = asyncio.gather(*works)
        for _ in range(2_000):
            if done.done():
                break
            await self.clock.advance(0.01)
        assert done.done(), "they are not done, after 20 s"
        return await done

    async def stored(self) -> Table:
        """Return what stands in the bucket."""
        entry = await (await self.journal.bucket(CONFIG)).get(TABLE)
        assert entry is not None
        table = decode_table(entry.value)
        assert table is not None
        return table


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def desk_of(count: int) -> AsyncIterator[Desk]:
    """Give a desk with so many books, and a table."""
    async with AsyncExitStack() as stack:
        desk = Desk(stack)
        for _ in range(count):
            await desk.open()
        await desk.do(desk.books[0].create(new_table(1)))
        yield desk


def counted(table: Table) -> Table:
    """Count one more: `lost` is as good a number as any."""
    return replace(table, epoch=table.epoch + 1, lost=table.lost + 1)


def named(number: int) -> Callable[[Table], Table]:
    """Return an edit that adds a node, once."""
    node = Node(f"n{number}", "cache-node", f"0b62d3c2-7c52-4f0e-8d4e-{number:012}")
    return lambda table: joined(table, node)


@settings(max_examples=12)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["ok", "answer", "write"])), max_size=12)
)
def test_concurrent_edits_all_take_effect_once(plan: list[tuple[int, str]]) -> None:
    """Of edits of three books at once, with writes and answers lost, each is there in the end.

    Such an edit says what is to be: a receipt that is lost lets it be made again, which changes
    nothing.
    """

    async def run() -> None:
        async with desk_of(3) as desk:
            edits = []
            for number, (book, fate) in enumerate(plan):
                desk.doors[book].loses_answers += fate == "answer"
                desk.doors[book].loses_writes += fate == "write"
                edits.append(desk.books[book].edit(named(number)))
            tables = await desk.do(*edits)
            stored = await desk.stored()
            assert sorted(f"n{number}" for number in range(len(plan))) == sorted(
                node.id for node in stored.nodes
            )
            for number, table in enumerate(tables):
                assert f"n{number}" in {node.id for node in table.nodes}
            await desk.clock.advance(1)
            assert {stored.epoch} == {
                book.table.epoch for book in desk.books if book.table is not None
            }

    asyncio.run(run())


async def test_edits_of_one_turn_are_one_write() -> None:
    """A hundred changes that come together take one write, or two; none is lost."""
    async with desk_of(2) as desk:
        bucket = await desk.journal.bucket(CONFIG)
        before = await bucket.get(TABLE)
        await desk.do(*(desk.books[0].edit(counted) for _ in range(100)))
        after = await bucket.get(TABLE)
        assert before is not None
        assert after is not None
        assert 100 == (await desk.stored()).lost
        assert after.revision - before.revision <= 2


@pytest.mark.parametrize("rivals", [2, 3])
async def test_two_who_count_at_once_lose_no_count(rivals: int) -> None:
    """Compare-and-set: what a rival wrote meanwhile is under what one writes."""
    async with desk_of(rivals) as desk:

        async def count(book: TableBook) -> None:
            for _ in range(20):
                await book.edit(counted)

        await desk.do(*(count(book) for book in desk.books))
        assert 20 * rivals == (await desk.stored()).lost


async def test_a_change_whose_answer_is_lost_is_not_made_twice() -> None:
    """After a write whose outcome is unknown one looks first: an edit that fits once, fits once."""
    async with desk_of(2) as desk:
        desk.doors[0].loses_answers = 1
        await desk.do(desk.books[0].edit(named(1)))
        stored = await desk.stored()
        assert (1, ["n1"]) == (stored.epoch, [node.id for node in stored.nodes])


async def test_a_lost_bucket_is_written_again() -> None:
    """A server that lost all is told the table again, by whoever edits it next."""
    async with desk_of(1) as desk:
        await desk.do(desk.books[0].edit(named(1)))
        before = desk.books[0].table
        await desk.journal.delete_stream(f"KV_{CONFIG.name}")
        await desk.clock.advance(2)
        await desk.do(desk.books[0].edit(named(2)))
        stored = await desk.stored()
        assert before is not None
        assert before.epoch < stored.epoch
        assert ["n1", "n2"] == [node.id for node in stored.nodes]


async def test_a_table_never_goes_back() -> None:
    """Whoever knows a later table is not talked out of it by an earlier one."""
    async with desk_of(1) as desk:
        (book,) = desk.books
        await desk.do(book.edit(named(1)))
        late = book.table
        book.learn(encode_table(new_table(1)))
        book.learn(b"no table at all")
        book.learn(b"")
        assert late is book.table


async def test_only_one_creates_the_first_table() -> None:
    """Of two who make the first table one does, and both know it."""
    async with AsyncExitStack() as stack:
        desk = Desk(stack)
        one, two = await desk.open(), await desk.open()
        await desk.do(one.create(new_table(1)), two.create(new_table(3)))
        await desk.clock.advance(1)
        assert one.table == two.table == await desk.stored()


async def test_an_edit_waits_for_the_first_table() -> None:
    """A change that comes before there is a table is made once somebody has made one."""
    async with AsyncExitStack() as stack:
        desk = Desk(stack)
        one, two = await desk.open(), await desk.open()
        editing = asyncio.ensure_future(one.edit(named(1)))
        await desk.clock.advance(1)
        assert not editing.done()
        await desk.do(two.create(new_table(1)), editing)
        assert ["n1"] == [node.id for node in (await desk.stored()).nodes]


async def test_what_cannot_be_read_is_no_table() -> None:
    """Bytes under the table's key that make no sense change nothing; the next edit ends them."""
    async with desk_of(1) as desk:
        (book,) = desk.books
        before = book.table
        await (await desk.journal.bucket(CONFIG)).put(TABLE, b"{}")
        await desk.clock.advance(1)
        assert before is book.table
        await desk.do(book.edit(named(1)))
        assert book.table == await desk.stored()


async def test_it_ends_what_waits() -> None:
    """A book that is closed gives up its edits: they are cancelled, not left."""
    async with desk_of(1) as desk:
        (book,) = desk.books
        desk.doors[0].shut()
        editing = asyncio.ensure_future(book.edit(named(1)))
        await desk.clock.advance(0.5)
        await book.close()
        await desk.clock.advance(0)
        assert editing.cancelled()


async def test_who_waits_for_a_newer_table() -> None:
    """`wait_newer` ends when a later table comes, and says no when the time is up."""
    async with desk_of(1) as desk:
        (book,) = desk.books
        waiting = asyncio.ensure_future(book.wait_newer(0, 5.0))
        await desk.clock.advance(1)
        assert not waiting.done()
        await desk.do(book.edit(named(1)))
        assert await waiting
        vain = asyncio.ensure_future(book.wait_newer(1, 5.0))
        await desk.clock.advance(4.9)
        assert not vain.done()
        await desk.clock.advance(0.2)
        assert not await vain


async def test_what_is_heard_while_one_writes_is_not_written_over() -> None:
    """An edit is made of the latest table, also if that comes just before it is written."""
    journal = SlowJournal()
    book = TableBook(journal, CONFIG, SystemClock())
    await book.create(new_table(1))
    following = asyncio.create_task(book.follow())
    await eventually(lambda: book.has_snapshot)

    journal.gate.clear()
    mine = asyncio.create_task(book.edit(lambda table: joined(table, Node("a", "a", "a"))))
    await eventually(lambda: journal.waiting == 1)
    bucket = await MemoryJournal.bucket(journal, CONFIG)
    entry = await bucket.get("table")
    assert entry is not None
    theirs = joined(new_table(1), Node("b", "b", "b"))
    await bucket.update("table", encode_table(theirs), revision=entry.revision)
    await eventually(lambda: "b" in book.nodes)
    journal.gate.set()

    table = await mine
    assert ["b", "a"] == [node.id for node in table.nodes]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
