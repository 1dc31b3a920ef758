"""Make, list and cancel schedules, and fire them."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import msgspec

from agent99.agent import Agent
from agent99.envelope import ENVELOPE_BYTES, encode_body, parse_key, parse_name, parse_topic
from agent99.errors import PayloadTooLargeError, UsageError, WrongSequenceError
from agent99.schedules._book import Book
from agent99.schedules._cron import micros_of
from agent99.schedules._firing import Firing
from agent99.schedules._parts import parts_of
from agent99.schedules._rule import AHEAD_US_MAX, At, Cron, Every, Missed, Rule, next_after
from agent99.schedules._schedule import Schedule, is_same, sized
from agent99.schedules._tally import SchedulesStatistics

if TYPE_CHECKING:
    from agent99.agent import Mesh

_PERIOD_US_MIN = 1_000_000

_log = logging.getLogger("agent99.schedules")


class Schedules:
    """The schedules of a mesh: events that are appended when their time comes.

    Making, listing and cancelling needs an open mesh alone. Entered, it also fires what is due, in
    as many processes as do so:

        async with Schedules(mesh) as schedules:
            await schedules.every(60, "stock.count_due", {"shop": 7})

    Args:
        of: The open mesh, or an agent that runs on it.

    Delivery: while at least one process fires, each moment's event is appended within 1 s of it.
        A moment at which there was none is made up for as soon as there is one: once, however many
        were missed (`missed`). Each moment's event is stored once, also where a process dies at
        it: as long as the log holds the event (`log_age_s_max`). Moments are told by the wall
        clocks of the processes: a clock that is ahead fires early.

    Raises:
        ClosedError: the mesh is not open.
        UsageError: no mesh hosts the agent.
    """

    def __init__(self, of: Mesh | Agent) -> None:
        self._parts = parts = parts_of(of)
        self._book = Book(parts.journal, parts.subjects.mesh, replicas=parts.streams.replicas)
        self._firing = Firing(parts, self._book)
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "not firing" if self._task is None else f"firing, {self.statistics().known} known"
        return f"Schedules({self._parts.subjects.mesh!r}, {state})"

    async def __aenter__(self) -> Self:
        """Fire from now on.

        Raises:
            UsageError: it was entered before.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        if self._task is not None:
            raise UsageError(f"{self!r} was entered before: make another one")
        await self._book.open()
        self._task = asyncio.get_running_loop().create_task(self._firing.run())
        self._task.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Begin nothing more; what is being fired ends, within 5 s."""
        assert self._task is not None
        try:
            await self._firing.end()
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def statistics(self) -> SchedulesStatistics:
        """Return what was fired here."""
        return self._firing.statistics()

    # --- making -----------------------------------------------------------------------------------

    async def at(
        self,
        when: datetime,
        topic: str,
        event: Any = None,
        *,
        key: str | None = None,
        id: str | None = None,  # noqa: A002 - the word of the house
    ) -> str:
        """Append an event at a moment, once; returns the schedule's id.

        Args:
            when: With a time zone, at most ten years ahead; what is past is due at once.
            topic: Names joined by dots: `order.placed`.
            event: An object: a Struct, a dict, or None for an empty one.
            key: Of the event, 1 to 128 bytes; by default it is in no order.
            id: A name of your own. The same id with the same content is no error and makes nothing
                new, for seven days after it was fired too: so set-up code may run again.

        Delivery: returned = stored (and replicated, where the bucket has replicas).

        Raises:
            UsageError, InvalidNameError, PayloadTooLargeError: nothing was sent; or the id is there
                with another content.
            StreamFullError: the schedules have reached their bound: not stored.
            JournalError, DeadlineExceededError, TransportError: whether it is stored is unknown;
                with an id of your own, repeat it.
            ClosedError
        """
        rule = At(_micros("when", when))
        return await self._make(rule, rule.at_us, _What(topic, event, key, id))

    async def every(
        self,
        period: float | timedelta,
        topic: str,
        event: Any = None,
        *,
        key: str | None = None,
        start: datetime | None = None,
        missed: Missed = "once",
        id: str | None = None,  # noqa: A002 - the word of the house
    ) -> str:
        """Append an event every so often; returns the schedule's id. It does not drift.

        Args:
            period: Seconds, or a `timedelta`: 1 s to ten years.
            start: With a time zone: the moments are this one and those at whole periods after it.
                By default the first one is a period from now; the same id then means the same
                whenever it was made.
            missed: `once`: moments at which nobody fired are made up for by one event. `skip`: they
                are not, but for one of the last 10 s.
            topic, event, key, id: As of `at`.

        Delivery: as of `at`.

        Raises:
            as `at`.
        """
        period_us, now_us = _period_us(period), self._parts.clock.wall_us()
        start_us = now_us + period_us if start is None else _micros("start", start)
        rule = Every(period_us, start_us)
        first_us = next_after(rule, now_us - 1)
        what = _What(topic, event, key, id, missed, is_anchored=start is not None)
        return await self._make(rule, first_us, what)

    async def cron(
        self,
        expression: str,
        topic: str,
        event: Any = None,
        *,
        key: str | None = None,
        zone: str = "UTC",
        missed: Missed = "once",
        id: str | None = None,  # noqa: A002 - the word of the house
    ) -> str:
        """Append an event at the minutes that a cron expression names; returns the schedule's id.

        A daily time that a change of the clocks leaves out comes when there is a time again; one
        that is there twice comes the first time. With `*` at the beginning of the minute or hour
        the moments follow the hours as they pass.

        Args:
            expression: Minute, hour, day of the month, month, day of the week: `0 9 * * MON-FRI`.
            zone: An IANA name, such as `Europe/Berlin`.
            missed: As of `every`.
            topic, event, key, id: As of `at`.

        Delivery: as of `at`.

        Raises:
            UsageError: also: cron's library is not installed; the expression, or the zone, is
                wrong; it names no moment within ten years.
            as `at`.
        """
        rule = Cron(expression, zone)
        first_us = next_after(rule, self._parts.clock.wall_us())
        if first_us is None:
            raise UsageError(f"{expression!r} names no moment within ten years")
        return await self._make(rule, first_us, _What(topic, event, key, id, missed))

    # --- what there is ----------------------------------------------------------------------------

    async def list(self) -> tuple[Schedule, ...]:
        """Return every schedule, the next one due first; those that are over come last.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        found = await self._book.every()
        found.sort(key=lambda one: (one.next_us is None, one.look_us, one.id))
        return tuple(found)

    async def cancel(self, id: str) -> bool:  # noqa: A002 - the word of the house
        """Remove a schedule; returns whether it was there. What is being fired may still come.

        Raises:
            InvalidNameError: it can be no id; nothing was sent.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError: whether it is
                there is unknown.
            ClosedError
        """
        name = parse_name("schedule", id)
        while True:
            found = await self._book.get(name)
            if found is None:
                return False
            try:
                await self._book.remove(name, revision=found[1])
            except WrongSequenceError:  # it was fired just now
                continue
            return True

    # --- inside -----------------------------------------------------------------------------------

    async def _make(self, rule: Rule, first_us: int | None, what: _What) -> str:
        parts = self._parts
        body = encode_body(what.event)
        bytes_max = parts.wire.payload_bytes_max - ENVELOPE_BYTES
        if len(body) > bytes_max:
            raise PayloadTooLargeError("event", len(body), bytes_max)
        if what.key is not None:
            parse_key(what.key)
        if what.missed not in ("once", "skip"):
            raise UsageError(f"missed is 'once' or 'skip', not {what.missed!r}")
        now_us = parts.clock.wall_us()
        if first_us is None or first_us - now_us > AHEAD_US_MAX:
            raise UsageError("a schedule is due within ten years")
        schedule = Schedule(
            id=parse_name("schedule", what.id) if what.id is not None else parts.ids.uuid(),
            topic=parse_topic(what.topic),
            key=what.key,
            event=msgspec.Raw(body),
            rule=rule,
            missed=what.missed,
            next_us=first_us,
            made_us=now_us,
            made_by=parts.maker,
            seed=UUID(parts.ids.uuid()),
            is_named=what.id is not None,
        )
        await self._book.create(
            sized(schedule), lambda made, known: is_same(made, known, is_anchored=what.is_anchored)
        )
        return schedule.id

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.critical("%r broke, and fires nothing more", self, exc_info=task.exception())


class _What(msgspec.Struct, frozen=True):
    """What a user wants appended."""

    topic: str
    event: Any
    key: str | None
    id: str | None
    missed: Missed = "once"
    is_anchored: bool = True


def _micros(what: str, moment: datetime) -> int:
    if not isinstance(moment, datetime):
        raise UsageError(f"{what} is a datetime, not {moment!r}")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise UsageError(f"{what} needs a time zone, such as tzinfo=UTC: {moment!r} has none")
    return micros_of(moment)


def _period_us(period: float | timedelta) -> int:
    seconds = period.total_seconds() if isinstance(period, timedelta) else period
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise UsageError(f"a period is seconds or a timedelta, not {period!r}")
    if not _PERIOD_US_MIN <= seconds * 1e6 <= AHEAD_US_MAX:  # nor is it no number at all
        raise UsageError(f"a period is 1 s to ten years, not {period!r}")
    return round(seconds * 1e6)
