"""What observation costs: a request's processor time, asker and server together, by who listens.

Prints one JSON object: lists of microseconds, one per round. Both ends live in this process, each
with a connection of its own to the nats-server, so that its processor time is that of both sides.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from _order import ORDER, Confirmation
from _stack_agent99 import Orders

from agent99 import Mesh, Settings
from agent99.dispatch import new_event_loop
from agent99.observe import Meter

AT_ONCE = 64
RECORDS_MAX = Settings(project=Path(), state_folder=Path()).trace_records_max


class Listening(msgspec.Struct, frozen=True):
    """Who hears of the requests."""

    records_max: int
    """The size of the ring of records; 0: there is none."""
    has_meter: bool


LISTENING = {
    "off": Listening(0, has_meter=False),
    "ring": Listening(RECORDS_MAX, has_meter=False),
    "metrics": Listening(0, has_meter=True),
    "both": Listening(RECORDS_MAX, has_meter=True),
}


async def request_us(mesh: Mesh, count: int) -> float:
    """Return the processor time of a request, some of them in flight at once."""
    left = count

    async def ask() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await mesh.request("orders", "create", ORDER, returns=Confirmation, timeout_s=10.0)

    gc.collect()
    began = time.process_time()
    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return (time.process_time() - began) / count * 1e6


async def open_pair(stack: AsyncExitStack, url: str, name: str, listening: Listening) -> Mesh:
    """Host the orders on one connection and return another, from which they are asked."""
    here = Path.cwd()
    settings = Settings(
        project=here,
        state_folder=here,
        url=url,
        mesh=f"observed-{name}",
        trace_records_max=listening.records_max,
    )
    server = await stack.enter_async_context(Mesh(settings=settings))
    asker = await stack.enter_async_context(Mesh(settings=settings))
    for mesh in (server, asker):
        if listening.has_meter:
            stack.callback(Meter(mesh.hooks).close)
    await server.host(Orders())
    await asker.wait_for("orders")
    return asker


async def measure(url: str, rounds: int, count: int) -> dict[str, list[float]]:
    """Measure every kind of listening, `rounds` times in turn."""
    figures: dict[str, list[float]] = {name: [] for name in LISTENING}
    async with AsyncExitStack() as stack:
        pairs = {
            name: await open_pair(stack, url, name, listening)
            for name, listening in LISTENING.items()
        }
        for mesh in pairs.values():
            await request_us(mesh, count)
        for _ in range(rounds):
            for name, mesh in pairs.items():
                figures[name].append(await request_us(mesh, count))
    return figures


def main() -> None:
    """Measure on the server `url`, `rounds` times `count` requests: the three arguments."""
    url, rounds, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(measure(url, rounds, count))).decode())


if __name__ == "__main__":
    main()
