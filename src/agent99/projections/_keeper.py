"""Keeps an instance at what there is to do: which generations, and when the next one is read."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from agent99.envelope import PARTITIONS
from agent99.errors import Agent99Error, ClosedError, UsageError
from agent99.groups import delete_group
from agent99.projections import _book as book_
from agent99.projections._book import Book, Generation
from agent99.projections._catch_up import has_caught_up, lagging, seen_up_to
from agent99.projections._moves import (
    drop,
    fail,
    hold,
    may_hold,
    missing,
    positions_of,
    see,
    switch,
)
from agent99.projections._options import ProjectionOptions
from agent99.projections._parts import Parts, settled
from agent99.projections._projection import Definition
from agent99.projections._shift import Shift

if TYPE_CHECKING:
    from agent99.projections._catch_up import Positions
    from agent99.store import Transaction

SEE_S = 10.0
"""Seconds between two looks how far the generations are: whether the log drops what they lack."""
HELD_POLL_S = 0.05
"""Seconds between two looks while the live generation waits."""

_log = logging.getLogger("agent99.projections")


class Keeper:
    """Looks at the generations now and then, and does what follows.

    Invariant: it works on no generation that is of another version, or that nobody will read.
    """

    def __init__(self, parts: Parts, definition: Definition, options: ProjectionOptions) -> None:
        self._parts = parts
        self._definition = definition
        self._options = options
        self._shifts: dict[int, Shift] = {}
        self._wake = asyncio.Event()
        self._turned: asyncio.Future[Book] | None = None
        self._is_closed = False
        self._see_at_s = 0.0

    def __repr__(self) -> str:
        return f"Keeper({self._definition!r}, generations={sorted(self._shifts)})"

    async def work(self) -> None:
        """Keep at it, for ever."""
        while True:
            self._wake.clear()
            pause_s = self._options.poll_s
            try:
                pause_s = await self.turn()
            except Agent99Error as error:
                _log.warning("%r goes on later: %s", self, error)
            timer = self._parts.clock.call_later(pause_s, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()

    def wake(self) -> None:
        """Look again: something has changed."""
        self._wake.set()

    async def next_turn(self) -> Book:
        """Return the generations as they are at the next look, or the one after it.

        Raises:
            ClosedError
        """
        if self._is_closed:
            raise ClosedError("projector")
        if self._turned is None:
            self._turned = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._turned)

    async def end(self) -> None:
        """Leave all groups."""
        shifts, self._shifts = list(self._shifts.values()), {}
        await asyncio.gather(*(shift.end() for shift in shifts))

    def close(self) -> None:
        """Let nobody wait for a look that will not come."""
        self._is_closed = True
        turned, self._turned = self._turned, None
        if turned is not None and not turned.done():
            turned.set_exception(ClosedError("projector"))

    async def turn(self) -> float:
        """Look once; returns after how many seconds to look again.

        Raises:
            StoreError or one of its kinds.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        name = self._definition.name
        book = await self._parts.store.read(partial(book_.load, name=name))
        await self._join(book)
        pause_s = self._options.poll_s
        if self._parts.clock.monotonic_s() >= self._see_at_s:
            self._see_at_s = self._parts.clock.monotonic_s() + SEE_S
            await self._see(book)
        building = book.building
        if building is not None and building.generation in self._shifts:
            pause_s = await self._bring_up(book, building)
        await self._clear_away(book)
        turned, self._turned = self._turned, None
        if turned is not None and not turned.done():
            turned.set_result(book)
        return pause_s

    async def _join(self, book: Book) -> None:
        """Work on what this code can work on, and on nothing else."""
        wanted = {
            each.generation: each
            for each in book.generations
            if each.is_at_work and each.version == self._definition.version
        }
        for number in self._shifts.keys() - wanted.keys():
            shift = self._shifts.pop(number)
            await shift.end()
            await self._forget_group(shift.group)  # whoever leaves last does
        for number in wanted.keys() - self._shifts.keys():
            shift = Shift(self._parts, self._definition, wanted[number], self._options)
            await shift.start()
            self._shifts[number] = shift

    async def _bring_up(self, book: Book, building: Generation) -> float:
        """Have the generation that is built read, if it is time; returns when to look again."""
        parts, live, name = self._parts, book.live, self._definition.name
        new, old = await parts.store.read(partial(_both, book=book, building=building))
        log = await parts.log()
        if missing(live, log.first_sequence) is not None and not building.may_be_partial:
            give_up = partial(fail, name=name, generation=building.generation)
            now_us, lost = parts.clock.wall_us(), log.first_sequence
            await parts.store.transaction(partial(give_up, now_us=now_us, lost=lost))
            _log.error("%r: %s", self, missing(live, log.first_sequence))
            return 0.0
        behind = lagging(new, old)
        backlogs = await parts.backlogs(building.topics, new, behind)
        found = settled(building, live, log, (new, old), backlogs)
        now_us, number = parts.clock.wall_us(), building.generation
        if has_caught_up(new, old, found):
            move = partial(switch, name=name, generation=number, settled=found, now_us=now_us)
            if await parts.store.transaction(move):
                _log.info("%r: generation %d is read now", self, number)
                return 0.0
        if live.held_until_us > now_us:
            return HELD_POLL_S
        hold_us = int(self._options.hold_s_max * 1_000_000)
        is_close = sum(backlogs.values()) <= self._options.hold_events_max
        if not is_close or not may_hold(live, now_us, hold_us):
            return self._options.poll_s
        wait = partial(hold, name=name, generation=number, now_us=now_us, hold_us=hold_us)
        await parts.store.transaction(wait)
        return HELD_POLL_S

    async def _see(self, book: Book) -> None:
        """Note up to where the generations have everything, and say what they have missed."""
        parts, name = self._parts, self._definition.name
        for each in book.generations:
            if each.generation not in self._shifts:
                continue
            number = each.generation
            look = partial(positions_of, mesh=book.mesh, generation=each)
            positions = await parts.store.read(look)
            log = await parts.log()
            backlogs = await parts.backlogs(each.topics, positions, range(PARTITIONS))
            seen = seen_up_to(positions, backlogs, log.last_sequence)
            note = partial(see, name=name, generation=number, first=log.first_sequence, seen=seen)
            if await parts.store.transaction(note):
                _log.error(
                    "%r: the log has dropped events up to %d before generation %d counted them",
                    self,
                    log.first_sequence - 1,
                    number,
                )

    async def _clear_away(self, book: Book) -> None:
        """Drop the tables that nobody has read for a while."""
        before_us = self._parts.clock.wall_us() - int(self._options.grace_s * 1_000_000)
        over = [
            one for one in book.generations if not one.is_at_work and one.changed_us < before_us
        ]
        for each in over:
            forget = partial(drop, name=self._definition.name, generation=each.generation)
            if await self._parts.store.transaction(forget):
                await self._forget_group(each.group)

    async def _forget_group(self, group: str) -> None:
        with suppress(UsageError):  # somebody stands still in it: its entries stay
            await delete_group(self._parts.of, group)


def _both(
    transaction: Transaction, book: Book, building: Generation
) -> tuple[Positions, Positions]:
    return (
        positions_of(transaction, book.mesh, building),
        positions_of(transaction, book.mesh, book.live),
    )
