"""One partition in hand: read in order, worked on, committed, and given up."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterable
from typing import Protocol

from agent99.clock import Clock, Deadlines
from agent99.envelope import Name
from agent99.errors import Agent99Error, LeaseLostError, text_of
from agent99.groups._options import GroupOptions
from agent99.groups._place import Place, Progress
from agent99.groups._trust import Trust
from agent99.ids import Ids
from agent99.journal import Journal, Record

END_S_MAX = 5.0
"""That a handler has to end which was cancelled."""
HELD_UP_CHARS_MAX = 200
"""Of the reason why a partition is held up: it is written with its position."""
TELL_AGAIN_S = 60.0
"""Before the log says again that a partition is held up."""
READ_AGAIN_S = 0.5
"""Before a stream that could not be read is tried again."""

_log = logging.getLogger("agent99.groups")


class Hold(Protocol):
    """A partition in the hands of one member; see `Tenure`."""

    place: Place
    revision: int

    @property
    def epoch(self) -> int:
        """Of the claim."""
        ...

    @property
    def is_lost(self) -> bool:
        """Whether another member has it."""
        ...

    async def commit(self, progress: Progress, suspect: int = 0) -> None:
        """Say how far it is."""
        ...

    async def release(self, progress: Progress) -> None:
        """Say how far it is, and give it up."""
        ...


class Tally:
    """Counts of what all lanes of a member have done."""

    def __init__(self) -> None:
        self.events = self.batches = self.failures = self.buried = 0
        self.claimed = self.released = self.fenced = 0

    def __repr__(self) -> str:
        return f"Tally(events={self.events}, failures={self.failures})"


class Source(Protocol):
    """What every lane of a member shares."""

    name: Name
    """The group's."""
    reader: str
    """Under which name a store keeps its positions."""
    journal: Journal
    stream: str
    clock: Clock
    deadlines: Deadlines
    ids: Ids
    tally: Tally
    alone: asyncio.Lock
    """Whoever has it hands out an event that owners may have died of."""

    @property
    def has_store(self) -> bool:
        """Whether the epochs are in a store as well."""
        ...

    @property
    def options(self) -> GroupOptions:
        """The bounds."""
        ...

    @property
    def trust(self) -> Trust:
        """Whether it must be made sure of what is owned."""
        ...

    def subjects(self, partition: int) -> tuple[str, ...]:
        """Return what is read of a partition."""
        ...

    def is_for_others(self, subject: str) -> bool:
        """Tell whether what is read of it is meant for others, and left out."""
        ...

    def lost(self, lane: Lane) -> None:
        """Learn that a lane's partition belongs to another member."""
        ...


