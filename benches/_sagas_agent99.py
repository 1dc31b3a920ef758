"""Sagas on agent99, through its public API alone.

`inside` hosts them and asks for them in one process; `server` and `client` do so in two.
"""

from __future__ import annotations

import asyncio

from _role import tell_ready
from _sagas_role import STEPS, Arguments, measure, read_arguments

from agent99 import Agent, Mesh
from agent99.dispatch import new_event_loop
from agent99.saga import Saga, Step, saga

_MESH = "bench"
_TIMEOUT_S = 60.0


class Sagas(Agent):
    """Runs sagas whose steps do nothing."""

    capabilities = ("sagas",)

    @saga
    async def run(self, number: int, saga: Saga) -> int:
        """Take four steps."""
        for _ in range(STEPS):
            await saga.step("nothing", self.do_nothing)
        return number

    async def do_nothing(self, _step: Step) -> None:
        """Do nothing, and be known to have done it."""


async def inside(arguments: Arguments) -> None:
    """Host and ask in one process."""
    async with Mesh(arguments.url, mesh=_MESH) as mesh:
        await mesh.host(Sagas())
        await load(mesh, arguments)


async def serve(arguments: Arguments) -> None:
    """Host them for so many seconds."""
    async with Mesh(arguments.url, mesh=_MESH) as mesh:
        await mesh.host(Sagas())
        tell_ready()
        await asyncio.sleep(arguments.seconds)


async def ask(arguments: Arguments) -> None:
    """Ask from here for what another process hosts."""
    async with Mesh(arguments.url, mesh=_MESH) as mesh:
        await mesh.wait_for("sagas")
        await load(mesh, arguments)


async def load(mesh: Mesh, arguments: Arguments) -> None:
    """Have sagas run, and measure."""

    async def run(number: int) -> int:
        payload = {"number": number}
        return await mesh.request("sagas", "run", payload, returns=int, timeout_s=_TIMEOUT_S)

    await measure(run, arguments)


def main() -> None:
    """Play one role, on the event loop of `agent99 run`."""
    roles = {"inside": inside, "server": serve, "client": ask}
    arguments = read_arguments("Sagas on agent99.", tuple(roles))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(roles[arguments.role](arguments))


if __name__ == "__main__":
    main()
