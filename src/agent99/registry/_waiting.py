"""Waits for a condition, without asking again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agent99.clock import Clock
from agent99.errors import ClosedError, DeadlineExceededError


class Waiting:
    """Those who wait until something holds; asked when `look` is called.

    Invariant: whoever waits is woken by its condition, its deadline or `close`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiters: dict[asyncio.Future[None], Callable[[], bool]] = {}

    def __repr__(self) -> str:
        return f"Waiting({len(self._waiters)})"

    async def wait(self, timeout_s: float, what: str, holds: Callable[[], bool]) -> None:
        """Return once `holds` is true.

        Raises:
            DeadlineExceededError: not within `timeout_s`; says `what`.
            ClosedError
            what `holds` raises.
        """
        if holds():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = holds

        def expire() -> None:
            if not waiter.done():
                waiter.set_exception(DeadlineExceededError(f"{what} within {timeout_s:g} s"))

        timer = self._clock.call_later(timeout_s, expire)
        try:
            await waiter
        finally:
            timer.cancel()
            del self._waiters[waiter]

    def look(self) -> None:
        """Ask every condition, and wake those that hold."""
        for waiter, holds in tuple(self._waiters.items()):
            if waiter.done():
                continue
            try:
                if holds():
                    waiter.set_result(None)
            except Exception as error:  # noqa: BLE001 - the caller's condition: it gets its error
                waiter.set_exception(error)

    def close(self) -> None:
        """End every wait with `ClosedError`."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(ClosedError("registry"))
