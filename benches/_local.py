"""What needs no server: a request within the process against a bare call, and `discover`.

Prints one JSON object: lists of figures, one per round.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec
from _order import ORDER, Confirmation, Order
from _stack_agent99 import Orders

from agent99 import Description, Mesh, Settings
from agent99.dispatch import new_event_loop
from agent99.testing import MemoryEngine

AGENTS = 10_000
PROVIDERS = 10


async def bare_us(agent: Orders, count: int) -> float:
    """Return what a call costs whose payload and result go through the codec, both ways."""
    encode = msgspec.json.Encoder().encode
    decode_order = msgspec.json.Decoder(Order).decode
    decode_answer = msgspec.json.Decoder(Confirmation).decode
    began = time.perf_counter()
    for _ in range(count):
        decode_answer(encode(await agent.create(decode_order(encode(ORDER)))))
    return (time.perf_counter() - began) / count * 1e6


async def request_us(mesh: Mesh, count: int) -> float:
    """Return what a request costs to an agent in this process."""
    began = time.perf_counter()
    for _ in range(count):
        await mesh.request("orders", "create", ORDER, returns=Confirmation, timeout_s=10.0)
    return (time.perf_counter() - began) / count * 1e6


async def discover_us(mesh: Mesh, count: int) -> float:
    """Return what asking for one capability costs."""
    began = time.perf_counter()
    for _ in range(count):
        await mesh.discover("wanted")
    return (time.perf_counter() - began) / count * 1e6


async def discover_anew_us(mesh: Mesh, count: int) -> float:
    """Return what it costs when something that it depends on has changed since."""
    table = mesh.registry.table
    took = 0.0
    for number in range(count):
        table.put(describe(0, version=f"1.0.{number}"))
        began = time.perf_counter()
        await mesh.discover("wanted")
        took += time.perf_counter() - began
    return took / count * 1e6


def describe(number: int, version: str = "1.0.0") -> Description:
    """Return one of ten thousand agents; every thousandth offers what is wanted."""
    offers = ("wanted",) if number % (AGENTS // PROVIDERS) == 0 else (f"other-{number % 500}",)
    return Description(
        instance=f"00000000-0000-4000-8000-{number:012d}",
        name=f"agent-{number}",
        version=version,
        capabilities=offers,
        state="ready",
    )


async def measure(rounds: int, count: int) -> dict[str, list[float]]:
    """Measure everything, `rounds` times in turn."""
    settings = Settings(project=Path.cwd(), state_folder=Path.cwd(), mesh="bench")
    figures: dict[str, list[float]] = {name: [] for name in ("bare", "request", "found", "anew")}
    agent = Orders()
    async with Mesh(settings=settings, engine=MemoryEngine()) as mesh:
        await mesh.host(agent)
        for number in range(AGENTS - 1):  # the agent that is hosted is one of them
            mesh.registry.table.put(describe(number))
        if len(await mesh.discover("wanted")) != PROVIDERS:
            raise SystemExit("the table is not what it should be")
        await bare_us(agent, count)
        await request_us(mesh, count)
        for _ in range(rounds):
            figures["bare"].append(await bare_us(agent, count))
            figures["request"].append(await request_us(mesh, count))
            figures["found"].append(await discover_us(mesh, count))
            figures["anew"].append(await discover_anew_us(mesh, min(count, 200)))
    return figures


def main() -> None:
    """Measure `rounds` times `count` calls, which are the two arguments."""
    rounds, count = int(sys.argv[1]), int(sys.argv[2])
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(measure(rounds, count))).decode())


if __name__ == "__main__":
    main()
