"""Jobs on agent99, through its public API alone."""

from __future__ import annotations

import asyncio

from _jobs_role import Arguments, Tally, post_all, read_arguments, tell
from _order import ORDER, Order

from agent99 import Agent, Mesh, job
from agent99.dispatch import new_event_loop


async def post(arguments: Arguments) -> None:
    """Store every job, before anybody is there who does it."""
    async with Mesh(arguments.url, mesh=arguments.queue) as mesh:
        await post_all(lambda: mesh.post("orders", "confirm", ORDER), arguments.every)
    tell(posted=arguments.every)


async def work(arguments: Arguments) -> None:
    """Do them all; each is acknowledged after it is done, and that is confirmed."""
    tally, last = Tally(arguments), asyncio.Event()

    class Orders(Agent):
        """Confirms orders."""

        capabilities = ("orders",)

        @job
        async def confirm(self, order: Order) -> None:
            """Confirm an order."""
            if tally.do(order):
                last.set()

    async with Mesh(arguments.url, mesh=arguments.queue) as mesh:
        await mesh.host(Orders())
        await last.wait()


def main() -> None:
    """Post or work, on the event loop of `agent99 run`."""
    arguments = read_arguments("Jobs on agent99.")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(post(arguments) if arguments.role == "post" else work(arguments))


if __name__ == "__main__":
    main()
