"""An agent that is soaked: it adds, and says how large its process has grown."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from pathlib import Path

import msgspec

from agent99 import Agent, Mesh, on, operation
from agent99.dispatch import new_event_loop

MESH = "soak"
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Census(msgspec.Struct, frozen=True):
    """What a process holds."""

    rss_mb: float
    descriptors: int
    tasks: int
    threads: int


class Adder(Agent):
    """Adds numbers."""

    capabilities = ("adder",)

    def __init__(self) -> None:
        self.events = 0

    @operation
    async def add(self, a: int, b: int) -> int:
        """Return the sum."""
        return a + b

    @operation
    def add_slowly(self, a: int, b: int) -> int:
        """Return the sum, from a thread."""
        return a + b

    @operation
    async def census(self) -> Census:
        """Count what this process holds."""
        return take_census()

    @on("soak.*")
    async def hear(self, _event: dict[str, int]) -> None:
        """Count an event."""
        self.events += 1


def take_census() -> Census:
    """Count what this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Census(
        rss_mb=pages * _PAGE_BYTES / 1e6,
        descriptors=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        tasks=len(asyncio.all_tasks()),
        threads=int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[17]),
    )


async def serve(url: str) -> None:
    """Add until this process is ended."""
    async with Mesh(url, mesh=MESH) as mesh:
        await mesh.host(Adder())
        print("ready", flush=True)
        await mesh.wait_empty()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(sys.argv[1]))
