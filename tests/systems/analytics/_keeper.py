"""A process that keeps the windows of the tills: `python -m ..._keeper URL MESH DATABASE FAULT`.

It says `ready` when it does, and ends when whoever started it is gone. SIGTERM: it leaves.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from functools import partial
from typing import Any

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.groups import Batch
from agent99.systems.analytics import AnalyticsProcessor
from agent99.systems.analytics import _folding as folding
from agent99.systems.analytics import _work as work
from agent99.systems.analytics._board import Board
from agent99.systems.analytics._closer import Closer
from agent99.systems.analytics._delta import WindowRow

from ._tills import TILLS, switched_job, till_job

POSITION_FIRST = "the position is committed before the state"
SWALLOWED = "a late record is counted, and in no window"
SHOWN_AGAIN = "who takes over shows again what was shown"
APART_S = 0.03
OLDER, NEWER = "version 1", "version 2"
VERSIONS = {OLDER: partial(switched_job, 1), NEWER: partial(switched_job, 2)}
"""No faults: which version of the job of the switch it keeps."""


def plant(fault: str) -> None:
    """Break the code on purpose."""
    plants = {
        POSITION_FIRST: _position_first,
        SWALLOWED: _swallow,
        SHOWN_AGAIN: _show_again,
    }
    if fault in plants:
        plants[fault]()


def _position_first() -> None:
    fresh, handle = Batch.fresh, folding.Folding.handle

    async def apart(self: folding.Folding, batch: Batch) -> None:
        await self._ground.store.transaction(lambda one: fresh(batch, one))
        await asyncio.sleep(APART_S)  # the state is yet to come
        await handle(self, batch)

    setattr(Batch, "fresh", lambda self, _: self.records)  # noqa: B010 - the fault
    setattr(folding.Folding, "handle", apart)  # noqa: B010 - the fault


def _swallow() -> None:
    fold = work.fold

    def on_time_alone(pipeline: Any, columns: Any, rows: int, **how: Any) -> Any:
        whole = fold(pipeline, columns, rows, **how)
        if not whole.counts.late:
            return whole
        kept: list[int] = []
        latest_us = how["max_us"] or 0
        for row, at_us in enumerate(columns[TILLS.time]):
            latest_us = max(latest_us, at_us)
            if at_us >= latest_us - TILLS.delay_us:
                kept.append(row)
        few = {name: [column[row] for row in kept] for name, column in columns.items()}
        return whole._replace(panes=fold(pipeline, few, len(kept), **how).panes)

    setattr(work, "fold", on_time_alone)  # noqa: B010 - the fault


def _show_again() -> None:
    close = Closer._close

    async def forget(self: Closer, *until: int | None) -> list[WindowRow]:
        """Take over nothing."""
        return [] if self._written is None else await close(self, *until)

    setattr(Closer, "_close", forget)  # noqa: B010 - the fault
    setattr(Board, "recall", lambda self, shown: None)  # noqa: B010 - as above


async def main(url: str, mesh_name: str, database: str, fault: str) -> None:
    """Keep the windows until it is to leave, or is killed."""
    plant(fault)
    loop, left = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, os._exit, 1)
    loop.add_signal_handler(signal.SIGTERM, left.set)
    async with Mesh(url, mesh=mesh_name) as mesh:
        job = VERSIONS[fault]() if fault in VERSIONS else till_job()
        await mesh.host(AnalyticsProcessor(job, database))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await left.wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
