"""A process that keeps the windows of the shops, with sinks: `_sinker URL MESH DATABASE FOLDER`.

It says `ready` when it does, and ends when whoever started it is gone. Its table refuses shop-3.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.systems.analytics import AnalyticsProcessor, ParquetSink, SqlSink

from ._sales import job, revenue
from ._sinking import QUICK


async def main(url: str, mesh_name: str, database: str, folder: str) -> None:
    """Keep the windows until it is killed."""
    asyncio.get_running_loop().add_reader(sys.stdin, os._exit, 1)
    sinks = (SqlSink(database, "revenue", curve=QUICK), ParquetSink(folder, curve=QUICK))
    async with Mesh(url, mesh=mesh_name) as mesh:
        await mesh.host(AnalyticsProcessor(job(revenue(sinks=sinks)), database))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
