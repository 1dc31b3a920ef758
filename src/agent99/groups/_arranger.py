"""Brings what a member owns to what the plan says: claims, hands over, and lets go when fenced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import Protocol

from agent99.clock import TimerHandle
from agent99.errors import Agent99Error, LeaseLostError, WrongSequenceError
from agent99.groups._lane import Lane, Source
from agent99.groups._place import encode, released
from agent99.groups._tenure import Tenure, claim
from agent99.groups._view import Keys, View
from agent99.journal import Bucket

PLAN_RANK_S = 0.05
"""The first member makes the plan at once, the next one so much later: one is enough."""
PLAN_SETTLE_S = 0.1
"""Before a plan that only adds members: those that come together get one plan."""
AGAIN_S = 0.2
"""Before a partition is claimed again that was lost, or could not be claimed."""

_log = logging.getLogger("agent99.groups")


class Owner(Source, Protocol):
    """The member for whom partitions are owned."""

    async def begin(self, partition: int, tenure: Tenure) -> Lane:
        """Return what works on a partition that was just claimed."""
        ...


class Arranger:
    """Owns partitions for one member.

    Invariant: each partition is in hand at most once, and in at most one move at a time.
    """

    def __init__(self, source: Owner, bucket: Bucket, view: View, member: str) -> None:
        self.lanes: dict[int, Lane] = {}
        """By partition: what is in hand."""
        self._source = source
        self._bucket = bucket
        self._view = view
        self._keys = Keys(source.name)
        self._member = member
        self._moves: dict[int, asyncio.Task[None]] = {}
        self._cooling: set[int] = set()
        self._drops: set[asyncio.Task[None]] = set()
        self._planning: asyncio.Task[None] | None = None
        self._plan_for: tuple[str, ...] | None = None
        self._plan_is_due = False
        self._plan_timer: TimerHandle | None = None
        self._news = asyncio.Event()
        self._is_closing = False
        self._is_empty = asyncio.Event()

    def __repr__(self) -> str:
        return f"Arranger({self._member!r}, lanes={len(self.lanes)}, moves={len(self._moves)})"

    def wake(self) -> None:
        """Look again: something has changed."""
        self._news.set()

    async def run(self) -> None:
        """Arrange, whenever something has changed, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            self._arrange()

    async def commit(self) -> None:
        """Write how far each partition in hand is."""
        await asyncio.gather(*(lane.commit() for lane in tuple(self.lanes.values())))

    async def hand_over(self) -> None:
        """Give everything back, and want nothing any more."""
        self._is_closing = True
        self.wake()
        await self._is_empty.wait()

    async def close(self) -> None:
        """Let go of everything at once; nothing is written."""
        self._is_closing = True
        tasks = [*self._moves.values(), *self._drops]
        if self._planning is not None:
            tasks.append(self._planning)
        for task in tasks:
            task.cancel()
        await asyncio.gather(
            *tasks, *(lane.drop() for lane in self.lanes.values()), return_exceptions=True
        )
        self.lanes.clear()

    def lost(self, lane: Lane) -> None:
        """A partition in hand is another member's: nothing more of it is handed out."""
        if self.lanes.get(lane.partition) is not lane or lane.partition in self._moves:
            return  # it is being given up anyway
        del self.lanes[lane.partition]
        self._source.tally.fenced += 1
        _log.info("%r belongs to another member", lane)
        self._cool(lane.partition)
        task = asyncio.get_running_loop().create_task(lane.drop())
        self._drops.add(task)
        task.add_done_callback(self._drops.discard)

    # --- what is to be done -----------------------------------------------------------------------

    def _arrange(self) -> None:
        view = self._view
        for lane in tuple(self.lanes.values()):
            if view.place(lane.partition).place.epoch > lane.tenure.epoch:
                self.lost(lane)
        self._plan()
        wanted = frozenset[int]() if self._is_closing else view.wanted_by(self._member)
        for partition, lane in tuple(self.lanes.items()):
            if partition not in wanted and partition not in self._moves:
                self._move(partition, self._hand_over(lane))
        for partition in sorted(wanted - self.lanes.keys() - self._moves.keys() - self._cooling):
            if view.is_free(partition, self._member):
                self._move(partition, self._take(partition))
        for partition in view.owned_by(self._member) - wanted - self.lanes.keys():
            if partition not in self._moves and partition not in self._cooling:
                self._move(partition, self._give_back(partition))
        if self._is_closing and not self.lanes and not self._moves:
            self._is_empty.set()

    def _plan(self) -> None:
        """Make a plan, if there is none for those who are there, and nobody else makes it."""
        view, sharers = self._view, self._view.sharers
        if view.is_planned or not sharers or self._planning is not None:
            return
        if self._plan_for != sharers:
            self._plan_for = sharers
            has_lost = bool(set(view.plan.members) - set(sharers))
            rank = sharers.index(self._member) if self._member in sharers else len(sharers)
            wait_s = rank * PLAN_RANK_S + (0.0 if has_lost else PLAN_SETTLE_S)
            self._plan_after(wait_s)
        elif self._plan_is_due:
            self._planning = asyncio.get_running_loop().create_task(self._write_plan())
            self._planning.add_done_callback(self._planned)

    def _plan_after(self, wait_s: float) -> None:
        """Have a plan made when a timer says so; by then the clock may be a little behind."""
        self._plan_is_due = False
        if self._plan_timer is not None:
            self._plan_timer.cancel()

        def be_due() -> None:
            self._plan_is_due = True
            self.wake()

        self._plan_timer = self._source.clock.call_later(wait_s, be_due)

    def _planned(self, task: asyncio.Task[None]) -> None:
        self._planning = None
        if not task.cancelled():
            self._plan_after(AGAIN_S)  # unless it has come by then

    async def _write_plan(self) -> None:
        view, key = self._view, self._keys.plan
        value = encode(view.next_plan())
        try:
            if view.plan_revision:
                await self._bucket.update(key, value, revision=view.plan_revision)
            else:
                await self._bucket.create(key, value)
        except WrongSequenceError:
            pass  # another member was quicker: its plan comes
        except Agent99Error as error:
            _log.info("%r could not write a plan: %s", self, error)

    # --- moves ------------------------------------------------------------------------------------

    def _move(self, partition: int, move: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._carry_out(partition, move))
        self._moves[partition] = task
        task.add_done_callback(lambda _: self._moved(partition))

    def _moved(self, partition: int) -> None:
        self._moves.pop(partition, None)
        self.wake()

    async def _carry_out(self, partition: int, move: Coroutine[object, object, None]) -> None:
        try:
            await move
        except Agent99Error as error:
            self._cool(partition)
            _log.info("%r could not move partition %d: %s", self, partition, error)

    def _cool(self, partition: int) -> None:
        """Do not claim a partition for a moment."""
        self._cooling.add(partition)

        def go_on() -> None:
            self._cooling.discard(partition)
            self.wake()

        self._source.clock.call_later(AGAIN_S, go_on)

    async def _take(self, partition: int) -> None:
        """Claim a partition and work on it, unless somebody was quicker."""
        key = self._keys.place(partition)
        known, alive = self._view.place(partition), self._view.members
        tenure = await claim(self._bucket, key, known, self._member, alive)
        if tenure is None:
            self._cool(partition)  # what somebody wrote comes
            return
        self._view.note(partition, tenure.place, tenure.revision)
        lane = self.lanes[partition] = await self._source.begin(partition, tenure)
        self._source.tally.claimed += 1
        lane.start()

    async def _hand_over(self, lane: Lane) -> None:
        """Drain, commit, release."""
        try:
            await lane.leave(self._source.options.drain_s_max)
        except LeaseLostError:
            self._source.tally.fenced += 1
        else:
            self._source.tally.released += 1
            self._view.note(lane.partition, lane.tenure.place, lane.tenure.revision)
        finally:
            self.lanes.pop(lane.partition, None)

    async def _give_back(self, partition: int) -> None:
        """Release what is ours by its entry, but not in hand: a claim whose receipt was lost."""
        known = self._view.place(partition)
        value = encode(released(known.place, known.place.progress))
        with suppress(WrongSequenceError):
            await self._bucket.update(self._keys.place(partition), value, revision=known.revision)
        self._cool(partition)
