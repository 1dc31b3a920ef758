"""An instance that keeps a projection: works on it, reads it, has it rebuilt."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from agent99.errors import LogIncompleteError, StoreError, UsageError
from agent99.projections import _book as book_
from agent99.projections._book import Book
from agent99.projections._keeper import Keeper
from agent99.projections._moves import open_projection, start_rebuild
from agent99.projections._options import ProjectionOptions, ProjectionStatus
from agent99.projections._parts import Parts
from agent99.projections._projection import Definition, Projection
from agent99.projections._status import status_of
from agent99.projections._tables import Names, Tables

if TYPE_CHECKING:
    from agent99.agent import Agent, Mesh
    from agent99.store import Store, Transaction

T = TypeVar("T")
_log = logging.getLogger("agent99.projections")


class Projector:
    """One instance that keeps a projection: any number of them, in as many processes, share it.

        async with Projector(mesh, Revenue(), store) as revenue:
            await revenue.read(lambda tables: tables.execute("SELECT … FROM {revenue}").all())

    The instances share the events, in order per key, as members of a group. If the code's `version`
    is above that of the tables, new ones are built beside them, from the first event that the log
    holds, and read once they have everything that readers saw so far.

    Args:
        of: The open mesh, or an agent that runs on it.
        projection: What an event does to the tables.
        store: Where the tables are: the same database for all instances.
        allow_partial: Build tables anew even where the log does not hold any more all events that
            the ones of before have counted: what the log has dropped is missing in them.
        options: The bounds.

    Delivery: each event that the log holds counts exactly once, in the order of its key, however
        often instances are killed: tables and position are written in one transaction. Readers see
        one generation in one snapshot, and never one that has less than the one before.

    Raises:
        UsageError, InvalidNameError: the projection; nothing was sent.
        ClosedError: the mesh is not open.
    """

    def __init__(
        self,
        of: Mesh | Agent,
        projection: Projection,
        store: Store,
        *,
        allow_partial: bool = False,
        options: ProjectionOptions | None = None,
    ) -> None:
        self._definition = Definition(projection)
        self._parts = Parts(of, store)
        self._allow_partial = allow_partial
        self._options = options or ProjectionOptions()
        self._names: dict[int, Names] = {}
        self._keeper: Keeper | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Projector({self._definition!r})"

    async def __aenter__(self) -> Self:
        """Make the tables if they are not there, and work on them from now on.

        Raises:
            LogIncompleteError: the tables would have to be built anew for this version, and the log
                does not hold any more all that those of before have counted.
            UsageError: the tables are of a newer version or another mesh; it was used before.
            StoreError or one of its kinds: a statement of `tables` was refused.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        if self._task is not None:
            raise UsageError(f"{self!r} was used before: make another one")
        parts, definition = self._parts, self._definition
        moment = await parts.moment(definition.name)
        make = partial(
            open_projection,
            definition=definition,
            moment=moment,
            allow_partial=self._allow_partial,
        )
        await parts.store.transaction(make)
        self._keeper = keeper = Keeper(parts, definition, self._options)
        try:
            await keeper.turn()
        except BaseException:
            await keeper.end()
            raise
        self._task = asyncio.get_running_loop().create_task(keeper.work())
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave: what is in hand is ended, and others go on."""
        assert self._task is not None
        assert self._keeper is not None
        self._keeper.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._keeper.end()

    async def read(self, work: Callable[[Tables], T]) -> T:
        """Run a function that reads the tables, in one snapshot, and return its result.

        All of its statements see one generation at one moment. While a new version is built it
        sees the tables of the one before: `tables.version` says which.

        Raises:
            as `Store.read`.
        """
        name = self._definition.name
        store, tried = self._parts.store, 0
        while True:
            try:
                return await store.read(partial(self._read, work=work))
            except StoreError:  # its tables may have gone while it was read: once more
                pointer = (await store.read(partial(book_.load, name=name))).pointer
                if pointer == tried:
                    raise
                tried = pointer

    async def rebuild(self, *, allow_partial: bool = False) -> int:
        """Build the tables anew from the first event of the log, beside the live ones.

        Returns once the new ones are read, with the number of their generation. Whoever is
        cancelled waits no more; the rebuild goes on. One that is under way already is the one.

        Args:
            allow_partial: Also where the log does not hold any more all events that the live
                generation has counted: what the log has dropped is missing in the new one.

        Raises:
            LogIncompleteError: that is so, and was not allowed, or it came about meanwhile; the
                live generation stays.
            UsageError: the tables are of a newer version; it was not entered.
            ClosedError: it was left meanwhile.
            StoreError or one of its kinds.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        keeper, definition = self._keeper, self._definition
        if keeper is None:
            raise UsageError(f"{self!r} is not at work: use it with `async with`")
        begin = partial(
            start_rebuild,
            definition=definition,
            moment=await self._parts.moment(definition.name),
            allow_partial=allow_partial,
        )
        generation = await self._parts.store.transaction(begin)
        keeper.wake()
        while True:
            book = await keeper.next_turn()
            _check_failed(book, generation)
            if book.pointer >= generation:
                return book.pointer

    async def status(self) -> ProjectionStatus:
        """Return how far each generation is, and what failed: of all instances together.

        Raises:
            StoreError or one of its kinds.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        return await status_of(self._parts, self._definition.name)

    def _read(self, transaction: Transaction, work: Callable[[Tables], T]) -> T:
        live = book_.load(transaction, self._definition.name).live
        names = self._names.get(live.generation)
        if names is None:
            names = Names(self._definition.name, live.generation, live.tables)
            self._names = {live.generation: names}
        return work(Tables(transaction, names, live.version))

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._keeper is not None:
            self._keeper.close()
        if not task.cancelled() and task.exception() is not None:
            _log.critical("%r broke, and keeps nothing", self, exc_info=task.exception())


def _check_failed(book: Book, generation: int) -> None:
    failed = next((each for each in book.generations if each.generation == generation), None)
    if failed is not None and failed.state == "failed":
        raise LogIncompleteError(book.live.first_sequence or 0, failed.lost_sequence or 0)
