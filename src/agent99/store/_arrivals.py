"""Tells whoever sends the outbox that this process has put something into it."""

from __future__ import annotations

import asyncio

from agent99.clock import Clock


class Arrivals:
    """A bell for the event loop of the store.

    Invariant: while it has rung and was not heard, nobody waits.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._has_rung = False
        self._waiters: set[asyncio.Future[bool]] = set()

    def __repr__(self) -> str:
        return f"Arrivals(has_rung={self._has_rung}, waiters={len(self._waiters)})"

    def ring(self) -> None:
        """Wake who waits, or the next who would."""
        self._has_rung = True
        for waiter in self._waiters:
            _settle(waiter, has_rung=True)
        self._waiters.clear()

    def hear(self) -> None:
        """Forget the ringing so far: to be called before one looks."""
        self._has_rung = False

    async def wait(self, timeout_s: float) -> bool:
        """Return True once it has rung since it was last heard, or False after `timeout_s`."""
        if self._has_rung:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        timer = self._clock.call_later(timeout_s, lambda: _settle(waiter, has_rung=False))
        try:
            return await waiter
        finally:
            timer.cancel()
            self._waiters.discard(waiter)


def _settle(waiter: asyncio.Future[bool], *, has_rung: bool) -> None:
    if not waiter.done():
        waiter.set_result(has_rung)
