"""What becomes of keys that nobody waits for any more."""

from __future__ import annotations

import asyncio
from typing import Any

from agent99 import Mesh
from agent99.systems.cache import CacheNodeAgent
from agent99.testing import MemoryEngine


async def test_what_is_given_up_before_it_is_sent_is_not_sent() -> None:
    """Cancelled in the same turn of the loop in which it was begun: nothing happens, or breaks."""
    broken: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: broken.append(context))
    try:
        async with Mesh(engine=MemoryEngine()) as mesh:
            await mesh.host(CacheNodeAgent())
            cache = await mesh.cache("here", int)
            await cache.set("a", 1)
            for work in (cache.set("a", 2), cache.get("a")):
                task = asyncio.ensure_future(work)
                loop.call_soon(task.cancel)
                await asyncio.gather(task, return_exceptions=True)
            assert 1 == await cache.get("a")
    finally:
        loop.set_exception_handler(before)
    assert [] == broken
