"""The processes of the demo: started, asked to leave, killed."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from typing import Final, Literal, Self

import msgspec

from agent99.systems.analytics._demo_figures import ProcessPlan, Role

END_S: Final = 20.0
"""A process that was asked to leave has so long: then it is killed."""
_MODULE: Final = "agent99.systems.analytics._demo_process"


class Member:
    """A process of the demo."""

    def __init__(self, role: Role, process: Process) -> None:
        self.role = role
        self.process = process
        self.state: Literal["works", "left", "killed"] = "works"

    def __repr__(self) -> str:
        return f"Member({self.role!r}, pid={self.pid}, {self.state})"

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid


class Crew:
    """Processes, in the order in which they came.

    Invariant: none of them outlives the context, or this process: it holds their standard input.
    """

    def __init__(self, plan: ProcessPlan) -> None:
        self._plan = plan
        self.members: list[Member] = []
        """All that ever were."""

    def __repr__(self) -> str:
        return f"Crew({self.members})"

    def working(self, role: Role) -> list[Member]:
        """Return those of a role that are there, the oldest first."""
        return [one for one in self.members if one.role == role and one.state == "works"]

    async def start(self, role: Role) -> int:
        """Start one; returns its pid."""
        command = (sys.executable, "-P", "-m", _MODULE)
        # In a session of its own: a Ctrl-C in the terminal is the demo's to handle.
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, start_new_session=True)
        self.members.append(Member(role, process))
        plan = msgspec.structs.replace(self._plan, role=role)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(plan) + b"\n")
        await process.stdin.drain()
        return process.pid

    async def kill(self, role: Role, whom: int) -> int:
        """Kill one, counted from the oldest on and round; returns its pid."""
        working = self.working(role)
        member = working[whom % len(working)]
        member.state = "killed"
        member.process.kill()
        await member.process.wait()
        return member.pid

    async def leave(self, role: Role) -> int:
        """Let the oldest one finish what it has in hand and end; returns its pid."""
        member = self.working(role)[0]
        member.process.terminate()
        try:
            async with asyncio.timeout(END_S):
                await member.process.wait()
        except TimeoutError:
            member.process.kill()
            await member.process.wait()
        member.state = "left"
        return member.pid

    async def __aenter__(self) -> Self:
        """Nobody is there yet."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """End all that are left, at once."""
        for member in self.members:
            if member.process.returncode is None:
                member.process.kill()
        for member in self.members:
            await member.process.wait()
