"""What is stored, and how far those who work it off are: for people who look.

Nothing is counted twice, nor by anybody but the server: a stream's last number says how much was
ever stored in it, its messages what is left, and its consumers where they are.
"""

from __future__ import annotations

import msgspec

from agent99.envelope import Name, Subjects, peek_header
from agent99.errors import StreamNotFoundError
from agent99.journal import ConsumerState, Journal, StreamState
from agent99.work._streams import ADVISORIES, Streams


class StreamCount(msgspec.Struct, frozen=True):
    """A stream of the mesh, and who reads it."""

    state: StreamState
    consumers: tuple[ConsumerState, ...]


class OperationCount(msgspec.Struct, frozen=True):
    """The work for one operation that somebody has worked on."""

    operation: str
    pending: int
    """Not delivered yet."""
    unfinished: int
    """Delivered and not finished: in somebody's hands, or waiting for its next attempt."""


class JobCount(msgspec.Struct, frozen=True, kw_only=True):
    """The work for one capability."""

    capability: str
    stored: int
    """In all; what is taken out of quarantine to be done again is stored anew."""
    left: int
    """Neither done nor in quarantine."""
    quarantined: int
    """There now."""
    taken_out: int
    """That were there: redriven, or dropped."""
    is_follower: bool
    """An agent of this name follows events: some of what went to quarantine was no job."""
    operations: tuple[OperationCount, ...]

    @property
    def done(self) -> int | None:
        """What was done; None: it cannot be told."""
        moved = self.quarantined + self.taken_out
        if self.is_follower and moved:
            return None
        return self.stored - self.left - moved


class Moving(msgspec.Struct, frozen=True):
    """A message that was delivered and is not finished."""

    sequence: int
    """In the stream of its capability."""
    id: str
    """The application's; empty where it cannot be read."""


class Ledger:
    """Counts what one mesh stores."""

    def __init__(self, journal: Journal, subjects: Subjects, streams: Streams) -> None:
        self._journal = journal
        self._subjects = subjects
        self._streams = streams

    def __repr__(self) -> str:
        return f"Ledger({self._streams!r})"

    async def streams(self) -> tuple[StreamCount, ...]:
        """Return the mesh's streams, and the server's notices to it.

        Raises:
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        names = self._streams
        prefixes = {names.log: "", names.jobs_prefix: "", names.dead_prefix: ""}
        prefixes[ADVISORIES] = names.jobs_prefix  # all meshes share it
        found: dict[str, StreamCount] = {}
        for prefix, consumers in prefixes.items():
            for state in await self._journal.streams(prefix):
                name = state.config.name
                readers = await self._consumers(name, consumers)
                found[name] = StreamCount(state, readers)
        return tuple(found.values())

    async def jobs(self, capability: Name | None = None) -> tuple[JobCount, ...]:
        """Return the work for each capability, or for one; empty when none was ever posted.

        Raises:
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        names = self._streams
        prefix = names.jobs_prefix if capability is None else names.jobs(capability)
        states = await self._journal.streams(prefix)
        if capability is not None:
            states = tuple(state for state in states if state.config.name == prefix)
        followers = {
            one.config.name.partition("_BY_")[0] for one in await self._consumers(names.log)
        }
        return tuple([await self._count(state, followers) for state in states])

    async def moving(
        self, capability: Name, operation: Name, *, messages_max: int = 20
    ) -> tuple[Moving, ...]:
        """Return the first messages that were delivered and are not finished.

        Raises:
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        stream = self._streams.jobs(capability)
        place = await self._journal.consumer_state(stream, operation)
        found: list[Moving] = []
        if place is None:
            return ()
        subject = self._subjects.job_listen(capability, operation)
        begin = place.acknowledged_sequence + 1
        async for record in self._journal.read(stream, subject, from_sequence=begin):
            if record.sequence > place.delivered_sequence or len(found) == messages_max:
                break
            # What is done leaves the stream: whatever is left here is not.
            header = peek_header(record.payload)
            found.append(Moving(record.sequence, header.event_uuid if header is not None else ""))
        return tuple(found)

    async def _count(self, state: StreamState, followers: set[str]) -> JobCount:
        stream = state.config.name
        capability = Name(stream.removeprefix(self._streams.jobs_prefix))
        dead = await self._state(self._streams.dead(capability))
        moved = dead.last_sequence if dead is not None else 0
        there = dead.messages if dead is not None else 0
        return JobCount(
            capability=capability,
            stored=state.last_sequence,
            left=state.messages,
            quarantined=there,
            taken_out=moved - there,
            is_follower=capability in followers,
            operations=tuple(
                OperationCount(one.config.name, one.pending, one.in_flight)
                for one in await self._consumers(stream)
            ),
        )

    async def _state(self, stream: str) -> StreamState | None:
        try:
            return await self._journal.stream_state(stream)
        except StreamNotFoundError:
            return None

    async def _consumers(self, stream: str, prefix: str = "") -> tuple[ConsumerState, ...]:
        try:
            return await self._journal.consumers(stream, prefix)
        except StreamNotFoundError:  # deleted meanwhile, or not made yet
            return ()
