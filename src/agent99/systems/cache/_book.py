"""The cache's table as one process knows it: followed, and changed by compare-and-set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from agent99.clock import Clock
from agent99.errors import Agent99Error, ClosedError, WrongSequenceError
from agent99.journal import Bucket, BucketConfig, Change, Entry, Journal, Snapshot
from agent99.systems.cache._table import Node, Table, decode_table, encode_table

TABLE = "table"
"""The table's key in the bucket of the cache; there is one bucket for each mesh."""
NODE = "node."
"""What the keys of the nodes' leases begin with."""
BUCKET_BYTES_MAX = 64 * 1024 * 1024
FOLLOW_AGAIN_S = 0.5
"""Before the bucket is followed again that could not be followed."""
EDIT_AGAIN_S = 0.05
"""Before a change of the table is tried again whose outcome is not known."""

Edit = Callable[[Table], Table]
"""Makes a later table of one; the same object where nothing is to change."""

_log = logging.getLogger("agent99.systems.cache")


class Listener(Protocol):
    """Hears of what stands in the bucket."""

    def on_table(self, table: Table) -> None:
        """There is a later table."""
        ...

    def on_entries(self, entries: tuple[Entry, ...], table: Table | None, /) -> None:
        """These are all the entries besides the table, and the table that stood beside them."""
        ...

    def on_entry(self, change: Change) -> None:
        """One of those was written, or is gone."""
        ...


def bucket_config(mesh: str, replicas: int) -> BucketConfig:
    """Return what the bucket of a mesh's cache is."""
    return BucketConfig(name=f"a99_{mesh}_cache", bytes_max=BUCKET_BYTES_MAX, replicas=replicas)