class Lane:
    """Works off one partition, from where it is on; how, its two kinds say.

    Invariant: nothing is handed out after `is_leaving`, nor before it is certain that the partition
    is owned.
    """

    def __init__(self, source: Source, partition: int, tenure: Hold, progress: Progress) -> None:
        self.partition = partition
        self.tenure = tenure
        self.is_leaving = False
        self.source = source
        self.began = progress
        self._trusted = source.trust.number
        self._uncommitted = 0
        """Events since the last commit."""
        self.task: asyncio.Task[None] | None = None
        """That reads."""
        self.held_up = ""
        """Why what comes next cannot be done just now; empty: nothing is in the way."""
        self._tells_from_s = -math.inf

    def __repr__(self) -> str:
        position, epoch = self.progress().position, self.tenure.epoch
        return f"{type(self).__name__}({self.partition}, {position=}, {epoch=})"

    # --- what the kinds differ in -----------------------------------------------------------------

    def progress(self) -> Progress:
        """Return how far it is."""
        raise NotImplementedError

    async def take(self, records: tuple[Record, ...]) -> None:
        """Work on the next records; returns when there is room for more.

        Raises:
            LeaseLostError: the partition belongs to another member.
        """
        raise NotImplementedError

    async def settle(self, timeout_s: float) -> None:
        """Let the handlers that are at work end, for so long; nothing new is begun."""
        raise NotImplementedError

    def suspect(self) -> int:
        """Return the event that is handed out alone; 0: none."""
        return 0

    # --- its life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Work from now on."""
        self.task = asyncio.get_running_loop().create_task(self._work())
        self.task.add_done_callback(self.ended)

    async def leave(self, timeout_s: float) -> None:
        """Let what the handlers are at end, or cancel it, then commit and release.

        Raises:
            LeaseLostError: another member owns it already.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        self.is_leaving = True
        await self.settle(timeout_s)
        await self.drop()
        await self.tenure.release(self.progress())

    async def drop(self) -> None:
        """Hand out nothing more, and cancel the handlers; nothing is written. Idempotent."""
        self.is_leaving = True
        task, self.task = self.task, None
        if task is not None:
            await self.end([task])

    async def end(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        """Cancel tasks, and wait until they have ended; for a handler that will not, so long."""
        ending = list(tasks)
        for task in ending:
            task.cancel()
        if ending:
            _, left = await asyncio.wait(ending, timeout=END_S_MAX)
            if left:
                _log.error("%r: %d handlers do not end though they are cancelled", self, len(left))

    async def commit(self) -> None:
        """Write how far it is, if that is not written yet; what fails now is tried again later."""
        progress = self.progress()
        if progress == self.tenure.place.progress or self.tenure.is_lost:
            return
        self._uncommitted = 0
        try:
            await self.tenure.commit(progress, self.suspect())
        except LeaseLostError:
            self.source.lost(self)
        except Agent99Error as error:
            _log.info("%r could not commit: %s", self, error)

    async def count(self, events: int) -> None:
        """Count what was done, and commit if that is much."""
        self._uncommitted += events
        if self._uncommitted >= self.source.options.commit_events_max:
            await self.commit()

    async def make_sure(self) -> None:
        """Return once it is certain that the partition is ours, as far as anybody can say.

        Raises:
            LeaseLostError: it is not.
        """
        trust = self.source.trust
        while self._trusted != (number := trust.number):
            try:
                await self.tenure.commit(self.progress(), self.suspect())
            except LeaseLostError:
                raise
            except Agent99Error as error:
                _log.info("%r waits, for it may have lost its partition: %s", self, error)
                await self.source.clock.sleep(READ_AGAIN_S)
            else:
                self._trusted = number

    def hold_up(self, reason: str) -> None:
        """Note what is in the way of what comes next, for whoever looks at the group."""
        self.held_up = text_of(reason)[:HELD_UP_CHARS_MAX]

    def tell_held_up(self) -> None:
        """Say in the log what is in the way, once a minute at most."""
        now_s = self.source.clock.monotonic_s()
        if now_s >= self._tells_from_s:
            self._tells_from_s = now_s + TELL_AGAIN_S
            _log.warning("%r is held up, and tries on: %s", self, self.held_up)

    async def is_lost(self) -> bool:
        """Find out whether the partition is another member's; while nobody says, it may be.

        A handler that met a lost lease met this one, or one of its own. Where there is a store, it
        knows of owners before the bucket does.
        """
        if self.source.has_store:
            return True
        try:
            await self.tenure.commit(self.progress(), self.suspect())
        except Agent99Error:
            return True
        return False

    def ended(self, task: asyncio.Task[None]) -> None:
        """Have the partition claimed anew if work on it has ended by a bug: else it stood still."""
        if not task.cancelled() and task.exception() is not None:
            _log.error("%r broke", self, exc_info=task.exception())
            self.source.lost(self)

    # --- inside -----------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self.is_leaving:
            try:
                await self._read()
            except LeaseLostError:
                self.source.lost(self)
                return
            except Agent99Error as error:
                _log.warning("%r cannot be read: %s", self, error)
                await self.source.clock.sleep(READ_AGAIN_S)

    async def _read(self) -> None:
        source, options = self.source, self.source.options
        tail = source.journal.tail(
            source.stream,
            source.subjects(self.partition),
            from_sequence=self.next_sequence(),
            prefetch_max=options.prefetch_max,
        )
        async with tail as records:
            while not self.is_leaving:
                await self.take(await records.read(options.batch_max))

    def next_sequence(self) -> int:
        """Return from where the stream is read."""
        return self.progress().position + 1
