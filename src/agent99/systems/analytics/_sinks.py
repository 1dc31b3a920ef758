"""Brings rows to sinks: each reads the result events as a group of its own, and waits for no other.

One processor at a time writes to a sink, the events in the order of the log; the others stand by. A
sink that is away holds up itself alone: its events wait in the log.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from agent99.clock import TimeLimit
from agent99.envelope import Header, Name, Topic, encode_message, parse_key
from agent99.errors import Agent99Error, BadRequestError, UsageError, text_of
from agent99.groups import EventGroup, EventOptions, inspect_group
from agent99.journal import Record
from agent99.systems.analytics._names import results_topic, sink_group_of
from agent99.systems.analytics._questions import SinkStats
from agent99.systems.analytics._results import ClosedWindows, has_whole_rows, row_alone, rows_of
from agent99.systems.analytics._sink import Target
from agent99.systems.analytics._sink_counts import begin, count, note, read_counts
from agent99.work import Outcome, Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent99.groups import Event
    from agent99.systems.analytics._delta import WindowRow
    from agent99.systems.analytics._ground import Ground
    from agent99.systems.analytics._pipeline import Pipeline
    from agent99.systems.analytics._sink import Refused, Sink, SinkWriter

AGAIN_S: Final = 0.5
AGAIN_S_MAX: Final = 30.0
"""Before a sink is opened again that could not be: the pause doubles."""
WAITING_MAX: Final = 4
"""Events, of up to 1 MiB, that wait here for a sink: the log has the others."""
DAY_S: Final = 86_400.0
"""No attempt may take longer (`Curve.timeout_s`)."""
NOTING_S_MAX: Final = 60.0
"""For so long what became of the rows of an event may be noted, once the sink has taken them."""
REFUSED: Final = Name("rows")
"""Under which the quarantine keeps, by the name of the sink's group, rows that it has refused."""

_log = logging.getLogger("agent99.systems.analytics")


