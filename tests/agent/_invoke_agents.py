"""Agents whose operations hang, die and call one another; as a programme, one that hangs and ends.

`python -m tests.agent._invoke_agents thread|process`
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
from pathlib import Path

from agent99 import Agent, Mesh, Settings, operation
from agent99.errors import DeadlineExceededError
from agent99.testing import MemoryEngine

CALLERS = 40
"""Calls of `Crowd.enter` that are made at once."""


class Crowd(Agent):
    """Each of its callers waits for all, then asks this same agent."""

    capabilities = ("crowd",)

    async def start(self) -> None:
        """Expect the callers."""
        self.all_in = threading.Barrier(CALLERS, timeout=5)

    @operation
    def enter(self) -> int:
        """Ask once everybody is in."""
        self.all_in.wait()
        return self.blocking.request("crowd", "answer", returns=int)

    @operation
    def answer(self) -> int:
        """Answer on another thread."""
        return 1


class Hanger(Agent):
    """Hangs until its gate is opened."""

    capabilities = ("hanger",)

    async def start(self) -> None:
        """Close the gate."""
        self.gate = threading.Event()

    @operation
    def hang(self) -> None:
        """Wait for the gate."""
        self.gate.wait()

    @operation
    def answer(self) -> int:
        """Answer at once."""
        return 1

    @operation
    def stop_iteration(self) -> None:
        """Raise what a future does not carry."""
        raise StopIteration


class Cruncher(Agent):
    """Works in processes."""

    capabilities = ("cruncher",)

    @operation(runs_in="process")
    @staticmethod
    def hang(folder: str) -> None:
        """Leave a file named as the process, then never return."""
        Path(folder, str(os.getpid())).touch()
        threading.Event().wait()

    @operation(runs_in="process")
    @staticmethod
    def answer() -> int:
        """Answer at once, with the process."""
        return os.getpid()


class OddError(Exception):
    """It can be pickled, and not made again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def raise_odd() -> None:
    """Raise it."""
    raise OddError("this", "that")


def raise_value() -> None:
    """Raise something plain."""
    raise ValueError("oh")


def return_lock() -> object:
    """Return what cannot be pickled."""
    return threading.Lock()


def leave() -> None:
    """End the process."""
    os._exit(3)


async def main(where: str) -> None:
    """Host an agent, let one call of it hang, and close the mesh."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(project=Path(folder), state_folder=Path(folder), mesh="exit")
        agent = Hanger() if where == "thread" else Cruncher()
        async with Mesh(settings=settings, engine=MemoryEngine()) as mesh:
            await mesh.host(agent)
            name = agent.capabilities[0]
            await mesh.request(name, "answer", timeout_s=30)
            payload = {} if where == "thread" else {"folder": folder}
            try:
                await mesh.request(name, "hang", payload, timeout_s=0.5)
            except DeadlineExceededError:
                print("closing", flush=True)  # noqa: T201 - the test reads it


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
