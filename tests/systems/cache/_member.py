"""A node of a cache, or clients of it, for a campaign to kill.

As a process of its own: `python -m tests.systems.cache._member URL MESH DIR ROLE SEED MORE`. It
says `works` and, of a node, the instance. Clients end by SIGTERM, each after what it has under way;
all that they ask and are answered is in the history of their process. `MORE` is for a node the
fault that is planted in it, or `watched`; for a reader how many keys there are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
from pathlib import Path
from typing import Final

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.errors import Agent99Error
from agent99.systems.cache import CacheNodeAgent
from tests.systems.cache._history import Recorder, Session
from tests.systems.cache._loads import Reads, WriteLane
from tests.systems.cache._plants import plant, watch

NAMESPACE: Final = "k15"
WATCHED: Final = "watched"
"""Of a node that writes down what it serves."""
MEMORY_BYTES: Final = 1024**3
"""Of a node: nothing is to be missing since it was evicted."""
LANES: Final = 4
"""Clients in a process."""
TEXTS: Final = tuple(f"text{number}" for number in range(16))
COUNTERS: Final = tuple(f"counter{number}" for number in range(4))
PAUSE_S: Final = 0.01
"""Between two operations of a client, on the average."""
TEXT_MIX: Final = {"get": 50, "set": 15, "cas": 15, "add": 10, "delete": 10}
COUNTER_MIX: Final = {"get": 40, "incr": 55, "delete": 5}
"""Of a hundred operations."""


class Lane:
    """One client that asks for one thing after the other."""

    def __init__(self, session: Session, luck: random.Random) -> None:
        self._session = session
        self._luck = luck
        self._written = 0
        self._versions: dict[str, int] = {}
        """What it saw last of each key: what it expects when it compares."""

    def __repr__(self) -> str:
        return f"Lane({self._session.client!r}, written={self._written})"

    async def work(self, stop: asyncio.Event) -> None:
        """Ask until it is told to stop; an error is an answer, too."""
        while not stop.is_set():
            await asyncio.sleep(self._luck.uniform(0, 2 * PAUSE_S))
            try:
                await self._once()
            except Agent99Error:
                continue

    async def _once(self) -> None:
        luck, session = self._luck, self._session
        key = luck.choice(TEXTS + COUNTERS)
        mix = TEXT_MIX if key in TEXTS else COUNTER_MIX
        (name,) = luck.choices(tuple(mix), tuple(mix.values()))
        match name:
            case "get":
                _, self._versions[key] = await session.get(key)
            case "set":
                self._versions[key] = await session.set(key, self._value())
            case "cas":
                version = self._versions.get(key, 0) or 1
                self._versions[key] = await session.cas(key, self._value(), version=version)
            case "add":
                await session.add(key, self._value())
            case "incr":
                await session.incr(key)
            case _:
                await session.delete(key)

    def _value(self) -> str:
        """Return what no one else writes."""
        self._written += 1
        return f"{self._session.client}.{self._written}"


async def be_node(mesh: Mesh, folder: Path, more: str) -> None:
    """Hold a share of the keys until the process is ended."""
    if more != WATCHED:
        plant(more)
    node = CacheNodeAgent(memory_bytes=MEMORY_BYTES)
    await mesh.host(node)
    print(f"works {node.instance}", flush=True)  # noqa: T201 - the campaign waits for it
    if more == WATCHED:
        await watch(node, folder, tuple(f"{NAMESPACE}:{key}" for key in TEXTS + COUNTERS))
    await asyncio.Event().wait()


async def be_clients(mesh: Mesh, folder: Path, seed: int, kind: type[Lane | WriteLane]) -> None:
    """Ask until SIGTERM."""
    stop = _on_sigterm()
    recorder, cache = Recorder(folder), await mesh.cache(NAMESPACE)
    lanes = [
        kind(Session(cache, f"{os.getpid()}.{number}", recorder), random.Random(f"{seed}.{number}"))
        for number in range(LANES)
    ]
    print("works -", flush=True)  # noqa: T201 - the campaign waits for it
    await asyncio.gather(*(lane.work(stop) for lane in lanes))
    recorder.close()


async def be_readers(mesh: Mesh, folder: Path, seed: int, keys: int) -> None:
    """Read until SIGTERM."""
    stop = _on_sigterm()
    reads = Reads(await mesh.cache(NAMESPACE), folder, keys)
    print("works -", flush=True)  # noqa: T201 - the campaign waits for it
    lucks = (random.Random(f"{seed}.{number}") for number in range(LANES))
    await asyncio.gather(*(reads.work(luck, stop) for luck in lucks))
    reads.keep()


def _on_sigterm() -> asyncio.Event:
    """Return what is set as soon as the process is to end."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop


async def main(mesh: Mesh, folder: Path, role: str, seed: int, more: str) -> None:
    """Be what the role says."""
    async with mesh:
        if role == "node":
            await be_node(mesh, folder, more)
        elif role == "reader":
            await be_readers(mesh, folder, seed, int(more))
        else:
            await be_clients(mesh, folder, seed, Lane if role == "client" else WriteLane)


if __name__ == "__main__":
    path = Path(sys.argv[3])
    words = "%(created)f %(name)s: %(message)s"
    logging.basicConfig(filename=path / f"{os.getpid()}.log", level=logging.INFO, format=words)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        joined = Mesh(sys.argv[1], mesh=sys.argv[2])
        runner.run(main(joined, path, sys.argv[4], int(sys.argv[5]), sys.argv[6]))
