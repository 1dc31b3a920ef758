"""Every instance is given every event: nothing is shared, and nobody keeps a place for it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agent99.agent import Agent
from agent99.envelope import Pattern, is_inbox_of, parse_name, parse_pattern, sender_of
from agent99.errors import BufferFullError, ClosedError, UsageError
from agent99.groups._burial import Burial
from agent99.groups._event_lane import EventHandler, EventLane
from agent99.groups._lane import Lane, Tally
from agent99.groups._options import EventOptions
from agent99.groups._parts import parts_of, reader_name
from agent99.groups._place import Place, Progress
from agent99.groups._start import find_beginning
from agent99.groups._trust import Trust
from agent99.journal import Record
from agent99.wire import Message, Subscription
from agent99.work import HEARS, Outcome, Reason

if TYPE_CHECKING:
    from agent99.agent import Mesh


class Unshared:
    """What an instance has for itself: there is nothing to claim, and nobody to take it away."""

    epoch = 0
    revision = 0
    is_lost = False

    def __init__(self) -> None:
        self.place = Place()

    def __repr__(self) -> str:
        return f"Unshared({self.place!r})"

    async def commit(self, progress: Progress, suspect: int = 0) -> None:
        """Keep how far it is, as long as the instance lives."""
        self.place = Place(progress=progress, suspect=suspect)

    async def release(self, progress: Progress) -> None:
        """Forget it."""


class Broadcast:
    """Hands every stored event of some topics to this instance, and to each other that asks.

        async with Broadcast(mesh, "prices", ("price.*",), handle):
            ...

    Args:
        of: The open mesh, or an agent that runs on it.
        name: Under which the quarantine keeps what could not be handled; the same in all instances.
        topics: Patterns of the topics, which must not overlap; the server filters.
        handler: As of `EventGroup`.
        options: The bounds. An instance begins with `start` each time it starts: with what comes
            from then on, unless it says otherwise; nobody remembers what it has seen.

    Delivery: each event once to each instance that is there, in order per key, but for what is
        tried again. What one instance fails at for good goes into quarantine once; redriven, it
        comes to all instances that are there, and while none is it is not redriven.

    Raises:
        UsageError, InvalidNameError: the name, the topics or the start.
        ClosedError: the mesh is not open.
    """

    def __init__(
        self,
        of: Mesh | Agent,
        name: str,
        topics: Iterable[str],
        handler: EventHandler,
        *,
        options: EventOptions | None = None,
    ) -> None:
        self.name = parse_name("broadcast", name)
        self.topics = tuple(sorted(parse_pattern(topic) for topic in topics))
        self.handler = handler
        self.options = options or EventOptions()
        self.tally = Tally()
        self.alone = asyncio.Lock()
        self._parts = parts = parts_of(of)
        self.journal = parts.journal
        self.clock = parts.clock
        self.deadlines = parts.deadlines
        self.ids = parts.ids
        self.stream = parts.streams.log
        self.reader = reader_name(parts.subjects.mesh, self.name)
        self.trust = Trust(parts.clock, math.inf)
        self.has_store = False
        if not self.topics:
            raise UsageError(f"broadcast {self.name!r} reads no topics")
        parts.journal.tail(self.stream, self.subjects(0))  # refuses patterns that overlap
        self._hearing: Subscription | None = None
        self._lane: Lane | None = None
        self._mending: asyncio.Task[None] | None = None
        self._is_leaving = False

    def __repr__(self) -> str:
        return f"Broadcast({self.name!r}, topics={self.topics!r})"

    async def __aenter__(self) -> Self:
        """Begin.

        Raises:
            UsageError: it was used before; the start lies in the future.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        if self._lane is not None:
            raise UsageError(f"{self!r} was used before: make another one")
        await self._parts.streams.ensure_log()
        beginning = await find_beginning(
            self.journal,
            self.stream,
            self._logged(),
            self.options.start or "new",
            now_us=self.clock.wall_us(),
            partitions=1,
        )
        wire, listen = self._parts.wire, self._parts.subjects.named_listen(self.name, HEARS)
        self._hearing = wire.subscribe(listen, self._answer)
        try:
            await wire.flush()  # whoever is told that it is there may redrive to it
        except BaseException:
            self._hearing.unsubscribe()
            raise
        self._begin(beginning.progress(0))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the handlers that are at work end, for `drain_s_max`, and stop."""
        assert self._lane is not None
        assert self._hearing is not None
        self._is_leaving = True
        self._hearing.unsubscribe()
        await self._lane.leave(self.options.drain_s_max)

    def subjects(self, partition: int) -> tuple[str, ...]:
        """Private to the room: return what is read; also what is redriven."""
        del partition  # they are one
        return (*self._logged(), self._parts.subjects.again_listen(self.name))

    def is_for_others(self, subject: str) -> bool:
        """Private to the room: nothing of what is read is meant for others."""
        del subject
        return False

    def lost(self, lane: Lane) -> None:
        """Private to the room: go on where a lane was that broke."""
        if lane is self._lane and not lane.is_leaving:
            self._mending = asyncio.get_running_loop().create_task(self._mend(lane))

    async def bury(self, record: Record, outcome: Outcome, reason: Reason, attempts: int) -> None:
        """Private to the room: move an event to quarantine."""
        burial = Burial(self._parts, self.name, "broadcast")
        await burial.bury(record, outcome, reason, attempts)

    # --- inside -----------------------------------------------------------------------------------

    def _answer(self, message: Message) -> None:
        """Say that it is there, to an inbox of whoever asks."""
        if is_inbox_of(sender_of(message.subject), message.reply):
            with suppress(BufferFullError, ClosedError):  # then it is silent, and counts as there
                self._parts.wire.publish(message.reply, b"")

    async def _mend(self, broken: Lane) -> None:
        await broken.drop()
        if broken is self._lane and not self._is_leaving:
            self._begin(broken.progress())

    def _begin(self, progress: Progress) -> None:
        self._lane = EventLane(self, 0, Unshared(), progress, self.handler)
        self._lane.start()

    def _logged(self) -> tuple[str, ...]:
        return tuple(self._parts.subjects.log_listen(Pattern(topic)) for topic in self.topics)
