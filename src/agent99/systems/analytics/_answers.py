"""Answers what windows say: of closed ones by the database, of open ones by who closes them."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from agent99.errors import Failure, NoAgentError
from agent99.systems.analytics._pages import join, join_backwards, open_page
from agent99.systems.analytics._query import Found, closed_rows, find, page_of
from agent99.systems.analytics._questions import NO_CLOSER, After, RowsPage, RowsQuery

if TYPE_CHECKING:
    from agent99.store import Transaction
    from agent99.systems.analytics._closers import Closers
    from agent99.systems.analytics._delta import WindowRow
    from agent99.systems.analytics._ground import Ground

OPEN_S_MAX: Final = 3.0
"""For so long who asks for open windows waits until somebody has them: when the one who had them
is gone, another one reads them anew."""
LOOK_S: Final = 0.05

Rows = tuple[list["WindowRow"], After | None]
"""A page of rows, and where the next one begins."""


class Answers:
    """What a processor answers to questions about rows.

    Args:
        ground: What it stands on.
        closers: Who may have the open windows.
    """

    def __init__(self, ground: Ground, closers: Closers) -> None:
        self._ground: Final = ground
        self._closers: Final = closers

    def __repr__(self) -> str:
        return f"Answers({self._ground!r})"

    async def page(self, query: RowsQuery) -> RowsPage:
        """Return a page of rows, and wait a moment where nobody has the open ones.

        Raises:
            Failure: the database does not know the job or the pipeline; nobody closes its windows;
                the key has not as many values as the pipeline's.
            StoreError or one of its kinds.
        """
        clock = self._ground.clock
        until_s = clock.monotonic_s() + OPEN_S_MAX
        while True:
            page = await (self._page_backwards if query.is_backwards else self._page)(query)
            if page is not None:
                return page
            if clock.monotonic_s() >= until_s:
                message = f"nobody closes the windows of {query.pipeline!r} just now"
                raise Failure(message, code=NO_CLOSER, retryable=True)
            await clock.sleep(LOOK_S)

    async def _page(self, query: RowsQuery) -> RowsPage | None:
        """Return a page; None: nobody has the open rows that belong to it.

        With open rows, the closed ones are read before them, which says whether open ones follow,
        and after: a window that closes meanwhile is among both, and not in neither.
        """
        ground = self._ground
        read = partial(self._closed, query=query)
        rows, after, found = await ground.store.read(read)
        is_closed_only = query.state == "closed" or query.after_turn >= 0
        if not is_closed_only and after is None:
            opened = await self._open(found, query)
            rows, after, now = await ground.store.read(read)
            if opened is None or now.epoch != found.epoch:  # it may have been followed before
                return None
            if after is None:
                rows, after = join(rows, opened, query.limit)
            found = now
        page = page_of(found, query, ground.job.name, self._key(found, query))
        return msgspec.structs.replace(page, rows=rows, after=after)

    async def _page_backwards(self, query: RowsQuery) -> RowsPage | None:
        """Return a page of the last rows; None: nobody has the open ones that belong to it.

        Open rows come first, and are read first: a window that closes meanwhile is among both.
        """
        ground, after = self._ground, query.after
        is_behind_open = after is not None and not after.is_open
        closed = query if is_behind_open else msgspec.structs.replace(query, after=None)
        read = partial(self._closed, query=closed)
        opened: Rows | None = [], None
        before: Found | None = None
        if query.state != "closed" and query.after_turn < 0 and not is_behind_open:
            find_it = partial(find, mesh=ground.mesh, job=ground.job.name, query=query)
            before = await ground.store.read(find_it)
            opened = await self._open(before, query)
        rows, after, found = await ground.store.read(read)
        if opened is None or (before is not None and before.epoch != found.epoch):
            return None
        is_there_more = opened[1] is not None
        rows, after = (
            opened if is_there_more else join_backwards(opened[0], (rows, after), query.limit)
        )
        page = page_of(found, query, ground.job.name, self._key(found, query))
        return msgspec.structs.replace(page, rows=rows, after=after)

    def _closed(
        self, transaction: Transaction, query: RowsQuery
    ) -> tuple[list[WindowRow], After | None, Found]:
        ground = self._ground
        found = find(transaction, ground.mesh, ground.job.name, query)
        columns = self._key(found, query)
        if self._is_ours(found) and query.key is not None and len(query.key) != len(columns):
            message = f"the key of {query.pipeline!r} has {len(columns)} values: {columns}"
            raise Failure(message, code="BAD_REQUEST")
        if query.state == "open" or (query.after is not None and query.after.is_open):
            return [], None, found
        rows, after = closed_rows(transaction, found, query)
        return rows, after, found

    def _is_ours(self, found: Found) -> bool:
        return found.reader == self._ground.reader

    def _key(self, found: Found, query: RowsQuery) -> list[str]:
        """Return the columns of the key; none, where the pipeline is another version's."""
        pipeline = self._ground.job.pipelines.get(query.pipeline)
        return list(pipeline.key) if pipeline is not None and self._is_ours(found) else []

    async def _open(self, found: Found, query: RowsQuery) -> Rows | None:
        """Return a page of open rows, of whoever closes the windows; None: nobody has them now."""
        after = query.after if query.after is not None and query.after.is_open else None
        if found.owner != self._ground.instance:
            asked = msgspec.structs.replace(query, state="open", version=found.version, after=after)
            return await self._of_owner(found.owner, asked)
        closer = self._closers.find(query.pipeline) if self._is_ours(found) else None
        if closer is None or closer.epoch != found.epoch:
            return None
        key = None if query.key is None else tuple(query.key)
        rows = closer.open_rows(key, query.since_us, query.until_us)
        return open_page(rows, after, query.limit, is_backwards=query.is_backwards)

    async def _of_owner(self, owner: str, asked: RowsQuery) -> Rows | None:
        """Ask another processor for its open windows; None: it is not there."""
        agent = self._ground.agent
        for peer in await agent.discover(*agent.capabilities):
            if peer.instance == owner:
                with suppress(NoAgentError):  # it is going: another one takes over
                    page = await agent.request(peer, "query", asked, returns=RowsPage)
                    return page.rows, page.after
        return None
