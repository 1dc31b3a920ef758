"""A partition whose events are handed out one by one: in order per key, again, then quarantine.

What fails holds up its own key alone, as in Kurrent's persistent subscriptions and Kafka's parallel
consumer: the events of a key are a chain, chains go on side by side, and the ledger remembers what
is done beyond the lowest unfinished event.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from agent99.clock import TimeLimit, wait_done
from agent99.envelope import parse_log
from agent99.errors import (
    Agent99Error,
    BadRequestError,
    Failure,
    HandlerError,
    InvalidNameError,
    LeaseLostError,
    RequestError,
)
from agent99.groups._event import Event, event_of
from agent99.groups._lane import Hold, Lane, Source
from agent99.groups._ledger import Ledger
from agent99.groups._options import EventOptions
from agent99.groups._place import DEATHS_CAREFUL, DEATHS_MAX, Progress
from agent99.journal import Record
from agent99.work import Again, Dead, Outcome, Reason, judge

BURY_AGAIN_S = 1.0
"""Before an event is moved to quarantine again that could not be."""
NOTE_AGAIN_S = 0.5
"""Before it is noted again which event is handed out next."""
KILLS_S_MAX = 2.0
"""What has been in hand for so long does not kill."""
CAREFUL_EVENTS = 1_000
"""So many are handed out alone; each is committed, so that the next owner begins behind them."""

_log = logging.getLogger("agent99.groups")

EventHandler = Callable[[Event], Awaitable[None]]
"""Takes one event; returned = done. What it raises brings the event again, or into quarantine."""


class EventSource(Source, Protocol):
    """What the lanes share whose events are handed out one by one."""

    @property
    def options(self) -> EventOptions:
        """The bounds."""
        ...

    async def bury(self, record: Record, outcome: Outcome, reason: Reason, attempts: int) -> None:
        """Move an event to quarantine."""
        ...


class EventLane(Lane):
    """Hands out the events of a partition, those of different keys side by side.

    Invariant: of each key one event at most is in a handler's hands, and it is the first one that
    is not done.
    """

    def __init__(
        self,
        source: EventSource,
        partition: int,
        tenure: Hold,
        progress: Progress,
        handler: EventHandler,
    ) -> None:
        super().__init__(source, partition, tenure, progress)
        self._events = source
        self._options = source.options
        self._handler = handler
        self._ledger = Ledger(progress)
        self._chains: dict[str, deque[Record]] = {}
        """By key: what is not done of it, in order."""
        self._tasks: set[asyncio.Task[None]] = set()
        place = tenure.place
        deaths = len(place.victims)
        self._careful = CAREFUL_EVENTS if deaths >= DEATHS_CAREFUL else 0
        """So many events are still handed out alone: owners have died of one, it seems."""
        self._suspect = place.suspect if self._careful else 0
        self._guilty = place.suspect if deaths >= DEATHS_MAX and place.suspect > 0 else 0
        self._slots = asyncio.Semaphore(1 if self._careful else self._options.keys_max)
        self._running = 0
        self._has_room = asyncio.Event()
        self._is_idle = asyncio.Event()

    def progress(self) -> Progress:
        """Return how far it is."""
        return msgspec.structs.replace(self._ledger.progress(), held_up=self.held_up)

    def suspect(self) -> int:
        """Return the event that is handed out alone; 0: none."""
        return self._suspect

    def next_sequence(self) -> int:
        """Return from where the stream is read."""
        return self._ledger.admitted + 1

    async def take(self, records: tuple[Record, ...]) -> None:
        """Begin with the next events, or put them behind those of their keys; wait for room.

        Raises:
            LeaseLostError: the partition belongs to another member.
        """
        for record in records:
            if self._events.is_for_others(record.subject):
                self._ledger.skip(record.sequence)
                continue
            if not self._ledger.admit(record.sequence):
                continue
            key = _key_of(record)
            chain = self._chains.get(key)
            if chain is not None:
                chain.append(record)
            else:
                await self._slots.acquire()
                if self.is_leaving:
                    return
                self._chains[key] = deque((record,))
                self._begin(key)
            while len(self._ledger) >= self._options.waiting_max and not self.is_leaving:
                self._has_room.clear()
                await self._has_room.wait()

    async def settle(self, timeout_s: float) -> None:
        """Let the handlers that are at work end, for so long."""
        if self._running:
            self._is_idle.clear()
            idle = asyncio.ensure_future(self._is_idle.wait())
            try:
                await wait_done(self.source.clock, idle, timeout_s)
            finally:
                idle.cancel()

    async def drop(self) -> None:
        """Hand out nothing more, and cancel the handlers; nothing is written. Idempotent."""
        await super().drop()
        await self.end(self._tasks)

    # --- inside -----------------------------------------------------------------------------------

    def _begin(self, key: str) -> None:
        task = asyncio.get_running_loop().create_task(self._work_off(key))
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._has_room.set()
        self.ended(task)

    async def _work_off(self, key: str) -> None:
        """Bring a key's events to their ends, one after the other, while there are any.

        It begins with a slot, and ends without.
        """
        chain = self._chains[key]
        try:
            while chain and not self.is_leaving:
                record = chain[0]
                buried = await self._finish(record)
                if buried is None:
                    return
                chain.popleft()
                self._ledger.finish(record.sequence, is_buried=buried)
                self.source.tally.events += 1
                self.source.tally.buried += buried
                self._has_room.set()
                await self.count(1)
                self._count_down()
        except LeaseLostError:
            self.source.lost(self)
        finally:
            self._slots.release()
        if not chain:
            del self._chains[key]

    async def _finish(self, record: Record) -> bool | None:
        """Try an event until it is done, or in quarantine; None: the lane is left before.

        Returns:
            Whether it went into quarantine.
        """
        sequence, curve = record.sequence, self._options.curve
        if sequence == self._guilty:
            await self._bury(record, _DIED, "attempts", DEATHS_MAX)
            return True
        while True:
            await self.make_sure()
            attempt = self._ledger.tries(sequence) + 1
            if self._careful:
                outcome = await self._attempt_alone(record, attempt)
            else:
                outcome = await self._attempt(record, attempt)
            verdict = judge(outcome.error, attempt, curve, self.source.ids.fraction())
            if outcome.error is not None:
                self._ledger.fail(sequence)
                self.source.tally.failures += 1
            if isinstance(verdict, Dead):
                await self._bury(record, outcome, verdict.reason, attempt)
                return True
            if not isinstance(verdict, Again):
                return False
            _log.warning("%r: event %d failed, and comes again: %s", self, sequence, outcome.error)
            await self._pause(verdict.wait_s)
            if self.is_leaving:
                return None

    async def _attempt_alone(self, record: Record, attempt: int) -> Outcome:
        """Hand an event out as the only one that this process notes, until it has not killed.

        Raises:
            LeaseLostError: the partition belongs to another member.
        """
        trying: asyncio.Future[Outcome] | None = None
        try:
            async with self.source.alone:
                await self._note(record.sequence)
                trying = asyncio.ensure_future(self._attempt(record, attempt))
                if not await wait_done(self.source.clock, trying, KILLS_S_MAX):
                    self._become_carefree()
                await self._note(-record.sequence)
            return await trying
        finally:
            if trying is not None:
                trying.cancel()

    async def _attempt(self, record: Record, attempt: int) -> Outcome:
        """Hand an event to the handler once; returns how that ended."""
        self._running += 1
        source = self.source
        try:
            event = event_of(
                record,
                attempt=attempt,
                reader=source.reader,
                part=self.partition,
                epoch=self.tenure.epoch,
            )
            with TimeLimit(source.deadlines, source.clock, self._options.curve.timeout_s):
                await self._handler(event)
        except LeaseLostError as error:
            if await self.is_lost():
                raise
            return Outcome(_as_request_error(error), traceback.format_exc())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return Outcome(HandlerError("the handler was cancelled from within"))
        except TimeoutError as error:
            return Outcome(HandlerError(str(error) or "the handler took too long"))
        except Exception as error:  # noqa: BLE001 - a user's code: kept, and tried again
            return Outcome(_as_request_error(error), traceback.format_exc())
        finally:
            self._rest()
        return Outcome(None)

    def _rest(self) -> None:
        self._running -= 1
        if not self._running:
            self._is_idle.set()

    async def _pause(self, seconds: float) -> None:
        """Wait, and leave the slot to another key meanwhile."""
        self._slots.release()
        await self.source.clock.sleep(seconds)
        await self._slots.acquire()

    async def _note(self, suspect: int) -> None:
        """Write which event is handed out next, alone, or that we live on: if not, that shows.

        Raises:
            LeaseLostError: the partition belongs to another member.
        """
        self._suspect = suspect
        while True:
            try:
                await self.tenure.commit(self.progress(), suspect)
            except LeaseLostError:
                raise
            except Agent99Error as error:
                _log.info("%r waits, for it cannot note what it does: %s", self, error)
                await self.source.clock.sleep(NOTE_AGAIN_S)
            else:
                return

    async def _bury(self, record: Record, outcome: Outcome, reason: Reason, attempts: int) -> None:
        """Move an event to quarantine; what is not there yet is tried for ever."""
        while True:
            self._running += 1  # who hands over waits for the receipt
            try:
                await self._events.bury(record, outcome, reason, attempts)
            except Agent99Error as error:
                self.hold_up(f"event {record.sequence} cannot go into quarantine: {error}")
                self.tell_held_up()
            else:
                self.held_up = ""
                return
            finally:
                self._rest()
            await self._pause(BURY_AGAIN_S)

    def _count_down(self) -> None:
        if self._careful == 1:
            self._become_carefree()
        elif self._careful:
            self._careful -= 1

    def _become_carefree(self) -> None:
        """Hand out side by side from now on."""
        if self._careful:
            self._careful = 0
            self._suspect = 0
            for _ in range(self._options.keys_max - 1):
                self._slots.release()


_DIED = Outcome(HandlerError("its process ended each time that it was handed out"))


def _key_of(record: Record) -> str:
    """Return the key of an event; what is none stands for itself."""
    try:
        return parse_log(record.subject).key
    except InvalidNameError:
        return record.subject


def _as_request_error(error: Exception) -> RequestError:
    """Return what a handler raised as the quarantine keeps it.

    What another agent answered to a request of the handler's is its failure, to be tried again.
    """
    if isinstance(error, (Failure, BadRequestError)):
        return error
    return HandlerError(f"the handler raised {type(error).__name__}: {error}")
