"""Works on stored messages for one operation of one instance, and brings each to its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import msgspec

from agent99.clock import Clock
from agent99.dispatch import Dispatcher, Route
from agent99.errors import (
    Agent99Error,
    BadRequestError,
    InvalidNameError,
    OverloadedError,
    PausedError,
)
from agent99.ids import Ids
from agent99.journal import Delivery, Journal
from agent99.work._assignments import Assignment
from agent99.work._attempt import DIED, Attempts, Message, Outcome, read_message
from agent99.work._lanes import Lane, Lanes
from agent99.work._quarantine import Place, Quarantine
from agent99.work._reading import Reading
from agent99.work._tries import Tried, Tries
from agent99.work._verdict import Again, Dead, Reason, judge

BUSY_S = 0.02
"""Between two looks whether an instance that is at its bounds has a place again."""
BACK_S = 2.0
"""What was given back comes again sooner, if it comes here."""
BEHIND_S = 0.1
BEHIND_S_MAX = 2.0
"""What came before an earlier one of its key is given back for a quarter of the time that this one
has been away, within these bounds."""


class WorkStatistics(msgspec.Struct, frozen=True):
    """What one worker has done since it began."""

    in_hand: int
    """Delivered to it and not finished."""
    done: int
    retried: int
    quarantined: int
    unfinished: int
    """Messages whose end the server could not be told: they come again."""


class Parts(msgspec.Struct, frozen=True):
    """What a worker works with."""

    journal: Journal
    quarantine: Quarantine
    tries: Tries
    clock: Clock
    ids: Ids


class Worker:
    """Works for one operation of one instance.

    Args:
        assignment: What it works on.
        dispatcher: Where its handler runs.
        route: To its handler.
        parts: What it works with.
        places: For stored work in the dispatcher; all workers of the instance share them, so that
            what is stored does not fill the queue of those who ask.

    Invariant: each message that it was given is acknowledged after its handler returned, given back
    for later, or acknowledged after it was put into quarantine; otherwise it comes again.
    """

    def __init__(
        self,
        assignment: Assignment,
        dispatcher: Dispatcher,
        route: Route,
        parts: Parts,
        places: asyncio.Semaphore,
    ) -> None:
        self.assignment = assignment
        self._places = places
        self._parts = parts
        self._attempts = Attempts(
            dispatcher, route, clock=parts.clock, timeout_s=assignment.task.curve.timeout_s
        )
        self._place = Place(
            assignment.consumer.stream, assignment.capability, assignment.task.operation
        )
        self._lanes = Lanes(parts.clock)
        self._is_leaving = False
        self._waits: set[asyncio.Task[None]] = set()
        self._done = self._retried = self._quarantined = 0
        self._reading = Reading(
            parts.journal,
            assignment.consumer,
            self._attend,
            ensure=assignment.ensure,
            clock=parts.clock,
            prefetch_max=assignment.task.prefetch_max,
        )

    def __repr__(self) -> str:
        what = f"{self.assignment.capability} {self.assignment.task.operation}"
        return f"Worker({what!r}, in_hand={self._reading.in_hand})"

    def statistics(self) -> WorkStatistics:
        """Return the counts now."""
        return WorkStatistics(
            in_hand=self._reading.in_hand,
            done=self._done,
            retried=self._retried,
            quarantined=self._quarantined,
            unfinished=self._reading.unfinished,
        )

    def start(self) -> None:
        """Take messages in hand from now on, until `leave`. Idempotent."""
        if self._is_leaving:
            self._lanes.renew(BACK_S)
        self._is_leaving = False
        self._reading.start()

    async def leave(self) -> None:
        """Take nothing new in hand; what runs goes on, what waits is given back. Idempotent."""
        self._is_leaving = True
        for waking in tuple(self._waits):
            waking.cancel()
        await self._reading.leave()

    async def stop(self, timeout_s: float) -> bool:
        """Take no more, and let what is in hand finish; returns False when it did not in time.

        What did not is cancelled, and comes again elsewhere.
        """
        return await self._reading.stop(timeout_s)

    async def _attend(self, delivery: Delivery) -> None:
        lane_of = self.assignment.lane_of
        if lane_of is None:
            await self._bring_to_its_end(delivery)
            return
        try:
            key = lane_of(delivery)
        except InvalidNameError as error:  # what stands there is no event of ours
            outcome = Outcome(BadRequestError(str(error)))
            await self._bury(delivery, None, outcome, reason="unreadable", attempts=0)
            return
        async with self._lanes.take(key, delivery.record.sequence) as lane:
            await self._attend_in_turn(delivery, lane)

    async def _attend_in_turn(self, delivery: Delivery, lane: Lane) -> None:
        """Attend to an event unless an earlier one of its key is to come again.

        What is not at its end afterwards comes again: soon, when the server was told so.
        """
        sequence = delivery.record.sequence
        is_finished, again_s = False, self.assignment.consumer.ack_wait_s + BACK_S
        try:
            if self._is_leaving:
                await delivery.retry()
                again_s = BACK_S
            elif lane.is_behind(sequence):
                pause_s = min(max(BEHIND_S, lane.blocked_for_s() / 4), BEHIND_S_MAX)
                await delivery.retry(pause_s)
                again_s = pause_s + BACK_S
            else:
                is_finished = await self._bring_to_its_end(delivery)
                again_s = BACK_S
        finally:
            if is_finished:
                lane.settle(sequence)
            else:
                lane.expect(sequence, again_s)

    async def _bring_to_its_end(self, delivery: Delivery) -> bool:
        """Try a message until it is done, or dead; returns False when it was given back."""
        curve = self.assignment.task.curve
        name = f"{self._place.stream}.{self.assignment.consumer.name}.{delivery.record.sequence}"
        tried = await self._parts.tries.of(delivery, name)
        try:
            message = read_message(delivery.record.payload, (self.assignment.task.kind,))
        except BadRequestError as error:
            broken = Outcome(error)
            await self._bury(delivery, None, broken, reason="unreadable", attempts=tried.times)
            return True
        if tried.is_spent(curve.attempts_max):
            await self._bury(delivery, message, DIED, reason="attempts", attempts=tried.times)
            await self._parts.tries.forget(name)
            return True
        while True:
            attempt = tried.times + 1
            outcome = await self._try(delivery, name, message, tried)
            if outcome is None:
                await delivery.retry()
                return False
            verdict = judge(outcome.error, attempt, curve, self._parts.ids.fraction())
            if isinstance(verdict, Again):
                self._retried += 1
                tried = Tried(attempt)
                await self._parts.tries.note(delivery, name, tried)
                if self.assignment.lane_of is not None and await self._wait(verdict.wait_s):
                    continue
                await delivery.retry(verdict.wait_s if self.assignment.lane_of is None else 0.0)
                return False
            if isinstance(verdict, Dead):
                reason = verdict.reason
                await self._bury(delivery, message, outcome, reason=reason, attempts=attempt)
            else:
                await delivery.ack()
                self._done += 1
            if attempt > 1:
                await self._parts.tries.forget(name)
            return True

    async def _try(
        self, delivery: Delivery, name: str, message: Message, tried: Tried
    ) -> Outcome | None:
        """Run the handler once, as soon as there is a place for it; None: the worker leaves."""
        tries = self._parts.tries
        if not tried.is_suspect(self.assignment.task.curve.attempts_max):
            return await self._run(delivery, name, message, Tried(tried.times + 1, "unknown"))
        async with tries.alone:
            alone = Tried(tried.times + 1, "unknown, alone")
            return await self._run(delivery, name, message, alone)

    async def _run(
        self, delivery: Delivery, name: str, message: Message, trying: Tried
    ) -> Outcome | None:
        async with self._places:
            if self._is_leaving:
                return None
            if trying.times > 1:
                await self._parts.tries.note(delivery, name, trying)
            try:
                return await self._run_when_possible(message, trying.times)
            except asyncio.CancelledError:  # its instance stops: that is no fault of the work's
                with suppress(Agent99Error):
                    await self._parts.tries.note(delivery, name, Tried(trying.times - 1))
                raise

    async def _run_when_possible(self, message: Message, attempt: int) -> Outcome | None:
        while True:
            try:
                return await self._attempts.run(message, attempt=attempt)
            except (OverloadedError, PausedError):
                if not await self._wait(BUSY_S * (0.5 + self._parts.ids.fraction())):
                    return None

    async def _wait(self, wait_s: float) -> bool:
        """Wait; returns False, early, when the worker takes nothing in hand any more."""
        if self._is_leaving:
            return False
        waiting = asyncio.get_running_loop().create_task(self._parts.clock.sleep(wait_s))
        self._waits.add(waiting)
        try:
            await asyncio.wait([waiting])
        finally:
            waiting.cancel()
            self._waits.discard(waiting)
        return not self._is_leaving

    async def _bury(
        self,
        delivery: Delivery,
        message: Message | None,
        outcome: Outcome,
        *,
        reason: Reason,
        attempts: int,
    ) -> None:
        """Move a message to the quarantine: first it is there, then it is gone from here."""
        header = message.header if message is not None else None
        await self._parts.quarantine.bury(
            delivery.record, header, outcome, self._place, reason=reason, attempts=attempts
        )
        self._quarantined += 1
        await delivery.ack()
