"""A process that keeps the windows of the shops, with a slow sink: `_slow_sinker URL MESH FOLDER`.

One sink takes an event whenever another one has taken ten more, until a line comes on the standard
input: then as fast as it can. Both write what they take into files of the folder: a line for each
event, with its place in the log and its rows. It says `ready` when it keeps the windows, and ends
when whoever started it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.groups import Event
from agent99.systems.analytics import AnalyticsProcessor, FunctionSink, WindowRow

from ._sales import job, revenue

SLOWER = 10


class Pair:
    """Two sinks, of which one is held back."""

    def __init__(self, folder: Path) -> None:
        self.is_free = False
        self._files = {name: (folder / name).open("a") for name in ("quick", "slow")}
        self._taken = dict.fromkeys(self._files, 0)
        self._news = asyncio.Condition()

    async def free(self) -> None:
        """Let the slow one be quick from now on."""
        self.is_free = True
        async with self._news:
            self._news.notify_all()

    async def take_quickly(self, rows: Sequence[WindowRow], event: Event) -> None:
        """Take rows."""
        await self._take("quick", rows, event)

    async def take_slowly(self, rows: Sequence[WindowRow], event: Event) -> None:
        """Take rows, at a tenth of the pace of the other one."""
        async with self._news:
            await self._news.wait_for(self._may_take)
        await self._take("slow", rows, event)

    def _may_take(self) -> bool:
        return self.is_free or self._taken["quick"] >= SLOWER * (self._taken["slow"] + 1)

    async def _take(self, name: str, rows: Sequence[WindowRow], event: Event) -> None:
        self._files[name].write(f"{event.sequence} {len(rows)}\n")
        self._files[name].flush()
        self._taken[name] += 1
        async with self._news:
            self._news.notify_all()


async def main(url: str, mesh_name: str, folder: str) -> None:
    """Keep the windows until whoever started it is gone."""
    pair = Pair(Path(folder))
    sinks = (FunctionSink("quick", pair.take_quickly), FunctionSink("slow", pair.take_slowly))
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    def hear() -> None:
        if not os.read(sys.stdin.fileno(), 100):
            os._exit(1)
        tasks.add(loop.create_task(pair.free()))

    loop.add_reader(sys.stdin, hear)
    database = f"sqlite:///{folder}/windows.db"
    async with Mesh(url, mesh=mesh_name) as mesh:
        await mesh.host(AnalyticsProcessor(job(revenue(sinks=sinks)), database))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