class TableBook:
    """Follows the table, and changes it.

    Args:
        pattern: The keys that are followed: the table's alone, or all.

    Invariant: the table that it has never goes back.
    """

    def __init__(
        self, journal: Journal, config: BucketConfig, clock: Clock, *, pattern: str = TABLE
    ) -> None:
        self.table: Table | None = None
        """The latest one that is known here; None: there is none yet."""
        self.nodes: dict[str, Node] = {}
        """Of the table, by their ids."""
        self.encoded = b""
        """As it stands in the bucket."""
        self.listener: Listener | None = None
        self._journal = journal
        self._config = config
        self._clock = clock
        self._pattern = pattern
        self._revision = 0
        self._edits: list[tuple[Edit, asyncio.Future[Table]]] = []
        self._editing: asyncio.Task[None] | None = None
        self._newer: asyncio.Future[None] | None = None
        self.has_snapshot = False
        """Whether all that stands in the bucket is known."""

    def __repr__(self) -> str:
        return f"TableBook(epoch={self.table.epoch if self.table else 0})"

    async def bucket(self) -> Bucket:
        """Return the bucket; it is made if it is not there.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        return await self._journal.bucket(self._config)

    async def follow(self) -> None:
        """Hear of every change, until cancelled."""
        while True:
            try:
                await self._hear()
            except ClosedError:
                return
            except Agent99Error as error:
                _log.info("%r cannot be followed: %s", self, error)
            self.has_snapshot = False
            await self._clock.sleep(FOLLOW_AGAIN_S)

    async def wait_newer(self, epoch: int, timeout_s: float) -> bool:
        """Wait until a table is known that is later than that epoch; returns whether it is."""
        until_s = self._clock.monotonic_s() + timeout_s
        while self.table is None or self.table.epoch <= epoch:
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                return False
            if self._newer is None:
                self._newer = asyncio.get_running_loop().create_future()
            timer = self._clock.call_later(left_s, self._wake)
            try:
                await asyncio.shield(self._newer)
            finally:
                timer.cancel()
        return True

    def learn(self, encoded: bytes) -> None:
        """Take note of a table that somebody else has told of; nothing, if it is empty."""
        if not encoded:
            return
        table = decode_table(encoded)
        if table is not None:
            self._note(table, encoded, None)

    async def edit(self, change: Edit) -> Table:
        """Change the table; returned = it stands in the bucket, or need not.

        Changes that come together are written at once. What cannot be written is tried again for
        ever: cancel it.

        Returns:
            A table to which the change was applied; where it did not fit, one that it did not
            change.
        """
        done: asyncio.Future[Table] = asyncio.get_running_loop().create_future()
        self._edits.append((change, done))
        if self._editing is None:
            self._editing = asyncio.get_running_loop().create_task(self._write_edits())
        return await done

    async def create(self, table: Table) -> None:
        """Write the first table, if there is none.

        Raises:
            as `bucket`.
        """
        encoded = encode_table(table)
        try:
            revision = await (await self.bucket()).create(TABLE, encoded)
        except WrongSequenceError:
            await self._look()
        else:
            self._note(table, encoded, revision)

    async def close(self) -> None:
        """Give up what is being changed."""
        if self._editing is not None:
            self._editing.cancel()
            await asyncio.gather(self._editing, return_exceptions=True)
        for _, done in self._edits:
            done.cancel()

    # --- inside -----------------------------------------------------------------------------------

    async def _hear(self) -> None:
        bucket = await self.bucket()
        async with bucket.follow(self._pattern) as changes:
            async for each in changes:
                self._apply(each)

    def _apply(self, news: Snapshot | Change) -> None:
        if isinstance(news, Snapshot):
            self.has_snapshot, self._revision = True, 0
            others = tuple(entry for entry in news.entries if entry.key != TABLE)
            beside: Table | None = None
            for entry in news.entries:
                if entry.key == TABLE:
                    beside = self._read(entry)
            if self.listener is not None:
                self.listener.on_entries(others, beside)
        elif news.key == TABLE:
            if news.kind == "put":
                self._read(Entry(news.key, news.value, news.revision))
        elif self.listener is not None:
            self.listener.on_entry(news)

    def _read(self, entry: Entry) -> Table | None:
        table = decode_table(entry.value)
        if table is None:
            _log.error("the table of the cache cannot be read: %r", entry.value[:80])
            self._revision = max(self._revision, entry.revision)  # who knows it writes it again
        else:
            self._note(table, entry.value, entry.revision)
        return table

    def _note(self, table: Table, encoded: bytes, revision: int | None) -> None:
        if revision is not None:
            self._revision = max(self._revision, revision)
        if self.table is not None and table.epoch <= self.table.epoch:
            return
        self.table, self.encoded = table, encoded
        self.nodes = {node.id: node for node in table.nodes}
        self._wake()
        if self.listener is not None:
            self.listener.on_table(table)

    def _wake(self) -> None:
        if self._newer is not None and not self._newer.done():
            self._newer.set_result(None)
        self._newer = None

    async def _look(self) -> None:
        entry = await (await self.bucket()).get(TABLE)
        if entry is not None:
            self._read(entry)
        else:
            self._revision = 0  # there is none, or none any more: the server lost it

    async def _write_edits(self) -> None:
        try:
            while self._edits:
                await self._write_some()
        finally:
            self._editing = None

    async def _write_some(self) -> None:
        """Write what is to be changed by now, in one step."""
        edits, self._edits = self._edits, []
        try:
            table = await self._written(tuple(change for change, _ in edits))
        except BaseException:
            for _, done in edits:
                done.cancel()
            raise
        for _, done in edits:
            if not done.done():
                done.set_result(table)

    async def _written(self, changes: tuple[Edit, ...]) -> Table:
        while True:
            try:
                if not self._revision:
                    await self._look()
                if self.table is not None:
                    return await self._write(self.table, changes)
            except ClosedError:
                raise
            except WrongSequenceError:
                pass  # somebody was quicker
            except Agent99Error as error:
                _log.info("the cache's table could not be written: %s", error)
                await self._clock.sleep(EDIT_AGAIN_S)
            else:
                await self._clock.sleep(EDIT_AGAIN_S)  # somebody makes the first one
            await self._look_again()

    async def _write(self, table: Table, changes: tuple[Edit, ...]) -> Table:
        """Write a table with the changes; one that is lost is written again.

        Raises:
            WrongSequenceError: somebody was quicker.
            as `bucket`: the outcome is unknown.
        """
        # With the table, before any wait: what is heard of meanwhile must not be written over.
        revision, wanted = self._revision, table
        for change in changes:
            wanted = change(wanted)
        if wanted is table and revision:
            return table
        encoded, bucket = encode_table(wanted), await self.bucket()
        if revision:
            revision = await bucket.update(TABLE, encoded, revision=revision)
        else:
            revision = await bucket.create(TABLE, encoded)
        self._note(wanted, encoded, revision)
        return wanted

    async def _look_again(self) -> None:
        """See who was quicker, or what became of a change whose receipt was lost."""
        try:
            await self._look()
        except ClosedError:
            raise
        except Agent99Error:
            await self._clock.sleep(EDIT_AGAIN_S)
