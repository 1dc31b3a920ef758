"""The order service on agent99, through its public API alone."""

from __future__ import annotations

import asyncio

from _order import ORDER, Confirmation, Order, confirm
from _role import Arguments, measure, read_arguments, tell_ready

from agent99 import Agent, Mesh, operation
from agent99.dispatch import new_event_loop


class Orders(Agent):
    """Confirms orders."""

    capabilities = ("orders",)

    @operation
    async def create(self, order: Order) -> Confirmation:
        """Confirm an order."""
        return confirm(order)


async def serve(arguments: Arguments) -> None:
    """Confirm orders for so many seconds."""
    async with Mesh(arguments.url, mesh="bench") as mesh:
        await mesh.host(Orders())
        tell_ready()
        await asyncio.sleep(arguments.seconds)


async def load(arguments: Arguments) -> None:
    """Have orders confirmed, and measure."""
    async with Mesh(arguments.url, mesh="bench") as mesh:
        await mesh.wait_for("orders")
        await measure(
            lambda: mesh.request("orders", "create", ORDER, returns=Confirmation, timeout_s=10.0),
            arguments,
        )


def main() -> None:
    """Be the server or the client, on the event loop of `agent99 run`."""
    arguments = read_arguments("The order service on agent99.")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(arguments) if arguments.role == "server" else load(arguments))


if __name__ == "__main__":
    main()
