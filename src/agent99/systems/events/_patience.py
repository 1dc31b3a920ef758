"""Waits for answers, but not for those that cannot come any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Final, TypeVar

from agent99 import Agent
from agent99.agent import link_of
from agent99.clock import Clock, TimerHandle
from agent99.registry import Description, is_gone

LOOK_S: Final = 0.5
"""Between two looks whether those who were asked are still there."""
PING_S: Final = 0.5
SILENCE_S_MAX: Final = 2.0
"""Who answers no ping for so long stands still, and others must be asked."""
T = TypeVar("T")


class NoAnswerError(Exception):
    """The answer cannot come: it may have been given, and must be asked for anew."""


class StandstillError(NoAnswerError):
    """Who was asked has left, or stands still: somebody else may be asked meanwhile."""


class Patience:
    """Ends a wait when the link to the server was away meanwhile, or when who was asked is gone.

    Either way the request or its answer may be lost, and its deadline is far away. So it is when a
    process is frozen, or its event loop blocked: the server keeps its link, the registry its lease.
    Hence who was asked is pinged as long as it is waited for.

    Invariant: each instance that is waited for is pinged by one task at most.

    Args:
        bus: Who asks.
        clock: The source of time.
    """

    def __init__(self, bus: Agent, clock: Clock) -> None:
        self._link = link_of(bus)
        self._clock = clock
        self._waits: dict[asyncio.Timeout, str] = {}
        """Whom each of them is on: an instance, or anybody."""
        self._still: set[asyncio.Timeout] = set()
        """Those given up, since who was asked is gone or stands still."""
        self._pings: dict[str, asyncio.Task[None]] = {}
        self._timer: TimerHandle | None = None
        self._link.wire.on_state(lambda _: self._give_up(self._waits))

    def __repr__(self) -> str:
        return f"Patience({len(self._waits)} wait)"

    async def wait(self, answer: Awaitable[T], instance: str = "") -> T:
        """Return an answer.

        Args:
            answer: Is cancelled when it cannot come any more.
            instance: Who alone can give it; empty: any can.

        Raises:
            StandstillError: that instance has left, or has answered no ping for 2 s.
            NoAnswerError: the link was away: it cannot come any more.
            what `answer` raises.
        """
        until = asyncio.timeout(None)
        try:
            async with until:
                self._waits[until] = instance
                self._look_soon()
                return await answer
        except TimeoutError as error:
            if until.expired():
                raise (StandstillError if until in self._still else NoAnswerError) from error
            raise
        finally:
            self._waits.pop(until, None)
            self._still.discard(until)

    # --- inside -----------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        if self._timer is None and any(self._waits.values()):
            self._timer = self._clock.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        table, loop = self._link.registry.table, asyncio.get_running_loop()
        for instance in {*filter(None, self._waits.values())} - self._pings.keys():
            known = table.get(instance)
            if known is None:
                self._leave(instance)
            else:
                self._pings[instance] = loop.create_task(self._ping(known))
        self._look_soon()

    async def _ping(self, known: Description) -> None:
        wire, clock = self._link.wire, self._clock
        subject = f"$SRV.PING.{known.name}.{known.instance}".encode()
        try:
            if await is_gone(wire, subject, clock, ping_s=PING_S, lease_s=SILENCE_S_MAX):
                self._leave(known.instance)
        finally:
            del self._pings[known.instance]

    def _leave(self, instance: str) -> None:
        """Give up all waits on an instance."""
        waits = [until for until, asked in self._waits.items() if asked == instance]
        self._still.update(waits)
        self._give_up(waits)

    def _give_up(self, waits: Iterable[asyncio.Timeout]) -> None:
        for until in tuple(waits):
            del self._waits[until]  # once is enough
            until.reschedule(0.0)
