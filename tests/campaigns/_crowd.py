"""A process with many connections: `python -m tests.campaigns._crowd URL MESH AGENTS PLAIN`.

So many are meshes with an agent, and so many plain ones, which send a heartbeat now and then. It
answers each line of its input: `reset` forgets what was seen, `tell` prints it.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

import msgspec

from agent99 import Agent, Mesh
from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.errors import Agent99Error
from agent99.ids import SystemIds
from agent99.wire import ConnectionState, Wire, open_wire
from tests.campaigns._load import ends, now_s

Attempts = dict[Any, list[float]]
"""When each connection tried to connect."""


BEAT_S = 2.0


class Seen(msgspec.Struct):
    """What the connections of one process went through since the last reset."""

    back_s: list[float]
    """When each was connected again; a moment of the machine's monotonic clock."""
    gaps_s: list[float]
    """Between two attempts of the same connection."""
    written: int
    """Descriptions of agents that were written to the registry."""
    known: list[int]
    """How many agents each mesh sees."""


class One(Agent):
    """One of many."""

    capabilities = ("one",)

    async def process_request(self) -> str:
        """Say who."""
        return self.instance


class Crowd:
    """Many connections in this process."""

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self._meshes: list[Mesh] = []
        self._back: dict[int, float] = {}
        self._written = 0
        self._count = 0

    def __repr__(self) -> str:
        return f"Crowd(meshes={len(self._meshes)}, connections={self._count})"

    @asynccontextmanager
    async def open(self, url: str, mesh_name: str, agents: int, plain: int) -> AsyncIterator[None]:
        """Connect them all."""
        async with AsyncExitStack() as stack:
            while len(self._meshes) < agents:
                try:
                    mesh = await stack.enter_async_context(Mesh(url, mesh=mesh_name))
                    await mesh.host(One())
                except Agent99Error:  # a crowd that comes in at once delays itself
                    continue
                assert mesh._link is not None
                self._watch(mesh._link.wire)
                self._meshes.append(mesh)
            for _ in range(plain):
                wire = await open_wire(url, sender=b"one", clock=SystemClock(), ids=SystemIds())
                stack.push_async_callback(wire.aclose)
                beating = asyncio.create_task(_beat(wire))
                stack.push_async_callback(ends, beating)
                self._watch(wire)
            yield

    def reset(self) -> None:
        """Forget what was seen."""
        self._back.clear()
        self._attempts.clear()
        self._written = self._writes()

    def seen(self) -> Seen:
        """Return what was seen."""
        attempts = self._attempts.values()
        gaps_s = [b - a for times in attempts for a, b in pairwise(times)]
        known = [len(mesh.registry.table.discover("one")) for mesh in self._meshes]
        written = self._writes() - self._written
        return Seen(list(self._back.values()), gaps_s, written, known)

    def _watch(self, wire: Wire) -> None:
        number = self._count
        self._count += 1

        def note(state: ConnectionState) -> None:
            if state is ConnectionState.CONNECTED:
                self._back[number] = now_s()

        wire.on_state(note)

    def _writes(self) -> int:
        return sum(mesh.registry.statistics().written for mesh in self._meshes)


async def _beat(wire: Wire) -> None:
    while True:
        await wire.wait_writable()
        wire.publish(b"campaign.beat", b"")
        await asyncio.sleep(BEAT_S)


def watching_loop(attempts: Attempts) -> asyncio.AbstractEventLoop:
    """Make the loop of `agent99 run` that notes each attempt to connect, by the task that makes it.

    A connection has a task of its own for each time that it was lost.
    """
    usual = new_event_loop()
    usual.close()

    class Watching(type(usual)):  # type: ignore[misc]  # chosen at run time
        async def create_connection(self, *args: Any, **how: Any) -> Any:
            attempts.setdefault(asyncio.current_task(), []).append(now_s())
            return await super().create_connection(*args, **how)

    loop: asyncio.AbstractEventLoop = Watching()
    return loop


async def main(url: str, mesh_name: str, counts: list[int], attempts: Attempts) -> None:
    """Serve until the input ends."""
    crowd = Crowd(attempts)
    async with crowd.open(url, mesh_name, *counts):
        print("ready", flush=True)  # noqa: T201 - the campaign waits for it
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line == "reset\n":
                crowd.reset()
            told = crowd.seen() if line == "tell\n" else "reset"
            print(msgspec.json.encode(told).decode(), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)  # each would say that its link is lost
    made: Attempts = {}
    with asyncio.Runner(loop_factory=lambda: watching_loop(made)) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], list(map(int, sys.argv[3:])), made))
