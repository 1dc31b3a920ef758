"""One saga's journal in the hands of one instance: appended to by compare-and-set.

That is the fence between owners: whoever writes with an old sequence is told so, looks what was
written meanwhile, and either goes on after it or learns that the saga is somebody else's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import msgspec

from agent99.clock import Clock
from agent99.errors import (
    ClosedError,
    DeadlineExceededError,
    JournalError,
    PermissionDeniedError,
    RemoteProtocolError,
    StreamNotFoundError,
    TransportError,
    UsageError,
    WrongSequenceError,
)
from agent99.ids import Ids
from agent99.journal import Journal
from agent99.saga._history import History
from agent99.saga._records import (
    Finished,
    Record,
    Started,
    Taken,
    decode_record,
    encode_record,
)

PAUSE_S_MIN = 0.05
PAUSE_S_MAX = 2.0
"""Between two tries to write what must be written."""

_AGAIN = (JournalError, DeadlineExceededError, TransportError, RemoteProtocolError)
_NEVER = (UsageError, PermissionDeniedError)
_log = logging.getLogger("agent99.saga")


class LostError(Exception):
    """The saga is in the hands of another instance, or this one's connection is closed."""


class Place(msgspec.Struct, frozen=True):
    """Where the journal of one saga is."""

    stream: str
    subject: str
    saga_id: str


