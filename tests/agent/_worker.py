"""A process that hosts one `Shop`, for tests that kill it: `python _worker.py URL MESH`."""

from __future__ import annotations

import asyncio
import sys

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from tests.agent._agents import Shop


async def main() -> None:
    """Host until the process is ended; print the instance when it is there."""
    async with Mesh(sys.argv[1], mesh=sys.argv[2]) as mesh:
        shop = Shop()
        await mesh.host(shop)
        print(shop.instance, flush=True)  # noqa: T201 - the test waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main())
