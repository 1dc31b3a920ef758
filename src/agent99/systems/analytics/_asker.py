"""Asks the processors of a job: one that knows it, and page after page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from agent99.agent import Peer
from agent99.errors import Agent99Error, NoAgentError, RemoteError, UsageError
from agent99.systems.analytics._pages import changed, last_of, name_of
from agent99.systems.analytics._questions import LIMIT_MAX, UNKNOWN_JOB, RowsPage, RowsQuery

if TYPE_CHECKING:
    from agent99.agent import Agent, Mesh
    from agent99.systems.analytics._delta import WindowRow

CAPABILITY: Final = "analytics_processor"
TIMEOUT_S: Final = 10.0
T = TypeVar("T")


class Asker:
    """Puts questions to whoever of a job answers.

    Args:
        of: The open mesh, or an agent that runs on it.
        job: The job's name.
    """

    def __init__(self, of: Mesh | Agent, job: str) -> None:
        self._of: Final = of
        self._job: Final = job
        self._last = ""
        """The instance that has answered last."""

    def __repr__(self) -> str:
        return f"Asker({self._job!r})"

    async def ask(
        self, operation: str, question: Any, returns: type[T], timeout_s: float = TIMEOUT_S
    ) -> T:
        """Ask the processors of the job, one after the other, until one knows it.

        Raises:
            RemoteError: it refuses; or none of them knows the job (`UNKNOWN_JOB`).
            NoAgentError: nobody is there.
            BadRequestError, DeadlineExceededError, TransportError, ClosedError
        """
        refused: Agent99Error | None = None
        for peer in await self._peers():
            try:
                answer = await self._of.request(
                    peer, operation, question, returns=returns, timeout_s=timeout_s
                )
            except RemoteError as error:
                if error.code != UNKNOWN_JOB:
                    raise
                refused = error
            except NoAgentError as error:  # it is going: another one is there, or comes
                refused = refused or error
            else:
                self._last = peer.instance
                return answer
        raise refused or NoAgentError(f"no analytics processor is running for job {self._job!r}")

    async def all_rows(self, query: RowsQuery) -> tuple[list[WindowRow], RowsPage]:
        """Return all rows, and the first page.

        What closes, or changes, while pages are asked for is asked for after them.

        Raises:
            as `ask`.
        """
        first = page = await self.ask("query", query, RowsPage)
        rows = list(page.rows)
        while page.after is not None:
            query = msgspec.structs.replace(query, after=page.after, version=first.version)
            page = await self.ask("query", query, RowsPage)
            rows += page.rows
        is_snapshot = query.state != "open" and query.after_turn < 0
        if is_snapshot and page.turn != first.turn:
            newer, _ = await self.all_rows(
                msgspec.structs.replace(query, state="closed", after=None, after_turn=first.turn)
            )
            rows = changed(rows, newer)
        return rows, first

    async def last_rows(self, query: RowsQuery, count: int) -> list[WindowRow]:
        """Return the last rows, and read no others.

        What closes, or changes, while pages are asked for is asked for after them.

        Raises:
            UsageError: the count is below 1.
            as `ask`.
        """
        if count < 1:
            raise UsageError(f"limit is {count}; 1 or more")
        asked = msgspec.structs.replace(query, limit=min(count, LIMIT_MAX), is_backwards=True)
        first = page = await self.ask("query", asked, RowsPage)
        # What closes meanwhile comes again, on a later page: it counts once.
        rows = {name_of(row): row for row in page.rows}
        while page.after is not None and len(rows) < count:
            asked = msgspec.structs.replace(
                asked,
                after=page.after,
                version=first.version,
                limit=min(count - len(rows), LIMIT_MAX),
            )
            page = await self.ask("query", asked, RowsPage)
            rows |= {name_of(row): row for row in page.rows}
        newer: list[WindowRow] = []
        if query.state != "open" and page.turn != first.turn:
            newer, _ = await self.all_rows(
                msgspec.structs.replace(
                    query, version=first.version, state="closed", after_turn=first.turn
                )
            )
        return last_of(list(rows.values()), newer, count, is_all=page.after is None)

    async def _peers(self) -> list[Peer]:
        peers = await self._of.discover(CAPABILITY)
        return sorted(peers, key=lambda peer: (peer.instance != self._last, peer.instance))
