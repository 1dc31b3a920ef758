"""A process of its own whose handler ends it at one event: `python _deadly.py URL MESH NUMBER`.

It says `had KEY NUMBER` of each event that it is done with.
"""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.groups import Event, EventGroup, EventOptions

OPTIONS = EventOptions(commit_s=0.2, silence_s_max=1.0, ping_s=0.1)


async def main(url: str, mesh_name: str, deadly: int) -> None:
    """Be a member until it dies, or is ended."""
    asyncio.get_running_loop().add_reader(sys.stdin, os._exit, 1)  # whoever started it is gone

    async def handle(event: Event) -> None:
        number = msgspec.json.decode(event.data)["number"]
        if number == deadly and event.subject == "k0":
            os._exit(9)
        sys.stdout.write(f"had {event.subject} {number}\n")
        sys.stdout.flush()

    async with (
        Mesh(url, mesh=mesh_name) as mesh,
        EventGroup(mesh, "deadly", [">"], handle, options=OPTIONS),
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
