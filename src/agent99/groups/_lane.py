"""One partition in hand: read in order, handed to the handler, committed, and given up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from agent99.clock import Clock, wait_done
from agent99.envelope import Name
from agent99.errors import Agent99Error, LeaseLostError
from agent99.groups._batch import Batch
from agent99.groups._options import GroupOptions
from agent99.groups._tenure import Tenure
from agent99.groups._trust import Trust
from agent99.ids import Ids
from agent99.journal import Journal, Record

RETRY_S_MIN = 0.1
"""Before a batch is handed out again; the pause doubles."""
READ_AGAIN_S = 0.5
"""Before a stream that could not be read is tried again."""

_log = logging.getLogger("agent99.groups")

Handler = Callable[[Batch], Awaitable[None]]
"""Takes the events of one partition; returned = done. What it raises brings the batch again."""


class Source(Protocol):
    """What every lane of a member shares."""

    name: Name
    """The group's."""
    reader: str
    """Under which name a store keeps its positions."""
    journal: Journal
    stream: str
    handler: Handler
    options: GroupOptions
    clock: Clock
    ids: Ids
    tally: Tally

    @property
    def trust(self) -> Trust:
        """Whether it must be made sure of what is owned."""
        ...

    def subjects(self, partition: int) -> tuple[str, ...]:
        """Return what is read of a partition."""
        ...

    def lost(self, lane: Lane) -> None:
        """Learn that a lane's partition belongs to another member."""
        ...


class Tally:
    """Counts of what all lanes of a member have done."""

    def __init__(self) -> None:
        self.events = self.batches = self.failures = 0
        self.claimed = self.released = self.fenced = 0

    def __repr__(self) -> str:
        return f"Tally(events={self.events}, failures={self.failures})"


class Lane:
    """Works off one partition, from its position on.

    Invariant: `position` is the last record that the handler has done with all before it; at most
    one batch is in the handler's hands.
    """

    def __init__(self, source: Source, partition: int, tenure: Tenure, position: int) -> None:
        self.partition = partition
        self.tenure = tenure
        self.position = position
        self.is_leaving = False
        self._source = source
        self._trusted = source.trust.number
        self._is_handling = False
        self._uncommitted = 0
        """Events since the last commit, roughly: those of one that failed are not counted again."""
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Lane({self.partition}, position={self.position}, epoch={self.tenure.epoch})"

    def start(self) -> None:
        """Work from now on."""
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(self._ended)

    async def leave(self, timeout_s: float) -> None:
        """Let what the handler is at end, or cancel it, then commit and release.

        Raises:
            LeaseLostError: another member owns it already.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        self.is_leaving = True
        if self._task is not None and self._is_handling:
            await wait_done(self._source.clock, self._task, timeout_s)
        await self.drop()
        await self.tenure.release(self.position)

    async def drop(self) -> None:
        """Hand out nothing more, and cancel the handler; nothing is written. Idempotent."""
        self.is_leaving = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def commit(self) -> None:
        """Write how far it is, if that is not written yet; what fails now is tried again later."""
        if self.position <= self.tenure.place.position or self.tenure.is_lost:
            return
        self._uncommitted = 0
        try:
            await self.tenure.commit(self.position)
        except LeaseLostError:
            self._source.lost(self)
        except Agent99Error as error:
            _log.info("%r could not commit: %s", self, error)

    # --- inside -----------------------------------------------------------------------------------

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Have the partition claimed anew if work on it has ended by a bug: else it stood still."""
        if not task.cancelled() and task.exception() is not None:
            _log.error("%r broke", self, exc_info=task.exception())
            self._source.lost(self)

    async def _work(self) -> None:
        while not self.is_leaving:
            try:
                await self._read()
            except LeaseLostError:
                self._source.lost(self)
                return
            except Agent99Error as error:
                _log.warning("%r cannot be read: %s", self, error)
                await self._source.clock.sleep(READ_AGAIN_S)

    async def _read(self) -> None:
        source, options = self._source, self._source.options
        tail = source.journal.tail(
            source.stream,
            source.subjects(self.partition),
            from_sequence=self.position + 1,
            prefetch_max=options.prefetch_max,
        )
        async with tail as records:
            while not self.is_leaving:
                await self._hand_out(await records.read(options.batch_max))

    async def _hand_out(self, records: tuple[Record, ...]) -> None:
        """Hand a batch to the handler until it is done with it."""
        source = self._source
        attempt, pause_s = 1, RETRY_S_MIN
        while True:
            await self._make_sure()
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
            if self.is_leaving:
                return
            await source.clock.sleep(pause_s * (0.5 + source.ids.fraction() / 2))
            attempt, pause_s = attempt + 1, min(pause_s * 2, source.options.retry_s_max)
        self.position = batch.position
        source.tally.events += len(records)
        source.tally.batches += 1
        self._uncommitted += len(records)
        if self._uncommitted >= source.options.commit_events_max:
            await self.commit()

    async def _is_done_with(self, batch: Batch) -> bool:
        self._is_handling = True
        try:
            await self._source.handler(batch)
        except LeaseLostError:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            _log.warning("%r: the handler was cancelled, but not by us: it comes again", self)
            return False
        except Exception:  # noqa: BLE001 - a user's code; it is logged, and the batch comes again
            _log.exception("%r: the handler failed, and is given the batch again", self)
            return False
        finally:
            self._is_handling = False
        return True

    async def _make_sure(self) -> None:
        """Return once it is certain that the partition is ours, as far as anybody can say.

        Raises:
            LeaseLostError: it is not.
        """
        trust = self._source.trust
        while self._trusted != (number := trust.number):
            try:
                await self.tenure.commit(self.position)
            except LeaseLostError:
                raise
            except Agent99Error as error:
                _log.info("%r waits, for it may have lost its partition: %s", self, error)
                await self._source.clock.sleep(READ_AGAIN_S)
            else:
                self._trusted = number
