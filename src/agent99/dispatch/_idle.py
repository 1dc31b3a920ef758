"""Wait until an instance has nothing to do."""

from __future__ import annotations

import asyncio
from functools import partial

from agent99.clock import Clock, Deadlines
from agent99.dispatch._admission import Admission
from agent99.dispatch._call import Call


class Idle:
    """Those who wait until nothing is in flight."""

    def __init__(self, admission: Admission[Call], clock: Clock, deadlines: Deadlines) -> None:
        self.waiters: list[asyncio.Future[None]] = []
        self._admission = admission
        self._clock = clock
        self._deadlines = deadlines

    def __repr__(self) -> str:
        return f"Idle(waiters={len(self.waiters)})"

    async def wait(self, timeout_s: float) -> bool:
        """Wait until nothing is in flight; returns False when the time is up first."""
        if self._admission.in_flight == 0:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        ticket = self._deadlines.add(self._clock.monotonic_s() + timeout_s, partial(wake, waiter))
        try:
            await waiter
        finally:
            self._deadlines.remove(ticket)
            self.waiters.remove(waiter)
        return self._admission.in_flight == 0

    def wake(self) -> None:
        """Tell those who wait, if it is so."""
        if self._admission.in_flight == 0:
            for waiter in self.waiters:
                wake(waiter)


def wake(waiter: asyncio.Future[None]) -> None:
    """End a wait; one that was given up stays so."""
    if not waiter.done():
        waiter.set_result(None)
