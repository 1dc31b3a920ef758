"""Looks over the shoulder of a projection: what its readers see, and what it is in the end."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from agent99 import Mesh
from agent99.projections import Projector
from tests._wait import PATIENCE_S
from tests.projections._revenue import Fold, Sale, caught_up, rows, sales


class Watch:
    """Appends, reads all the while, and keeps account of both.

    Invariant: `begun` is at least the number of events that the log holds.
    """

    def __init__(self, mesh: Mesh, revenue: Projector) -> None:
        self.fold = Fold()
        self.begun = 0
        """Appends that were begun."""
        self.count = 0
        """Events that the last read saw."""
        self.generations: set[int] = set()
        """That were read."""
        self.faults: list[str] = []
        self._mesh = mesh
        self._revenue = revenue
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        results = await asyncio.gather(self._task, return_exceptions=True)
        if not isinstance(results[0], asyncio.CancelledError):
            self.faults.append(f"reading ended by {results[0]!r}")

    async def append(self, shop: str, pence: int) -> None:
        """Append a sale; of one shop one after the other."""
        self.begun += 1
        await self._mesh.append("order.placed", Sale(pence), key=shop)
        self.fold.add(shop, pence)

    async def check(self) -> None:
        """Say what is wrong, once nothing is under way any more.

        Raises:
            AssertionError: something is.
        """
        await caught_up(self._revenue)
        generation, found = await self._revenue.read(lambda t: (t.generation, rows(t)))
        async with asyncio.timeout(PATIENCE_S):
            while generation not in self.generations and not self.faults:
                await asyncio.sleep(0)
        if self.fold.rows != found:
            self.faults.append(f"expected {self.fold.rows[:3]}…, found {found[:3]}…")
        assert [] == self.faults

    async def _read(self) -> None:
        while True:
            generation, count = await self._revenue.read(
                lambda tables: (tables.generation, sales(tables))
            )
            if count < self.count:
                self.faults.append(f"generation {generation} went back: {self.count} to {count}")
            if count > self.begun:
                self.faults.append(f"generation {generation} has {count} of {self.begun} events")
            self.count = count
            self.generations.add(generation)
