"""A process with many callers of a cache: `python -m tests.systems.cache._callers …`.

It says `ready`, waits for a line, works, and says what came of it in one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.systems.cache import Cache

LOAD_S = 0.2
NAMESPACE = "callers"


def note(file: int, began_ns: int) -> None:
    """Add a load to a file, with its beginning and its end: one write, which is whole."""
    os.write(file, f"{began_ns} {time.monotonic_ns()} {os.getpid()}\n".encode())


async def cold(cache: Cache[Any], file: int, callers: int) -> list[Any]:
    """Have all callers ask for one key at once, that is not there."""
    load = loading(file)
    found = await asyncio.gather(
        *(cache.get_or_compute("cold", load, timeout_s=60.0) for _ in range(callers))
    )
    return sorted(set(found))


async def expiring(cache: Cache[Any], file: int, callers: int) -> list[Any]:
    """Have callers ask again and again for a key that expires each second."""
    load = loading(file)
    until_s = time.monotonic() + 4.0
    asked = 0

    async def ask() -> None:
        nonlocal asked
        while time.monotonic() < until_s:
            await cache.get_or_compute("expiring", load, ttl_s=1.0, early=0.0, timeout_s=60.0)
            asked += 1

    await asyncio.gather(*(ask() for _ in range(callers)))
    return [asked]


async def counting(cache: Cache[Any], _file: int, writers: int) -> list[Any]:
    """Have writers add 1 to a number, each 10,000 times, ten of them at once."""

    async def write() -> None:
        for _ in range(1_000):
            await asyncio.gather(*(cache.incr("number") for _ in range(10)))

    await asyncio.gather(*(write() for _ in range(writers)))
    return []


def loading(file: int) -> Callable[[], Awaitable[str]]:
    """Return a load that takes a while, and is noted."""

    async def load() -> str:
        began_ns = time.monotonic_ns()
        await asyncio.sleep(LOAD_S)
        note(file, began_ns)
        return str(began_ns)

    return load


async def main(url: str, mesh_name: str, what: str, path: str, count: str) -> None:
    """Work, once it is told to."""
    works = {"cold": cold, "expiring": expiring, "counting": counting}
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with Mesh(url, mesh=mesh_name) as mesh:
        cache = await mesh.cache(NAMESPACE)
        await cache.get("warm")
        print("ready", flush=True)  # noqa: T201 - it is how the test hears of it
        await asyncio.to_thread(sys.stdin.readline)
        found = await works[what](cache, file, int(count))
    print(json.dumps(found), flush=True)  # noqa: T201 - it is how the test hears of it


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
