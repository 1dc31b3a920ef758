"""The closers of one processor: as many as are its share of the job's pipelines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from agent99.errors import Agent99Error
from agent99.systems.analytics._backlogs import Backlogs
from agent99.systems.analytics._closer import Closer
from agent99.systems.analytics._lease import Claim, Leases, beat, give, take

if TYPE_CHECKING:
    from agent99.systems.analytics._ground import Ground

BEAT_S: Final = 0.5
"""Between two signs of life, and two looks at what is free."""

_log = logging.getLogger("agent99.systems.analytics")


class Closers:
    """Has a closer at work for each pipeline of the job that is this processor's.

    Args:
        ground: What it stands on.
        members: Says how many processors there are now.
    """

    def __init__(self, ground: Ground, members: Callable[[], int]) -> None:
        self._ground: Final = ground
        self._members: Final = members
        self._leases: Final = Leases(ground.instance)
        self._backlogs: Final = Backlogs(ground)
        self._running: Final[dict[str, tuple[Closer, asyncio.Task[None]]]] = {}

    def __repr__(self) -> str:
        return f"Closers({sorted(self._running)})"

    @property
    def pipelines(self) -> list[str]:
        """Whose windows are closed here."""
        return sorted(self._running)

    def find(self, pipeline: str) -> Closer | None:
        """Return who closes the windows of a pipeline, if that is here and has read everything."""
        found = self._running.get(pipeline)
        return found[0] if found is not None and found[0].is_ready else None

    def wake(self) -> None:
        """Have all look soon: something was folded."""
        for closer, _ in self._running.values():
            closer.wake()

    async def run(self) -> None:
        """Keep at it, until cancelled."""
        while True:
            try:
                await self.look()
            except Agent99Error as error:
                _log.warning("%r goes on later: %s", self, error)
            except Exception:  # noqa: BLE001 - a bug: else this processor would keep no lease again
                _log.critical("%r broke, and goes on", self, exc_info=True)
            await self._ground.clock.sleep(BEAT_S)

    async def look(self) -> None:
        """Show that this one lives, and take, or give back, what follows.

        Raises:
            StoreError or one of its kinds.
        """
        ground = self._ground
        await self._reap()
        mine = {name: closer.epoch for name, (closer, _) in self._running.items()}
        claims = await ground.store.transaction(
            partial(beat, reader=ground.reader, owner=ground.instance, mine=mine)
        )
        now_s = ground.clock.monotonic_s()
        plan = self._leases.plan(claims, mine, self._members(), now_s)
        for pipeline in plan.lost:
            await self._end(pipeline)
        for pipeline in plan.give:
            await self._end(pipeline)
            await self._give({pipeline: mine[pipeline]})
        for claim in plan.take:
            await self._take(claim)

    async def end(self) -> None:
        """End all, and let others take over at once."""
        mine = {name: closer.epoch for name, (closer, _) in self._running.items()}
        for pipeline in mine:
            await self._end(pipeline)
        with suppress(Agent99Error):  # the lease runs out by itself
            await self._give(mine)

    # --- inside -----------------------------------------------------------------------------------

    async def _take(self, claim: Claim) -> None:
        ground = self._ground
        pipeline = ground.job.pipelines.get(claim.pipeline)
        if pipeline is None:
            return
        try_it = partial(take, reader=ground.reader, owner=ground.instance, claim=claim)
        epoch = await ground.store.transaction(try_it)
        if epoch is None:
            return
        closer = Closer(ground, pipeline, epoch, self._backlogs)
        task = asyncio.get_running_loop().create_task(closer.run())
        self._running[pipeline.name] = (closer, task)

    async def _reap(self) -> None:
        """Let go of what has ended by itself: by a lost lease, or by a bug."""
        for pipeline, (closer, task) in tuple(self._running.items()):
            if not task.done():
                continue
            del self._running[pipeline]
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.critical("%r broke", closer, exc_info=error)
                await self._give({pipeline: closer.epoch})

    async def _end(self, pipeline: str) -> None:
        closer, task = self._running.pop(pipeline)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and task.exception() is not None:
            _log.critical("%r broke", closer, exc_info=task.exception())

    async def _give(self, mine: dict[str, int]) -> None:
        if mine:
            await self._ground.store.transaction(
                partial(give, reader=self._ground.reader, mine=mine)
            )
