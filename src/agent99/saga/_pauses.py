"""The waits of one saga's run, each of which can be ended early."""

from __future__ import annotations

import asyncio

from agent99.clock import Clock, wait_done


class Pauses:
    """Waits until so much time has passed, or somebody wakes them all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: set[asyncio.Future[None]] = set()
        self._moving: set[asyncio.Future[None]] = set()
        self.is_to_look = False
        """Others may have written into the journal."""

    def __repr__(self) -> str:
        return f"Pauses(waiting={len(self._waiting)})"

    async def wait(self, seconds: float) -> None:
        """Wait; ends early on `wake`."""
        waking: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waking)
        try:
            await wait_done(self._clock, waking, seconds)
        finally:
            self._waiting.discard(waking)

    def wake(self) -> None:
        """End every wait now."""
        _finish(self._waiting)

    def look(self) -> None:
        """End every wait, since others may have written into the journal."""
        self.is_to_look = True
        self.wake()

    async def wait_moved(self) -> None:
        """Wait until a step has ended."""
        moving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._moving.add(moving)
        try:
            await moving
        finally:
            self._moving.discard(moving)

    def moved(self) -> None:
        """A step has ended."""
        _finish(self._moving)


def _finish(futures: set[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
