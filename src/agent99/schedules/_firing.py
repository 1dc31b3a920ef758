"""Fires what is due, in as many processes as there are: none is asked, none is elected.

A firing is an append whose id follows from the schedule and its moment, and then a compare-and-set
by which the schedule moves on. Who dies in between has stored an event whose id the next one uses
again: the server drops it. Its memory is two minutes long; who comes later than that looks for the
event in the log first.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from agent99.clock import wait_done
from agent99.envelope import (
    Header,
    Key,
    Pattern,
    encode_message,
    encode_user_headers,
    parse_key,
    parse_topic,
    peek_header,
)
from agent99.errors import (
    Agent99Error,
    ClosedError,
    DeadlineExceededError,
    StreamNotFoundError,
    TransportError,
    WrongSequenceError,
)
from agent99.journal import Change
from agent99.schedules._agenda import Agenda, Due
from agent99.schedules._book import Book
from agent99.schedules._parts import Parts
from agent99.schedules._rule import turn_of
from agent99.schedules._schedule import Schedule, moved_on
from agent99.schedules._tally import SchedulesStatistics
from agent99.wire import ConnectionState

FIRING_MAX = 64
"""Moments in hand at once."""
LOOK_S_MAX = 0.5
"""So often the wall clock is looked at while something is planned: it may be set, or have stood
still with the machine."""
WAIT_S_MIN, WAIT_S_MAX = 0.05, 0.25
"""Who was not the last to fire waits so long before it does: mostly another one has by then."""
AGAIN_S_MIN, AGAIN_S_MAX = 0.5, 10.0
"""Before a moment is tried again that could not be fired; it doubles, but not while the server is
away."""
FOLLOW_AGAIN_S = 1.0
"""Before the schedules are followed again that could not be followed."""
DOUBT_US = 60_000_000
"""Behind its moment by so much, an event is looked for before it is stored: half of the time for
which the server knows the ids of events."""
SKEW_US = 60_000_000
"""So much the server's clock may be behind."""
STALE_S = 5.0
"""What was read so long ago is not acted upon: this process stood still."""
END_S_MAX = 5.0
"""For what is in hand when the firing ends."""

_log = logging.getLogger("agent99.schedules")


