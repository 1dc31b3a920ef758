"""Waits for answers, but not for those that cannot come any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Final, TypeVar

from agent99 import Agent
from agent99.agent import link_of
from agent99.clock import Clock, TimerHandle

LOOK_S: Final = 0.5
"""Between two looks whether those who were asked are still there."""
T = TypeVar("T")


class NoAnswerError(Exception):
    """The answer cannot come: it may have been given, and must be asked for anew."""


class Patience:
    """Ends a wait when the link to the server was away meanwhile, or when who was asked is gone.

    Either way the request or its answer may be lost, and its deadline is far away.

    Args:
        bus: Who asks.
        clock: The source of time.
    """

    def __init__(self, bus: Agent, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._waits: dict[asyncio.Timeout, frozenset[str]] = {}
        """Whom each of them is on: instances."""
        self._timer: TimerHandle | None = None
        link_of(bus).wire.on_state(lambda _: self._give_up(self._waits))

    def __repr__(self) -> str:
        return f"Patience({len(self._waits)} wait)"

    async def wait(self, answer: Awaitable[T], instances: Iterable[str] = ()) -> T:
        """Return an answer.

        Args:
            answer: Is cancelled when it cannot come any more.
            instances: Who alone can give it; none: any instance can.

        Raises:
            NoAnswerError: it cannot come any more.
            what `answer` raises.
        """
        until = asyncio.timeout(None)
        try:
            async with until:
                self._waits[until] = frozenset(instances)
                self._look_soon()
                return await answer
        except TimeoutError as error:
            if until.expired():
                raise NoAnswerError from error
            raise
        finally:
            self._waits.pop(until, None)

    # --- inside -----------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        if self._timer is None and any(self._waits.values()):
            self._timer = self._clock.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        table = link_of(self._bus).registry.table
        self._give_up(
            until
            for until, asked in self._waits.items()
            if any(table.get(instance) is None for instance in asked)
        )
        self._look_soon()

    def _give_up(self, waits: Iterable[asyncio.Timeout]) -> None:
        for until in tuple(waits):
            del self._waits[until]  # once is enough
            until.reschedule(0.0)
