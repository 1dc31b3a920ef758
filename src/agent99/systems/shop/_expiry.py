"""Lets go of what is held when its time is up, in the process of whoever runs it."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import Final, Protocol

from agent99.clock import Clock
from agent99.errors import Agent99Error

_log = logging.getLogger("agent99.shop")

LOOK_S: Final = 0.5
"""Seconds until the next look at the latest: it sees what other processes hold for a short time,
and is the pause after one that failed."""
PAUSE_S: Final = 0.01
"""Seconds until the next look at the soonest."""
_US: Final = 1_000_000
_NEVER_US: Final = 2**63


class Reservations(Protocol):
    """What expires; `Stock` is one."""

    async def next_expiry_us(self) -> int | None:
        """Return when the next reservation is due, microseconds since the epoch; None: none is."""
        ...

    async def expire(self) -> int:
        """Let go of every reservation whose time is up; returns how many these were."""
        ...


class Expiry:
    """Waits for the next reservation whose time is up, and lets it go.

    Nothing is kept but when to look next: what is due stands in the database, so that the first
    look after a start lets go of what became due while nobody was there.

    Invariant: no more than `LOOK_S` pass between two looks, beside what these take.
    """

    def __init__(self, reservations: Reservations, clock: Clock) -> None:
        self._reservations = reservations
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._until_us = 0  # of the wait that is under way
        self._expected_us = _NEVER_US  # the first of what this process holds since the last look
        self._trouble = ""

    def __repr__(self) -> str:
        return f"Expiry({self._reservations!r}, running={self._task is not None})"

    def start(self) -> None:
        """Let go of what is due now, and from now on, until `stop`."""
        # Of no request: its task would share the deadline of whoever began it.
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="shop-expiry", context=Context())

    async def stop(self) -> None:
        """End. What is under way takes effect as a whole, or not at all. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def expect(self, expires_us: int) -> None:
        """Look when this time has come: a reservation was made that may be the next to expire."""
        self._expected_us = min(self._expected_us, expires_us)
        if expires_us < self._until_us:
            self._woken.set()

    async def _run(self) -> None:
        while True:
            self._expected_us = _NEVER_US
            next_us = await self._look()
            now_us = self._clock.wall_us()
            self._until_us = min(next_us, self._expected_us, now_us + int(LOOK_S * _US))
            await self._wait(max((self._until_us - now_us) / _US, PAUSE_S))
            self._until_us = 0

    async def _look(self) -> int:
        """Let go of what is due; returns when to look again, at the latest."""
        try:
            next_us = await self._reservations.next_expiry_us()
            is_due = next_us is not None and next_us <= self._clock.wall_us()
            count = await self._reservations.expire() if is_due else 0
        except Agent99Error as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _log.warning("what is held for too long stays held for now: %s", error)
            return _NEVER_US
        except Exception:  # noqa: BLE001 - nobody awaits this task: it must not end in silence
            _log.exception("letting go of what is held for too long failed; it is tried again")
            return _NEVER_US
        self._trouble = ""
        if count:
            _log.info("reservations that expired, and were let go: %d", count)
        return next_us if next_us is not None else _NEVER_US

    async def _wait(self, delay_s: float) -> None:
        timer = self._clock.call_later(delay_s, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()
            self._woken.clear()
