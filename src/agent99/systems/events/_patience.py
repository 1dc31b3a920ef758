"""Waits for answers, but not for those that cannot come any more."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Iterable
from typing import Final, NamedTuple, TypeVar

from agent99 import Agent
from agent99.agent import link_of
from agent99.clock import Clock, TimerHandle
from agent99.registry import Description, is_gone

LOOK_S: Final = 0.5
"""Between two looks whether those who were asked are still there."""
PING_S: Final = 0.5
T = TypeVar("T")


class NoAnswerError(Exception):
    """The answer cannot come: it may have been given, and must be asked for anew."""


class StandstillError(NoAnswerError):
    """Who was asked has left, or stands still: somebody else may be asked meanwhile."""


class Asked(NamedTuple):
    """Whom a wait is on."""

    instance: str
    """Empty: anybody."""
    silence_s_max: float


class Patience:
    """Ends a wait when the link to the server was away meanwhile, or when who was asked is gone.

    Either way the request or its answer may be lost, and its deadline is far away. Where somebody
    else can be asked it need not stand until the registry gives up who is frozen, or whose event
    loop is blocked, either: hence who was asked is pinged as long as it is waited for.

    Invariant: of each instance and silence that is waited for, one task at most sends pings.

    Args:
        bus: Who asks.
        clock: The source of time.
    """

    def __init__(self, bus: Agent, clock: Clock) -> None:
        self._link = link_of(bus)
        self._clock = clock
        self._waits: dict[asyncio.Timeout, Asked] = {}
        self._still: set[asyncio.Timeout] = set()
        """Those given up, since who was asked is gone or stands still."""
        self._pings: dict[Asked, asyncio.Task[None]] = {}
        self._timer: TimerHandle | None = None
        self._link.wire.on_state(lambda _: self._give_up(self._waits))

    def __repr__(self) -> str:
        return f"Patience({len(self._waits)} wait)"

    async def wait(
        self, answer: Awaitable[T], instance: str = "", *, silence_s_max: float = math.inf
    ) -> T:
        """Return an answer.

        Args:
            answer: Is cancelled when it cannot come any more.
            instance: Who alone can give it; empty: any can.
            silence_s_max: Seconds for which it may answer no ping.

        Raises:
            StandstillError: that instance has left, or was silent for too long.
            NoAnswerError: the link was away: it cannot come any more.
            what `answer` raises.
        """
        until = asyncio.timeout(None)
        try:
            async with until:
                self._waits[until] = Asked(instance, silence_s_max)
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
        if self._timer is None and any(asked.instance for asked in self._waits.values()):
            self._timer = self._clock.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        table, loop = self._link.registry.table, asyncio.get_running_loop()
        for asked in {*self._waits.values()}:
            known = table.get(asked.instance)
            if asked.instance and known is None:
                self._leave(asked)
            elif known is not None and asked not in self._pings:
                self._pings[asked] = loop.create_task(self._ping(asked, known))
        self._look_soon()

    async def _ping(self, asked: Asked, known: Description) -> None:
        wire, clock = self._link.wire, self._clock
        subject = f"$SRV.PING.{known.name}.{known.instance}".encode()
        try:
            if await is_gone(wire, subject, clock, ping_s=PING_S, lease_s=asked.silence_s_max):
                self._leave(asked)
        finally:
            del self._pings[asked]

    def _leave(self, asked: Asked) -> None:
        """Give up the waits on an instance that has left, or stands still."""
        waits = [until for until, each in self._waits.items() if each == asked]
        self._still.update(waits)
        self._give_up(waits)

    def _give_up(self, waits: Iterable[asyncio.Timeout]) -> None:
        for until in tuple(waits):
            del self._waits[until]  # once is enough
            until.reschedule(0.0)
