"""The event bus, the audit log and the views in a process of their own, as the demo runs them.

Standard input has one line, the plan; when it closes, whoever started this is gone, and so is this.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec

from agent99 import Mesh, Settings
from agent99.dispatch import new_event_loop
from agent99.errors import Agent99Error
from agent99.systems.events._audit import AuditAgent
from agent99.systems.events._bus import EventBusAgent
from agent99.systems.events._demo_plan import Plan, audit_url_in
from agent99.systems.events._views_agent import OrderViewsAgent

END_S = 5
"""Whole seconds from the end of the demo to the end of this process, whatever it is doing."""


async def _host(plan: Plan) -> None:
    folder = Path(plan.folder)
    settings = Settings(project=folder, state_folder=folder, url=plan.url, mesh=plan.mesh)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    async with Mesh(settings=settings) as mesh:

        def abandon() -> None:
            loop.remove_reader(0)
            signal.alarm(END_S)  # whatever hangs cannot hold this up
            ended.set()

        loop.add_reader(0, abandon)
        await mesh.host(
            EventBusAgent(),
            AuditAgent(audit_url_in(folder)),
            OrderViewsAgent(f"sqlite:///{folder}/views.db"),
        )
        await ended.wait()


def _first_line() -> bytes:
    """Read the plan and nothing behind it: the loop watches the pipe."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    return line


def main() -> int:
    """Host the agents until the demo ends; returns the exit code."""
    plan = msgspec.json.decode(_first_line(), type=Plan)
    level = logging.ERROR if plan.is_quiet else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s [events] %(message)s")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            runner.run(_host(plan))
        except Agent99Error as error:
            sys.stderr.write(f"agent99: the events' agents ended: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    os._exit(main())
