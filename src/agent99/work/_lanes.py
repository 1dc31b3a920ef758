"""The events of a key one after the other, the earliest first; those of other keys beside them."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import count

from agent99.clock import Clock, TimerHandle


class Lane:
    """What one key has here, by sequence in the stream, and what of it is to come again."""

    __slots__ = ("_away", "_blocked_s", "_clock", "_forget", "_is_taken", "_tickets", "_waiting")

    def __init__(self, clock: Clock, forget: Callable[[], object]) -> None:
        self._clock = clock
        self._forget = forget
        self._is_taken = False
        self._tickets = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._away: dict[int, TimerHandle] = {}
        self._blocked_s = 0.0
        """Since when something is away."""

    def __repr__(self) -> str:
        return f"Lane(waiting={len(self._waiting)}, away={sorted(self._away)})"

    def is_behind(self, sequence: int) -> bool:
        """Tell whether an earlier one is to come again, and to be handled before this one."""
        return any(earlier < sequence for earlier in self._away)

    def expect(self, sequence: int, within_s: float) -> None:
        """Note that one comes again: those behind it are to wait for it, for so long.

        It may come to another instance, or nowhere: nobody waits for it for ever.
        """
        self.settle(sequence)
        if not self._away:
            self._blocked_s = self._clock.monotonic_s()
        self._away[sequence] = self._clock.call_later(within_s, lambda: self._give_up(sequence))

    def settle(self, sequence: int) -> None:
        """Note that one has come to its end."""
        timer = self._away.pop(sequence, None)
        if timer is not None:
            timer.cancel()

    def blocked_for_s(self) -> float:
        """Return how long something has been away, in seconds; 0: nothing is."""
        return self._clock.monotonic_s() - self._blocked_s if self._away else 0.0

    def renew(self, within_s: float) -> None:
        """Have those that are behind wait for so long from now on: nothing came meanwhile."""
        away = tuple(self._away)
        for sequence in away:
            self.settle(sequence)
        for sequence in away:
            self.expect(sequence, within_s)

    async def take_turn(self, sequence: int) -> None:
        """Return when this one has the lane, until `pass_on`: no earlier one waits for it."""
        if not self._is_taken:
            self._is_taken = True
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        insort(self._waiting, (sequence, next(self._tickets), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given the lane in the same moment
                self.pass_on()
            raise

    def pass_on(self) -> None:
        """Give the lane to the earliest that waits for it."""
        self._is_taken = False
        while self._waiting and not self._is_taken:
            _, _, turn = self._waiting.pop(0)
            if not turn.done():
                turn.set_result(None)
                self._is_taken = True
        self._forget_unused()

    def _give_up(self, sequence: int) -> None:
        self.settle(sequence)
        self._forget_unused()

    def _forget_unused(self) -> None:
        if not (self._is_taken or self._waiting or self._away):
            self._forget()


class Lanes:
    """Who shares a key waits for those that are earlier in the stream.

    Invariant: of a key one has its turn at a time, and none while an earlier one waits here. A key
    is known while one of its events is here, or is to come again.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lanes: dict[str, Lane] = {}

    def __repr__(self) -> str:
        return f"Lanes({len(self)})"

    def __len__(self) -> int:
        return len(self._lanes)

    def renew(self, within_s: float) -> None:
        """Wait for what is away for so long from now on: until now nothing could come."""
        for lane in self._lanes.values():
            lane.renew(within_s)

    @asynccontextmanager
    async def take(self, key: str, sequence: int) -> AsyncGenerator[Lane]:
        """Have the lane of a key to oneself, when no earlier one waits for it."""
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(self._clock, lambda: self._lanes.pop(key))
        await lane.take_turn(sequence)
        try:
            yield lane
        finally:
            lane.pass_on()
