"""Seeing to it that what was held back leaves by itself: a look every half second."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent99.errors import StoreError

if TYPE_CHECKING:
    import logging

    from agent99.clock import Clock
    from agent99.systems.shop._shipments import Shipments

LOOK_S: Final = 0.5
"""Seconds between two looks; another process may have put something there, or have been killed."""


class Departures:
    """Looks for shipments whose time has come, from `start` to `stop`.

    What is due stands in the database: any process finds it, after a restart too, and of several
    that look one sends it on its way.
    """

    def __init__(
        self, shipments: Shipments, clock: Clock, log: logging.LoggerAdapter[logging.Logger]
    ) -> None:
        self._shipments = shipments
        self._clock = clock
        self._log = log
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Departures({self._shipments!r}, is_looking={self._task is not None})"

    def start(self) -> None:
        """Look from now on. Idempotent."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._look())

    async def stop(self) -> None:
        """Look no longer; a step that is being taken is whole or not at all. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _look(self) -> None:
        is_away = False
        while True:
            wait_s = LOOK_S
            try:
                next_us = await self._shipments.depart()
            except StoreError as error:
                if not is_away:
                    self._log.warning("what is held back does not leave: %s", error)
                is_away = True
            else:
                is_away = False
                if next_us is not None:
                    wait_s = min(max(0.0, (next_us - self._clock.wall_us()) / 1e6), LOOK_S)
            await self._clock.sleep(wait_s)
