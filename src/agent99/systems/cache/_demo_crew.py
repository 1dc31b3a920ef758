"""The processes of the demo's nodes: started, asked to leave, killed."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from typing import Final, Self

import msgspec

from agent99.systems.cache._demo_figures import NodePlan

END_S: Final = 20.0
"""A node that was asked to leave has so long: then it is killed."""
_MODULE: Final = "agent99.systems.cache._demo_node"


class NodeCrew:
    """Nodes in processes of their own, the oldest first.

    Invariant: none of them outlives the context, or this process: it holds their standard input.
    """

    def __init__(self, plan: NodePlan) -> None:
        self._plan = plan
        self._alive: list[Process] = []

    def __repr__(self) -> str:
        return f"NodeCrew({len(self)})"

    def __len__(self) -> int:
        return len(self._alive)

    async def start(self) -> int:
        """Start one more; returns its pid."""
        command = (sys.executable, "-P", "-m", _MODULE)
        # In a session of its own: a Ctrl-C in the terminal is the demo's to handle.
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, start_new_session=True)
        self._alive.append(process)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(self._plan) + b"\n")
        await process.stdin.drain()
        return process.pid

    async def kill(self) -> int:
        """Kill the oldest one; returns its pid."""
        process = self._alive.pop(0)
        process.kill()
        await process.wait()
        return process.pid

    async def leave(self) -> int:
        """Let the oldest one hand over what it has and end; returns its pid."""
        process = self._alive[0]
        process.terminate()
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        self._alive.remove(process)
        return process.pid

    async def __aenter__(self) -> Self:
        """Nobody is there yet."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """End all that are left, at once."""
        for process in self._alive:
            if process.returncode is None:
                process.kill()
        for process in self._alive:
            await process.wait()
        self._alive.clear()
