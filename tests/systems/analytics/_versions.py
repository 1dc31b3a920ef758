"""What a campaign sees of two versions of its job, on one database."""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import msgspec

from agent99 import Mesh
from agent99.errors import Agent99Error
from agent99.groups import read_events
from agent99.store import Store, Transaction
from agent99.systems.analytics import Analytics, ClosedWindows, WindowRow
from agent99.systems.analytics._jobs import reader_of_job
from agent99.systems.analytics._results import rows_of
from agent99.systems.analytics._watermark import FOREVER_US

from ._by_definition import Name
from ._till_campaign import LOOK_S

SETTLE_S = 300.0
_CLOSERS = "SELECT pipeline, watermark_us FROM analytics_closer WHERE reader = :reader"
_ROWS = (
    "SELECT start_us, end_us, key, number, figures FROM analytics_row"
    " WHERE reader = :reader AND pipeline = :pipeline AND is_retracted = 0"
)
_WAITING = "SELECT count(*) FROM agent99_outbox WHERE stored_us IS NULL"
Told = list[tuple[int, WindowRow]]
Rows = dict[Name, tuple[int, int]]


class Versions(NamedTuple):
    """What a database has of the two versions."""

    mesh: Mesh
    store: Store

    async def watermarks(self, version: int) -> dict[str, int]:
        """Return up to where the windows of each pipeline are closed."""
        values = {"reader": reader_of_job(self.mesh.name, "tills", version)}
        found = await self.store.read(lambda one: list(one.tuples(_CLOSERS, values)))
        return {name: at_us or 0 for name, at_us in found}

    async def rows(self, version: int, pipeline: str) -> Rows:
        """Return the closed rows."""
        values = {
            "reader": reader_of_job(self.mesh.name, "tills", version),
            "pipeline": pipeline,
        }

        def read(transaction: Transaction) -> Rows:
            return {
                Name(tuple(msgspec.json.decode(key)), start_us, end_us, number): figures_of(
                    msgspec.json.decode(figures)
                )
                for start_us, end_us, key, number, figures in transaction.tuples(_ROWS, values)
            }

        return await self.store.read(read)

    async def caught_up(self) -> None:
        """Wait until the new version is where the old one is now; that one is further by then."""
        old = await self.watermarks(1)
        async with asyncio.timeout(SETTLE_S):
            while True:
                new = await self.watermarks(2)
                if all(new.get(name, 0) >= at_us for name, at_us in old.items()):
                    return
                await asyncio.sleep(LOOK_S)

    async def settled(self) -> None:
        """Wait until all windows of both are closed, and told."""
        async with asyncio.timeout(SETTLE_S):
            for version in (1, 2):
                while set((await self.watermarks(version)).values()) != {FOREVER_US}:
                    await asyncio.sleep(LOOK_S)
            while await self.store.read(lambda one: one.execute(_WAITING).scalar()):
                await asyncio.sleep(LOOK_S)

    async def told(self, pipeline: str) -> Told:
        """Return the rows that events tell, in their order, each with its version."""
        topic = f"windows.tills.{pipeline}"
        events = [each.decode(ClosedWindows) async for each in read_events(self.mesh, topic)]
        return [(each.version, row) for each in events for row in rows_of(each)]


async def switched(figures: Analytics) -> float:
    """Switch, whoever has been killed; returns how many seconds that took."""
    began_s = time.monotonic()
    while True:
        try:
            await figures.switch(2, patience_s=SETTLE_S)
        except Agent99Error:  # whoever was asked is gone: another one is asked
            await asyncio.sleep(LOOK_S)
        else:
            return time.monotonic() - began_s


def figures_of(values: dict[str, Any]) -> tuple[int, int]:
    """Return the figures of a row."""
    return values["sales"], values["pence"]
