"""A process of its own that keeps a projection: `python _keeper.py URL MESH DATABASE`.

It says `ready` when it does, and ends when whoever started it is gone.
"""

from __future__ import annotations

import asyncio
import os
import sys

from agent99 import Mesh
from agent99.projections import Projector
from agent99.store import StoreOptions, open_store
from tests.projections._revenue import QUICK, Revenue

OPTIONS = StoreOptions(lock_s_max=30.0)


async def main(url: str, mesh_name: str, database: str) -> None:
    """Keep it until it is killed."""
    asyncio.get_running_loop().add_reader(sys.stdin, os._exit, 1)
    async with (
        open_store(database, options=OPTIONS) as store,
        Mesh(url, mesh=mesh_name) as mesh,
        Projector(mesh, Revenue(), store, options=QUICK),
    ):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
