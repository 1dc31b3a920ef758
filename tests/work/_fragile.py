"""An agent whose work ends badly.

As a process of its own: `python -m tests.work._fragile URL MESH DIR HOW`.
What begins leaves a line in a file, which a process that ends does not take along.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

import agent99.work
from agent99 import Agent, Mesh, job
from agent99.work import Assignment, Worker, jobs_for

ATTEMPTS_MAX = 2
DELIVERIES_MAX = 5


class Fragile(Agent):
    """Does what is asked, or dies of it."""

    capabilities = ("fragile",)

    def __init__(self, folder: Path) -> None:
        self._begun, self._ended = folder / "begun", folder / "ended"

    @job(attempts_max=ATTEMPTS_MAX, delay_s=0.01)
    async def die(self) -> None:
        """Take the process along."""
        self._note("die")
        os._exit(9)

    @job(attempts_max=ATTEMPTS_MAX, delay_s=0.01)
    async def live(self) -> None:
        """Do no harm, and take a while."""
        await asyncio.sleep(0.3)
        with self._ended.open("a") as lines:
            lines.write(f"{self.context.event_id}\n")

    def _note(self, what: str) -> None:
        with self._begun.open("a") as lines:
            lines.write(f"{what}\n")


def with_ack_wait(make: Callable[..., Assignment], seconds: float) -> Callable[..., Assignment]:
    """Return what makes assignments whose work comes again sooner, and not as often."""

    def quick(*given: Any) -> Assignment:
        made = make(*given)
        how = {"ack_wait_s": seconds, "deliveries_max": DELIVERIES_MAX}
        consumer = msgspec.structs.replace(made.consumer, **how)
        return msgspec.structs.replace(made, consumer=consumer)

    return quick


async def main(url: str, mesh_name: str, folder: Path, how: str) -> None:
    """Host until the process is ended."""
    if how == "cannot bury":

        async def bury(*_: Any, **__: Any) -> None:
            os._exit(9)

        setattr(Worker, "_bury", bury)  # noqa: B010 - a process that never comes that far
    async with Mesh(url, mesh=mesh_name) as mesh:
        await mesh.host(Fragile(folder))
        await asyncio.Event().wait()


if __name__ == "__main__":
    setattr(agent99.work, "jobs_for", with_ack_wait(jobs_for, 0.5))  # noqa: B010 - as the tests do
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
