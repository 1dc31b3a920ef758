"""One node in a process of its own: `python -m tests.systems.cache._resident URL MESH BYTES`.

It says `works`, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.systems.cache import CacheNodeAgent


async def _serve(url: str, name: str, memory_bytes: int) -> None:
    async with Mesh(url, mesh=name) as mesh:
        await mesh.host(CacheNodeAgent(memory_bytes=memory_bytes, replicas=1))
        sys.stdout.write("works\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