class Firing:
    """Follows the schedules of a mesh, and fires what is due.

    Invariant: of each schedule at most one moment is in hand here.
    """

    def __init__(self, parts: Parts, book: Book) -> None:
        self.tally = SchedulesStatistics()
        self._parts = parts
        self._book = book
        self._agenda = Agenda()
        self._hands: dict[str, asyncio.Task[None]] = {}
        self._pauses: dict[str, float] = {}
        self._news = asyncio.Event()
        self._goes_first = True
        self._is_ending = False

    def __repr__(self) -> str:
        return f"Firing({self._agenda!r}, in_hand={len(self._hands)})"

    def statistics(self) -> SchedulesStatistics:
        """Return the counts now."""
        return msgspec.structs.replace(self.tally, known=len(self._agenda))

    async def run(self) -> None:
        """Fire, until it is cancelled."""
        self._parts.wire.on_state(self._on_state)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._serve())

    async def end(self) -> None:
        """Begin nothing more, and end what is in hand, within 5 s."""
        self._is_ending = True
        hands = tuple(self._hands.values())
        ending = asyncio.gather(*hands, return_exceptions=True)
        try:
            await wait_done(self._parts.clock, ending, END_S_MAX)
        finally:
            ending.cancel()
            await asyncio.gather(*hands, return_exceptions=True)

    # --- inside -----------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Hear of every change of the schedules, until the mesh is closed."""
        while True:
            try:
                await self._hear()
            except ClosedError:
                return
            except Agent99Error as error:
                _log.warning("schedules cannot be followed: %s", error)
            await self._parts.clock.sleep(FOLLOW_AGAIN_S)

    async def _hear(self) -> None:
        async with await self._book.follow() as news:
            async for each in news:
                self._agenda.apply(each)
                if isinstance(each, Change) and each.kind != "put":
                    self._pauses.pop(each.key, None)
                self._news.set()

    def _on_state(self, state: ConnectionState) -> None:
        """Begin anew what is in hand when the link is back: its answer may be lost with the old."""
        if state is ConnectionState.CONNECTED and not self._is_ending:
            for task in self._hands.values():
                task.cancel()

    async def _serve(self) -> None:
        """Begin what is due, and wait for what is next, for ever."""
        clock = self._parts.clock
        while True:
            now_us = clock.wall_us()
            if not self._is_ending:
                for due in self._agenda.take(now_us, FIRING_MAX - len(self._hands)):
                    self._begin(due, now_us)
            look_us = self._agenda.look_us
            if look_us is None or self._is_ending or len(self._hands) >= FIRING_MAX:
                await self._news.wait()
            else:
                wait_s = min(max((look_us - now_us) / 1e6, 0.0), LOOK_S_MAX)
                timer = clock.call_later(wait_s, self._news.set)
                try:
                    await self._news.wait()
                finally:
                    timer.cancel()
            self._news.clear()

    def _begin(self, due: Due, now_us: int) -> None:
        if due.id in self._hands:  # what comes after it has come, too
            self._agenda.put_off(due, now_us + round(WAIT_S_MIN * 1e6))
            return
        task = asyncio.get_running_loop().create_task(self._attempt(due))
        self._hands[due.id] = task
        task.add_done_callback(lambda _: self._ended(due))

    def _ended(self, due: Due) -> None:
        del self._hands[due.id]
        self._news.set()

    async def _attempt(self, due: Due) -> None:
        """Deal with a moment; what fails is tried again."""
        try:
            await self._deal(due)
        except asyncio.CancelledError:
            self._put_off(due, 0.0)
            raise
        except WrongSequenceError:  # what somebody wrote comes
            self._yield(due)
        except (TransportError, DeadlineExceededError) as error:
            self._fail(due, AGAIN_S_MIN)
            _log.info("schedule %s waits: %s", due.id, error)
        except Agent99Error as error:
            self._fail(due)
            level = logging.INFO if isinstance(error, ClosedError) else logging.WARNING
            _log.log(level, "schedule %s could not be fired: %s", due.id, error)
        except Exception:  # noqa: BLE001 - a bug: the other schedules go on all the same
            self._fail(due)
            _log.exception("schedule %s could not be fired", due.id)
        else:
            self._pauses.pop(due.id, None)

    def _yield(self, due: Due) -> None:
        self._goes_first = False
        self.tally.yielded += 1
        self._put_off(due, AGAIN_S_MIN)

    def _fail(self, due: Due, pause_s_max: float = AGAIN_S_MAX) -> None:
        self.tally.failed += 1
        pause_s = min(self._pauses.get(due.id, AGAIN_S_MIN), pause_s_max)
        self._pauses[due.id] = 2 * pause_s
        self._put_off(due, pause_s)

    def _put_off(self, due: Due, pause_s: float) -> None:
        self._agenda.put_off(due, self._parts.clock.wall_us() + round(pause_s * 1e6))

    async def _deal(self, due: Due) -> None:
        """Look at a schedule whose time has come, and do what is to be done.

        Raises:
            WrongSequenceError: another process was quicker.
            UsageError: cron's library is not installed here.
            StreamFullError, JournalError, DeadlineExceededError, TransportError,
            RemoteProtocolError, ClosedError
        """
        parts = self._parts
        if not self._goes_first:
            lot = parts.ids.fraction()
            await parts.clock.sleep(WAIT_S_MIN + lot * (WAIT_S_MAX - WAIT_S_MIN))
            if not self._agenda.is_current(due):
                self.tally.yielded += 1
                return
        asked_s = parts.clock.monotonic_s()
        found = await self._book.get(due.id)
        if found is None:
            if self._agenda.is_current(due):
                self._agenda.forget(due.id)
            return
        schedule, revision = found
        if revision != due.revision:
            self._agenda.note(schedule, revision)
            self._yield(due)
        elif schedule.next_us is None:
            await self._book.remove(due.id, revision=revision)
        else:
            await self._fire(schedule, schedule.next_us, revision, asked_s)

    async def _fire(self, schedule: Schedule, due_us: int, revision: int, asked_s: float) -> None:
        """Store the event of a moment, and move the schedule on.

        Raises:
            as `_deal`.
        """
        clock, tally = self._parts.clock, self.tally
        now_us = clock.wall_us()
        if now_us < due_us:  # the wall clock was set back
            self._agenda.put_off(Due(due_us, schedule.id, revision), due_us)
            return
        turn = turn_of(schedule.rule, schedule.missed, due_us, now_us)
        is_stored = False
        if turn.is_fired and now_us - due_us > DOUBT_US:
            is_stored = await self._is_stored(schedule)
            asked_s = clock.monotonic_s()
            again = await self._book.get(schedule.id)  # the search may have taken long
            if again is None or again[1] != revision:
                self._yield(Due(due_us, schedule.id, revision))
                return
        if turn.is_fired and not is_stored:
            if clock.monotonic_s() - asked_s > STALE_S:
                self._put_off(Due(due_us, schedule.id, revision), 0)
                return
            await self._append(schedule, due_us)
        after = moved_on(schedule, turn, now_us)
        if after is None:
            await self._book.remove(schedule.id, revision=revision)
        else:
            self._agenda.note(after, await self._book.update(after, revision=revision))
        self._goes_first = True
        tally.fired += turn.is_fired
        tally.passed_by += not turn.is_fired

    async def _append(self, schedule: Schedule, due_us: int) -> None:
        parts, event_id = self._parts, schedule.event_id()
        header = Header(
            type="event",
            from_uuid=schedule.made_by,
            to_uuid=schedule.topic,
            event_uuid=event_id,
            timestamp=parts.clock.wall_us(),
        )
        told = encode_user_headers({"schedule": schedule.id, "due_us": str(due_us)})
        message = encode_message(header, bytes(schedule.event), told)
        topic, key = parse_topic(schedule.topic), _key_of(schedule)
        await parts.log.append(topic, key, message, message_id=event_id)

    async def _is_stored(self, schedule: Schedule) -> bool:
        """Tell whether the log has the event already: its process died before it could say so."""
        parts, event_id = self._parts, schedule.event_id()
        pattern = parts.subjects.log_listen_key(_key_of(schedule), Pattern(schedule.topic))
        from_us = max(0, (schedule.next_us or 0) - SKEW_US)
        try:
            async for record in parts.journal.read(parts.streams.log, pattern, from_us=from_us):
                header = peek_header(record.payload)
                if header is not None and header.event_uuid == event_id:
                    return True
        except StreamNotFoundError:
            pass
        return False


def _key_of(schedule: Schedule) -> Key:
    return Key(schedule.event_id()) if schedule.key is None else parse_key(schedule.key)
