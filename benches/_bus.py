"""The event bus asked to publish, and appending without it: in turns, one at a time and 64 at once.

`server` hosts the bus; `client`, another process, publishes by it and appends itself, an order of
400 bytes each time, under the same keys. Prints one JSON object: lists of figures, one per round,
by stack and how many are in flight.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
from _mesh_append import IN_FLIGHT, Store, appends_per_s
from _order import ORDER
from _role import tell_ready

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.systems.events import EventBusAgent, Published

MESH = "bench"
TOPIC = "order.placed"
_TIMEOUT_S = 30.0


async def serve(url: str, seconds: float) -> None:
    """Host the bus for so many seconds."""
    async with Mesh(url, mesh=MESH) as mesh:
        await mesh.host(EventBusAgent())
        tell_ready()
        await asyncio.sleep(seconds)


async def measure(url: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure both, in turns."""
    figures: dict[str, list[float]] = {}
    async with Mesh(url, mesh=MESH) as mesh:
        await mesh.wait_for("event_bus")

        async def publish(key: str) -> None:
            event = {"type": TOPIC, "subject": key, "data": ORDER}
            await mesh.request(
                "event_bus", "publish", event, returns=Published, timeout_s=_TIMEOUT_S
            )

        async def append(key: str) -> None:
            await mesh.append(TOPIC, ORDER, key=key)

        stores: dict[str, Store] = {"publish": publish, "append": append}
        for store in stores.values():
            await appends_per_s(store, max(IN_FLIGHT), seconds / 4)
        for _ in range(rounds):
            for in_flight in IN_FLIGHT:
                for name, store in stores.items():
                    rate = await appends_per_s(store, in_flight, seconds)
                    figures.setdefault(f"{name}_{in_flight}", []).append(rate)
    return figures


def main() -> None:
    """Be the server: address, seconds; or the client: address, rounds, seconds of each figure."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        match sys.argv[1:]:
            case ["server", url, seconds]:
                runner.run(serve(url, float(seconds)))
            case ["client", url, rounds, seconds]:
                figures = runner.run(measure(url, int(rounds), float(seconds)))
                print(msgspec.json.encode(figures).decode())
            case _:
                raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
