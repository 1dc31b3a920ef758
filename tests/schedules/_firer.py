"""A process of its own that fires what is due: `python _firer.py URL MESH`.

It says `firing` when it does, and `ended` when it has ended, which it does when it is told to
terminate.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.schedules import Schedules


async def main(url: str, name: str) -> None:
    """Fire until it is told to terminate."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    asyncio.get_running_loop().add_reader(sys.stdin, os._exit, 1)  # whoever started it is gone
    async with Mesh(url, mesh=name) as mesh, Schedules(mesh):
        say("firing")
        await ended.wait()
    say("ended")


def say(line: str) -> None:
    """Tell the parent."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
