"""The table of the cache is changed by compare-and-set: nothing that somebody wrote is lost."""

from __future__ import annotations

import asyncio

from agent99.clock import SystemClock
from agent99.journal import Bucket, BucketConfig, MemoryJournal
from agent99.systems.cache._book import TableBook, bucket_config
from agent99.systems.cache._edits import joined
from agent99.systems.cache._table import Node, encode_table, new_table
from tests._wait import eventually

CONFIG = bucket_config("main", 1)


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
