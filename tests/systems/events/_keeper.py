"""A process of its own that keeps an audit log: `python _keeper.py URL MESH DATABASE`.

It says `ready` when it does, and ends when whoever started it is gone.
"""

from __future__ import annotations

import asyncio
import os
import sys

from agent99 import Mesh
from agent99.systems.events import AuditAgent


async def main(url: str, mesh_name: str, database: str) -> None:
    """Keep it until it is killed."""
    asyncio.get_running_loop().add_reader(sys.stdin, os._exit, 1)
    async with Mesh(url, mesh=mesh_name) as mesh:
        await mesh.host(AuditAgent(database))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
