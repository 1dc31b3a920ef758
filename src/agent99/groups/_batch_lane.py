"""A partition whose events are handed out in batches: one at a time, again until it is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from agent99.clock import wait_done
from agent99.errors import LeaseLostError
from agent99.groups._batch import Batch
from agent99.groups._lane import Hold, Lane, Source
from agent99.groups._place import Progress
from agent99.journal import Record

RETRY_S_MIN = 0.1
"""Before a batch is handed out again; the pause doubles."""

_log = logging.getLogger("agent99.groups")

Handler = Callable[[Batch], Awaitable[None]]
"""Takes the events of one partition; returned = done. What it raises brings the batch again."""


class BatchLane(Lane):
    """Hands out the events of a partition in batches.

    Invariant: the position is that of the last record that the handler has done with all before it;
    at most one batch is in the handler's hands.
    """

    def __init__(
        self, source: Source, partition: int, tenure: Hold, progress: Progress, handler: Handler
    ) -> None:
        super().__init__(source, partition, tenure, progress)
        self._handler = handler
        self._position = progress.position
        self._reached = progress.reached
        self._open = progress.open
        self._events = progress.events
        self._failures = progress.failures
        self._is_handling = False

    def progress(self) -> Progress:
        """Return how far it is."""
        progress = Progress(
            position=self._position,
            events=self._events,
            failures=self._failures,
            held_up=self.held_up,
        )
        still_open = tuple(each for each in self._open if each > self._position)
        if not still_open:
            return progress
        return msgspec.structs.replace(progress, reached=self._reached, open=still_open)

    async def settle(self, timeout_s: float) -> None:
        """Let the handler end what it is at, for so long."""
        if self.task is not None and self._is_handling:
            await wait_done(self.source.clock, self.task, timeout_s)

    async def take(self, records: tuple[Record, ...]) -> None:
        """Hand a batch to the handler until it is done with it.

        Raises:
            LeaseLostError: the partition belongs to another member.
        """
        source, position = self.source, records[-1].sequence
        records = self._wanted(records)
        if not records:
            self._position = position
            return
        attempt, pause_s = 1, RETRY_S_MIN
        while True:
            await self.make_sure()
            batch = Batch(
                group=source.name,
                reader=source.reader,
                partition=self.partition,
                epoch=self.tenure.epoch,
                records=records,
                attempt=attempt,
            )
            if await self._is_done_with(batch):
                break
            source.tally.failures += 1
            self._failures += 1
            if self.is_leaving:
                return
            await source.clock.sleep(pause_s * (0.5 + source.ids.fraction() / 2))
            attempt, pause_s = attempt + 1, min(pause_s * 2, source.options.retry_s_max)
        self.held_up = ""
        self._position = position
        self._events += len(records)
        source.tally.events += len(records)
        source.tally.batches += 1
        await self.count(len(records))

    def _wanted(self, records: tuple[Record, ...]) -> tuple[Record, ...]:
        """Return what is not done and meant for this group."""
        if records[0].sequence <= self._reached:
            still_open = frozenset(self._open)
            records = tuple(
                record
                for record in records
                if record.sequence > self._reached or record.sequence in still_open
            )
        is_for_others = self.source.is_for_others
        return tuple(record for record in records if not is_for_others(record.subject))

    async def _is_done_with(self, batch: Batch) -> bool:
        self._is_handling = True
        try:
            await self._handler(batch)
        except LeaseLostError as error:
            if await self.is_lost():
                raise
            self._note(error)
            return False
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self.hold_up("the handler was cancelled, but not by us")
            _log.warning("%r: %s: it comes again", self, self.held_up)
            return False
        except Exception as error:  # noqa: BLE001 - a user's code: logged, and the batch comes again
            self._note(error)
            return False
        finally:
            self._is_handling = False
        return True

    def _note(self, error: Exception) -> None:
        """Tell that the handler failed at a batch, which it is given again."""
        self.hold_up(f"the handler raised {type(error).__name__}: {error}")
        _log.error("%r: the handler failed, and is given the batch again", self, exc_info=error)
