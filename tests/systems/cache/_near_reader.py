"""Hold a key near in a process of its own, and tell when each value was given up, and what came."""

from __future__ import annotations

import asyncio
import sys
import time

from agent99 import Mesh

LOOK_S = 0.001


async def main(url: str, mesh_name: str) -> None:
    """Write a line for each value: `value seconds`, of when the one before was given up."""
    async with Mesh(url, mesh=mesh_name) as mesh:
        cache = await mesh.cache("s", bytes, near_s=60.0)
        last, gone_s = b"", time.monotonic()
        while True:
            value = await cache.get("a") or b""
            if value != last:  # what is held may be given up for other reasons, too
                sys.stdout.write(f"{value.decode()} {gone_s}\n")
                sys.stdout.flush()
            last = value
            while cache.get_nowait("a") == value:
                await asyncio.sleep(LOOK_S)
            gone_s = time.monotonic()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
