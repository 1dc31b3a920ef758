"""A job's figures, for who asks: rows, counts, and what changes as it changes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from agent99.agent import Agent, link_of
from agent99.envelope import Pattern, parse_topic
from agent99.errors import Agent99Error, RemoteError
from agent99.systems.analytics._anomalies import (
    USUAL,
    Anomaly,
    Ewma,
    ending_after,
    find_anomalies,
)
from agent99.systems.analytics._asked import asked_key, asked_us
from agent99.systems.analytics._asker import Asker
from agent99.systems.analytics._changes import Change, Changes
from agent99.systems.analytics._closer import turned_topic
from agent99.systems.analytics._detector import Detector
from agent99.systems.analytics._names import group_of
from agent99.systems.analytics._questions import (
    LIMIT_MAX,
    VERSION_BEHIND,
    CompareQuery,
    Comparison,
    Dropped,
    DropQuery,
    Goal,
    JobStats,
    RowsPage,
    RowsQuery,
    StatsQuery,
    Switched,
    SwitchQuery,
    Which,
)

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.systems.analytics._delta import Scalar, WindowRow

POLL_S: Final = 1.0
"""Between two looks of who follows, where no hint comes."""
LONG_S: Final = 60.0
"""For what goes through all rows of a version."""
PATIENCE_S: Final = 10.0
AGAIN_S: Final = 0.05
"""Before a switch is tried again."""


class Analytics:
    """Asks the processors of a job.

        figures = Analytics(mesh, "retail")
        for row in await figures.query("revenue", key="France", since=monday):
            ...

    Args:
        of: The open mesh, or an agent that runs on it.
        job: The job's name.
        version: Of the job; 0: the one that is asked for.
    """

    def __init__(self, of: Mesh | Agent, job: str, *, version: int = 0) -> None:
        self._of: Final = of
        self._asker: Final = Asker(of, job)
        self._job: Final = job
        self._version: Final = version

    def __repr__(self) -> str:
        return f"Analytics({self._job!r}, version={self._version})"

    async def query(
        self,
        pipeline: str,
        *,
        key: Scalar | Iterable[Scalar] = None,
        since: datetime | None = None,
        until: datetime | None = None,
        state: Which = "all",
        limit: int | None = None,
    ) -> list[WindowRow]:
        """Return rows of a pipeline: the closed ones in the order of their ends, then open ones.

        Args:
            key: Only of this key: its value, or one for each of its columns. None: of all.
            since: Only windows that end after it.
            until: Only windows that start before it.
            state: Which windows.
            limit: The last so many alone, 1 or more: no others are read. None: all.

        Raises:
            UsageError: a moment without a time zone; a limit below 1.
            RemoteError: the job, or the pipeline, is unknown (`UNKNOWN_JOB`).
            BadRequestError: the key has more or fewer values than the pipeline's.
            NoAgentError: nobody is there.
            DeadlineExceededError, TransportError, ClosedError
        """
        query = RowsQuery(
            pipeline=pipeline,
            job=self._job,
            version=self._version,
            key=asked_key(key),
            since_us=asked_us(since),
            until_us=asked_us(until),
            state=state,
            limit=LIMIT_MAX,
        )
        if limit is not None:
            return await self._asker.last_rows(query, limit)
        rows, _ = await self._asker.all_rows(query)
        return rows

    async def stats(self) -> JobStats:
        """Return the counts of the job, and what one of its processors does.

        Raises:
            as `query`.
        """
        return await self._asker.ask("stats", StatsQuery(self._job, self._version), JobStats)

    async def compare(
        self,
        old: int,
        new: int,
        *,
        pipeline: str,
        until: datetime | None = None,
        limit: int = 10,
    ) -> Comparison:
        """Compare what two versions say of the windows that both have closed.

        Args:
            until: Only windows that end at or before it.
            limit: So many differences are shown, at most; 0 to 1,000.

        Raises:
            as `query`.
        """
        query = CompareQuery(
            pipeline=pipeline,
            job=self._job,
            old=old,
            new=new,
            until_us=asked_us(until),
            limit=limit,
        )
        return await self._asker.ask("compare", query, Comparison, timeout_s=LONG_S)

    async def switch(
        self, version: int, *, patience_s: float = PATIENCE_S, is_forced: bool = False
    ) -> Switched:
        """Have a version be the one that is asked for, and whose rows are events.

        It must run. It is waited for until it has closed all that the current one had closed when
        it was asked: under load it gets there, though the current one is further by then.

        Args:
            patience_s: For how long; 0: once.
            is_forced: Also if it is behind: who asks for rows sees fewer, until it has caught up.

        Delivery: no window is left out of `windows.{job}.{pipeline}`, and none is told twice.

        Raises:
            RemoteError: it is behind, and by how much (`VERSION_BEHIND`); it is not known, or does
                not run (`UNKNOWN_JOB`).
            NoAgentError: nobody is there.
            DeadlineExceededError, TransportError, ClosedError: it may have been done: do it again.
        """
        goal: Goal | None = None
        clock = (link_of(self._of) if isinstance(self._of, Agent) else self._of.link).clock
        until_s = clock.monotonic_s() + patience_s
        while True:
            query = SwitchQuery(version=version, job=self._job, goal=goal, is_forced=is_forced)
            try:
                return await self._asker.ask("switch", query, Switched, timeout_s=LONG_S)
            except RemoteError as error:
                if error.code != VERSION_BEHIND or clock.monotonic_s() >= until_s:
                    raise
                goal = msgspec.convert(error.details["goal"], Goal, str_keys=True)
            await clock.sleep(AGAIN_S)

    async def drop(self, version: int) -> Dropped:
        """Forget a version that is neither asked for nor run: all that the database has of it.

        Raises:
            RemoteError: it is asked for, or run (`VERSION_IN_USE`); it is not known
                (`UNKNOWN_JOB`).
            NoAgentError: nobody is there.
            DeadlineExceededError, TransportError, ClosedError: it may have been done: do it again.
        """
        return await self._asker.ask(
            "drop", DropQuery(version=version, job=self._job), Dropped, LONG_S
        )

    async def follow(
        self, pipeline: str, *, poll_s: float = POLL_S
    ) -> AsyncGenerator[Change, None]:
        """Yield the closed rows that there are, then those that come, for ever; use `aclosing`.

        When the job is switched to another version, that one's rows follow, again from all that
        there are.

        Args:
            poll_s: Seconds after which it asks, where nobody has told it of anything.

        Delivery: each row, or a later revision of it, at least once, within `poll_s` at the latest:
            hints are lost with the link, and are asked for then.

        Raises:
            as `query`, at first; later it goes on as soon as it can.
        """
        version = await self._current(pipeline)
        while True:
            async with aclosing(self._follow(pipeline, version, poll_s)) as changes:
                async for change in changes:
                    yield change
            version = await self._current(pipeline)

    async def anomalies(
        self,
        pipeline: str,
        figure: str,
        *,
        rule: Ewma = USUAL,
        key: Scalar | Iterable[Scalar] = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Anomaly]:
        """Return the closed windows whose figure is far from what their key had before.

        All rows from the first one on are read, since each counts for those behind it: what is said
        of a window does not depend on `since`.

        Args:
            figure: As `find_anomalies` is given it; `rule`, too.
            key: As `query` is given it; `since` and `until`, too.

        Raises:
            UsageError: the rows have no such figure, or it is no number.
            as `query`.
        """
        since_us = asked_us(since)
        rows = await self.query(pipeline, key=key, until=until, state="closed")
        return ending_after(since_us, find_anomalies(rows, figure, rule))

    async def follow_anomalies(
        self,
        pipeline: str,
        figure: str,
        *,
        rule: Ewma = USUAL,
        key: Scalar | Iterable[Scalar] = None,
        since: datetime | None = None,
        poll_s: float = POLL_S,
    ) -> AsyncGenerator[Anomaly, None]:
        """Yield the anomalies that there are, then those that come, for ever; use `aclosing`.

        Late records correct windows, and so the baseline of those behind them. What becomes an
        anomaly by that is told, and so is one whose own row has changed; what is none any more is
        told with `is_cleared`. The last word on each window is what `anomalies` says of it, but
        where one is corrected that 1,000 later ones of its key have followed.

        Args:
            figure: As `find_anomalies` is given it; `rule`, too.
            key: As `query` is given it; `since`, too.
            poll_s: As `follow` is given it.

        Delivery: each once, but when the job is switched to another version: what is none by that
            one is cleared, and what is one is told again.

        Raises:
            UsageError: the rows have no such figure, or it is no number.
            as `follow`.
        """
        wanted, since_us = asked_key(key), asked_us(since)
        await self._current(pipeline, wanted)
        detector = Detector(figure, rule, None if wanted is None else tuple(wanted))
        async with aclosing(self.follow(pipeline, poll_s=poll_s)) as changes:
            async for change in changes:
                for anomaly in ending_after(since_us, detector.take(change)):
                    yield anomaly

    # --- inside -----------------------------------------------------------------------------------

    async def _current(self, pipeline: str, key: list[Scalar] | None = None) -> int:
        """Return the version that is meant.

        Args:
            key: That is to be one of the pipeline's.

        Raises:
            as `query`.
        """
        asked = RowsQuery(
            pipeline=pipeline,
            job=self._job,
            version=self._version,
            key=key,
            state="closed",
            limit=1,
        )
        return (await self._asker.ask("query", asked, RowsPage)).version

    async def _follow(
        self, pipeline: str, version: int, poll_s: float
    ) -> AsyncGenerator[Change, None]:
        """Yield the changes of a version, until it is not the one that is meant any more."""
        wanted = RowsQuery(
            pipeline=pipeline, job=self._job, version=version, state="closed", limit=LIMIT_MAX
        )
        link = link_of(self._of) if isinstance(self._of, Agent) else self._of.link
        topic = turned_topic(group_of(self._job, version), pipeline)
        changes = Changes(
            lambda turn: self._asker.all_rows(msgspec.structs.replace(wanted, after_turn=turn))
        )
        subject = link.subjects.event_listen(Pattern(parse_topic(topic)))
        heard = link.wire.subscribe(subject, changes.hear)
        try:
            rows, page = await self._asker.all_rows(wanted)
            changes.turn = page.turn
            yield Change(rows=rows, watermark_us=page.watermark_us, is_snapshot=True)
            look_s = link.clock.monotonic_s() + poll_s
            while True:
                change = await changes.next(poll_s)
                if change is not None:
                    yield change
                if self._version or link.clock.monotonic_s() < look_s:
                    continue
                if await self._has_switched(pipeline, version):
                    return
                look_s = link.clock.monotonic_s() + poll_s
        finally:
            heard.unsubscribe()

    async def _has_switched(self, pipeline: str, version: int) -> bool:
        """Tell whether another version is meant by now; not while nobody can be asked."""
        try:
            return await self._current(pipeline) != version
        except Agent99Error:
            return False
