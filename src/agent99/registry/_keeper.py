"""The keeper: one process of the mesh that removes the descriptions of the dead."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from agent99.clock import Clock
from agent99.errors import Agent99Error, StreamNotFoundError, WrongSequenceError
from agent99.ids import Ids
from agent99.journal import Change, Snapshot
from agent99.registry._background import Alarm
from agent99.registry._buckets import Buckets, in_batches
from agent99.registry._directory import Directory
from agent99.registry._judge import Judge
from agent99.registry._log import logger
from agent99.registry._options import RegistryOptions

_KEY = "keeper"
_OTHERS_S = 0.1
"""After a pause of the server all leases come at once: ours is no sign before others are read."""


class Keeper:
    """Stands for election, and while elected follows the leases and removes the dead.

    The place is a key with a time to live: who creates it is keeper, and stays so while it
    refreshes the key by compare-and-set. Two who both believe it, for a moment, do no harm: a
    record is removed only at the revision that was seen, and only if its process's lease is gone.

    Invariant: `revision` is set if and only if this process believes to be the keeper.
    """

    def __init__(
        self,
        process: str,
        buckets: Buckets,
        directory: Directory,
        clock: Clock,
        ids: Ids,
        options: RegistryOptions,
    ) -> None:
        self.judge = Judge(
            process, lease_s=options.lease_s, lease_refresh_s=options.lease_refresh_s
        )
        self.removed = 0
        """Descriptions of the dead that this process removed."""
        self._process = process
        self._buckets = buckets
        self._directory = directory
        self._clock = clock
        self._ids = ids
        self._options = options
        self._revision: int | None = None
        self._look = Alarm(clock)
        self._sweep = Alarm(clock)

    def __repr__(self) -> str:
        return f"Keeper({self._process!r}, is_keeper={self.is_keeper})"

    @property
    def is_keeper(self) -> bool:
        """Whether this process removes the dead now."""
        return self._revision is not None

    async def run(self) -> None:
        """Stand for election for ever, and keep while elected."""
        self._revision = None
        while True:
            jitter = 0.9 + 0.2 * self._ids.fraction()
            await self._look.wait(self._options.keeper_refresh_s * jitter)
            if not self._looks():
                continue
            try:
                elected = await self._elected()
            except StreamNotFoundError:
                await self._buckets.open()
                raise
            if elected:
                await self._keep()

    async def resign(self) -> None:
        """Give the place up, so that a successor need not wait until it runs out.

        Raises:
            JournalError, TransportError, DeadlineExceededError
        """
        if not self.is_keeper:
            return
        self._revision = None
        place = await self._buckets.keeper.get(_KEY)
        if place is None or place.value != self._process.encode():
            return
        try:
            await self._buckets.keeper.delete(_KEY, revision=place.revision)
        except WrongSequenceError:
            logger.debug("the place of the keeper is taken already")

    def close(self) -> None:
        """Forget what was to be done later."""
        self._look.close()
        self._sweep.close()

    def _looks(self) -> bool:
        # If everybody looked, it would cost as much as the leases: of N processes a handful do.
        others = max(1, len(self._directory.processes()))
        return self._ids.fraction() * others < self._options.keeper_lookers

    async def _elected(self) -> bool:
        bucket = self._buckets.keeper
        place = await bucket.get(_KEY)
        if place is not None:
            # Ours still, if keeping was broken off a moment ago.
            self._revision = place.revision if place.value == self._process.encode() else None
            return self.is_keeper
        try:
            self._revision = await bucket.create(_KEY, self._process.encode())
        except WrongSequenceError:
            return False
        logger.debug("this process is the keeper now")
        return True

    async def _keep(self) -> None:
        self.judge.forget_leases()
        try:
            await _until_one_fails(
                {
                    "registry keeper: hold": self._hold(),
                    "registry keeper: watch": self._watch(),
                    "registry keeper: remove": self._remove(),
                }
            )
        except Agent99Error as error:
            # Lost to another, or the server is away: stand for election again.
            logger.debug("no longer the keeper: %s", error)
        # Not when cancelled: `resign` needs to know.
        self._revision = None
        self.judge.forget_leases()

    async def _hold(self) -> None:
        """Refresh the place; ends by the error that says that it is lost."""
        while True:
            await self._clock.sleep(self._options.keeper_refresh_s)
            if self._revision is None:
                raise WrongSequenceError(_KEY, 0, None)
            self._revision = await self._buckets.keeper.update(
                _KEY, self._process.encode(), revision=self._revision
            )

    async def _watch(self) -> None:
        async with self._buckets.leases.follow() as changes:
            async for change in changes:
                self._take(change, self._clock.monotonic_s())

    def _take(self, change: Snapshot | Change, now_s: float) -> None:
        """Tell the judge of the leases, and have it judge when it may have learnt of a death."""
        if isinstance(change, Snapshot):
            self.judge.all_leases((entry.key for entry in change.entries), now_s)
            self._sweep.ring()
        elif change.kind != "put":
            self.judge.unleased(change.key)
            self._sweep.ring()
        else:
            self.judge.leased(change.key, now_s)
            if change.key == self._process:
                self._sweep.ring(_OTHERS_S)

    async def _remove(self) -> None:
        while True:
            await self._sweep.wait(self._options.lease_refresh_s)
            dead = self.judge.dead(self._directory.processes(), self._clock.monotonic_s())
            for process in dead:
                before = self.removed
                records = self._directory.records(process)
                await in_batches(records, self._options.writes_max, self._remove_record)
                # None: they were removed a moment ago, and we have not heard of it yet.
                if count := self.removed - before:
                    noun = "description" if count == 1 else "descriptions"
                    logger.info("removed %d %s of a dead process", count, noun)

    async def _remove_record(self, record: tuple[str, int]) -> None:
        key, revision = record
        try:
            await self._buckets.registry.delete(key, revision=revision)
        except WrongSequenceError:
            return  # written again since, or removed already: not ours to remove
        self.removed += 1


async def _until_one_fails(runs: dict[str, Coroutine[Any, Any, None]]) -> None:
    """Run all until one fails or ends, then end the others; they go by their names.

    Not a `TaskGroup`: Python 3.11's swallows a cancellation that comes while a task fails, and then
    whoever leaves waits for ever.

    Raises:
        what the first that failed raises.
    """
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(run, name=name) for name, run in runs.items()]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