class Sinks:
    """Has the sinks of a job at work on one processor.

    Args:
        ground: What it stands on.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground: Final = ground
        self._deliveries: Final = [
            Delivery(ground, pipeline, sink)
            for pipeline in ground.job.pipelines.values()
            for sink in pipeline.sinks
        ]

    def __repr__(self) -> str:
        return f"Sinks({self._deliveries!r})"

    async def run(self) -> None:
        """Keep at it, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for each in self._deliveries:
                tasks.create_task(each.run())

    async def stats(self) -> list[SinkStats]:
        """Return how far each sink is.

        Raises:
            StoreError or one of its kinds.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        if not self._deliveries:
            return []
        read = partial(read_counts, reader=self._ground.reader)
        counts = await self._ground.store.read(read)
        return await asyncio.gather(*(each.stats(counts) for each in self._deliveries))


class Delivery:
    """Brings the rows of one pipeline to one sink.

    Invariant: an event is done when all of its rows are written, or in quarantine.
    """

    def __init__(self, ground: Ground, pipeline: Pipeline, sink: Sink) -> None:
        job = ground.job
        self._ground: Final = ground
        self._sink: Final = sink
        self._topic: Final = results_topic(job.name, pipeline.name)
        self._group: Final = sink_group_of(job.name, job.version, pipeline.name, sink.name)
        self._taken: tuple[int, list[Refused]] | None = None
        """The event whose rows the sink has taken, while that is not noted yet, and which not."""
        self._which: Final = {
            "reader": ground.reader,
            "pipeline": pipeline.name,
            "sink": sink.name,
        }
        self._target: Final = Target(
            mesh=ground.mesh,
            job=job.name,
            version=job.version,
            pipeline=pipeline.name,
            key=pipeline.key_columns,
            values=pipeline.value_columns,
        )

    def __repr__(self) -> str:
        return f"Delivery({self._group!r})"

    async def run(self) -> None:
        """Deliver until cancelled; a sink that cannot be opened is tried again, for ever."""
        pause_s = AGAIN_S
        while True:
            wrong = ""
            try:
                await self._hold_open(was_wrong=pause_s > AGAIN_S)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                wrong = "CancelledError: it has cancelled its own task"
            except Exception as error:  # noqa: BLE001 - a user's sink: the others go on, and it is told
                wrong = self._words(error)
            _log.warning("%r: the sink cannot be opened: %s", self, wrong)
            await self._note(wrong)
            await self._ground.clock.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_S_MAX)

    async def stats(self, counts: dict[tuple[str, str], tuple[int, int, str]]) -> SinkStats:
        """Return how far it is.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        pipeline, sink = self._which["pipeline"], self._which["sink"]
        delivered, refused, error = counts.get((pipeline, sink), (0, 0, ""))
        lag = buried = None
        try:
            state = await inspect_group(self._ground.agent, self._group)
            lag, buried = state.lag, state.buried
        except UsageError:  # it was never opened: there is no group yet
            pass
        return SinkStats(
            pipeline=pipeline,
            sink=sink,
            group=self._group,
            lag=lag,
            delivered=delivered,
            refused=refused,
            refused_events=buried or 0,
            error=error,
        )

    # --- inside -----------------------------------------------------------------------------------

    async def _hold_open(self, *, was_wrong: bool) -> None:
        """Open the sink, and have its group read until this is cancelled."""
        await self._ground.store.transaction(partial(begin, which=self._which))
        async with AsyncExitStack() as stack:
            with self._limit():
                writer = await stack.enter_async_context(self._sink.open(self._target))
            await stack.enter_async_context(self._reading(writer))
            if was_wrong:
                await self._note("")
            await asyncio.Event().wait()

    def _limit(self) -> TimeLimit:
        """Return the time that the sink has for one attempt, from now on."""
        ground = self._ground
        return TimeLimit(ground.deadlines, ground.clock, self._sink.curve.timeout_s)

    def _reading(self, writer: SinkWriter) -> EventGroup:
        curve = self._sink.curve
        # The limit of the sink is kept here, where it is seen; the group's is that of the whole.
        whole_s = min(curve.timeout_s + NOTING_S_MAX, DAY_S)
        return EventGroup(
            self._ground.agent,
            self._group,
            [self._topic],
            partial(self._deliver, writer),
            options=EventOptions(
                active="one",
                curve=msgspec.structs.replace(curve, timeout_s=whole_s),
                prefetch_max=WAITING_MAX,
                waiting_max=WAITING_MAX,
            ),
        )

    async def _deliver(self, writer: SinkWriter, event: Event) -> None:
        """Hand the rows of an event to the sink, and put into quarantine what it refuses."""
        closed = event.decode(ClosedWindows)
        if closed.version != self._target.version:
            return
        rows = _checked_rows(closed, self._target)
        if self._taken is None or self._taken[0] != event.sequence:
            self._taken = event.sequence, await self._write(writer, rows, event)
        refused = self._taken[1]
        for one in refused:
            await self._bury(event, closed, one)
        await self._ground.store.transaction(
            partial(
                count,
                which=self._which,
                sequence=event.sequence,
                delivered=len(rows) - len(refused),
                refused=len(refused),
            )
        )
        self._taken = None

    async def _write(
        self, writer: SinkWriter, rows: Sequence[WindowRow], event: Event
    ) -> list[Refused]:
        """Have the sink write rows; returns those that it refuses.

        Raises:
            whatever it does: that is noted.
        """
        try:
            with self._limit():
                return _checked_refused(await writer.write(rows, event), len(rows))
        except Exception as error:
            await self._note(self._words(error))
            raise

    async def _bury(self, event: Event, closed: ClosedWindows, refused: Refused) -> None:
        """Put a row into quarantine, as an event of its own; done twice, it is there once."""
        ground, topic = self._ground, Topic(event.type)
        header = Header(
            type="event",
            from_uuid=event.source,
            to_uuid=topic,
            event_uuid=event.id,
            timestamp=event.time_us,
            traceparent=event.traceparent or None,
        )
        body = msgspec.json.encode(row_alone(closed, refused.row))
        subject = ground.subjects.log(topic, parse_key(event.subject or event.id))
        message = encode_message(header, body)
        place = Place(
            ground.streams.log, Name(self._group), REFUSED, subject, "group", str(refused.row)
        )
        await ground.quarantine.bury(
            Record(subject, event.sequence, message, event.stored_us),
            header,
            Outcome(BadRequestError(refused.reason)),
            place,
            reason="not_retryable",
            attempts=event.attempt,
        )

    async def _note(self, error: str) -> None:
        """Show what is wrong with the sink, in the statistics; where that fails, in the log."""
        try:
            await self._ground.store.transaction(partial(note, which=self._which, error=error))
        except Agent99Error as missed:
            _log.warning("%r: %s; and that could not be noted: %s", self, error or "well", missed)

    def _words(self, error: Exception) -> str:
        text = text_of(error)
        if not text and isinstance(error, TimeoutError):
            text = f"not within {self._sink.curve.timeout_s:g} s"
        return f"{type(error).__name__}: {text}"


def _checked_refused(refused: Sequence[Refused] | None, rows: int) -> list[Refused]:
    """Return each row that is refused once; None: a sink that has said nothing of any.

    Raises:
        UsageError: there is no such row: what the sink means is not known.
    """
    by_row = {one.row: one for one in refused or ()}
    if wrong := by_row.keys() - set(range(rows)):
        raise UsageError(f"the sink refuses row {min(wrong)} of {rows}: they start at 0")
    return list(by_row.values())


def _checked_rows(closed: ClosedWindows, target: Target) -> list[WindowRow]:
    """Return the rows of an event that anybody may have appended.

    Raises:
        BadRequestError: they are not those of the pipeline; says why.
    """
    if list(closed.key) != [one.name for one in target.key]:
        raise BadRequestError(f"the key of its rows is {list(closed.key)}")
    if closed.values.keys() != {one.name for one in target.values}:
        raise BadRequestError(f"the figures of its rows are {list(closed.values)}")
    if not has_whole_rows(closed):
        raise BadRequestError("its columns are not of one length")
    return rows_of(closed)