class SagaLog:
    """The journal of one saga.

    Args:
        instance: Who writes.

    Invariant: `history` has everything up to its `sequence`; what this instance writes stands right
    after that.
    """

    def __init__(
        self,
        journal: Journal,
        place: Place,
        instance: str,
        *,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self.history = History()
        """What was read or written."""
        self.saga_id = place.saga_id
        self._journal = journal
        self._stream = place.stream
        self._subject = place.subject
        self._instance = instance
        self._clock = clock
        self._ids = ids
        self._writing = asyncio.Lock()
        # What another run writes at the same place, of the same instance even, is no duplicate.
        self._writer = ids.uuid()
        self._calls = 0

    def __repr__(self) -> str:
        return f"SagaLog({self.saga_id!r}, {self.history!r})"

    async def begin(self, started: Started) -> bool:
        """Write the first record; returns False where there is one already.

        Raises:
            StreamNotFoundError: nobody has made the stream yet.
            PayloadTooLargeError: the request is too large to be stored.
            StreamFullError: the journals have reached their bound; nothing was begun.
            JournalError, DeadlineExceededError, TransportError, ClosedError: whether it was begun
                is unknown.
        """
        try:
            await self._append(started, self._next_message_id())
        except WrongSequenceError:
            return False
        return True

    async def catch_up(self, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Read what others have written since, however long that takes.

        Args:
            is_wanted: Asked before each try: once it says no, nothing more is read.

        Raises:
            LostError: the saga is another's now, or the connection is closed.
        """
        async with self._writing:
            pause_s = PAUSE_S_MIN
            while is_wanted():
                try:
                    await self._read_on()
                except ClosedError as error:
                    raise LostError from error
                except _NEVER:
                    raise
                except _AGAIN as error:
                    _log.warning("saga %s cannot read its journal: %s", self.saga_id, error)
                else:
                    break
                pause_s = await self._pause(pause_s)
        if self.history.owner != self._instance:
            raise LostError

    async def read(self) -> History:
        """Read all of it, and return what it says; nothing of it: there is no such saga.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        async with self._writing:
            await self._read_on()
        return self.history

    async def take(self) -> None:
        """Make the saga this instance's own.

        Raises:
            LostError: somebody wrote meanwhile, and most likely took it.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        try:
            taken = Taken(owner=self._instance, at_us=self._clock.wall_us())
            await self._append(taken, self._next_message_id())
        except WrongSequenceError as error:
            raise LostError from error

    async def write(self, record: Record) -> None:
        """Write a record, however long that takes; returned = stored (and replicated).

        What is written at the same time is stored in the order of the calls.

        Raises:
            LostError: the saga is another's now, or the connection is closed; it is not stored.
            PayloadTooLargeError: it can never be stored.
        """
        async with self._writing:
            # Who wrote before may have learnt it while this one waited: what was read then is what
            # this record would be compared with, and it would be stored.
            self._check_own()
            pause_s, message_id = PAUSE_S_MIN, self._next_message_id()
            while True:
                try:
                    await self._append(record, message_id)
                except WrongSequenceError:
                    await self._look()
                except ClosedError as error:
                    raise LostError from error
                except _NEVER:
                    raise
                except _AGAIN as error:
                    _log.warning("saga %s waits for its journal: %s", self.saga_id, error)
                else:
                    return
                pause_s = await self._pause(pause_s)

    # --- inside -----------------------------------------------------------------------------------

    def _next_message_id(self) -> str:
        # Not by the history's count, which stands still where a receipt was never seen: the next
        # record would be taken for the one before, and not be stored.
        self._calls += 1
        return f"{self.saga_id}:{self._calls}:{self._writer}"

    async def _append(self, record: Record, message_id: str) -> None:
        """Append a record; who is cancelled meanwhile still waits for its receipt.

        Else the journal would have what the history has not. The journal bounds the wait.
        """
        storing = asyncio.ensure_future(self._store(record, message_id))
        try:
            await asyncio.shield(storing)
        except asyncio.CancelledError:
            while not storing.done():
                with contextlib.suppress(asyncio.CancelledError):  # it is raised below
                    await asyncio.wait([storing])
            if not storing.cancelled():
                storing.exception()  # told to nobody: the cancellation goes first
            raise

    async def _store(self, record: Record, message_id: str) -> None:
        history = self.history
        assert history.takes(record), f"{record!r} cannot follow {history!r}"
        stored = await self._journal.append(
            self._subject,
            encode_record(record),
            message_id=message_id,
            expected_sequence=history.sequence,
        )
        history.add(record, stored.sequence)

    async def _pause(self, pause_s: float) -> float:
        await self._clock.sleep(pause_s * (0.5 + self._ids.fraction()))
        return min(2 * pause_s, PAUSE_S_MAX)

    async def _look(self) -> None:
        """Find out who wrote; what cannot be read now is looked for after the next try.

        Raises:
            LostError: the new owner; or nobody, and the journal has lost what was read of it.
        """
        known = self.history.sequence
        try:
            await self._read_on()
        except ClosedError as error:
            raise LostError from error
        except _AGAIN as error:
            _log.warning("saga %s cannot read its journal: %s", self.saga_id, error)
        else:
            if self.history.sequence == known:
                _log.warning(
                    "saga %s: its journal has lost its end (record %d); another run begins with"
                    " what is there",
                    self.saga_id,
                    known,
                )
                raise LostError
        self._check_own()

    def _check_own(self) -> None:
        if self.history.owner != self._instance or self.history.finished is not None:
            raise LostError

    async def _read_on(self) -> None:
        async for record, sequence in self._records(self.history.sequence + 1):
            self.history.apply(record, sequence)

    async def _records(self, from_sequence: int) -> AsyncIterator[tuple[Record, int]]:
        try:
            async for each in self._journal.read(
                self._stream, self._subject, from_sequence=from_sequence
            ):
                try:
                    yield decode_record(each.payload), each.sequence
                except msgspec.DecodeError as error:
                    raise JournalError(
                        f"saga {self.saga_id}: record {each.sequence} of its journal cannot be"
                        f" read: {error}"
                    ) from error
        except StreamNotFoundError:
            return  # no saga was ever begun on this mesh


async def ended_us(journal: Journal, stream: str, subject: str) -> int | None:
    """Return when a saga ended, in microseconds since the epoch, by the journal's clock.

    None: it has not, as its last record says. That is one request, where a journal may be long.

    Raises:
        StreamNotFoundError: no saga was ever begun on this mesh.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    last = await journal.last(stream, subject)
    if last is None:
        return None
    try:
        record = decode_record(last.payload)
    except msgspec.DecodeError:
        return None  # a later version's
    return last.stored_us if isinstance(record, Finished) else None
