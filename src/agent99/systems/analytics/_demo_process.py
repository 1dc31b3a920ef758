"""A process of the analytics demo: it stores records, or keeps the windows.

Standard input has one line, the plan; when it closes, whoever started this is gone, and so is this.
SIGTERM means leave: what is in hand is finished first.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec

from agent99 import Agent, Mesh, Settings
from agent99.dispatch import new_event_loop
from agent99.errors import Agent99Error
from agent99.systems.analytics._demo_books import DATABASE
from agent99.systems.analytics._demo_figures import ProcessPlan
from agent99.systems.analytics._demo_job import LINES, ORDERS, RETAIL
from agent99.systems.analytics._ingestion import DataIngestionAgent
from agent99.systems.analytics._processor import AnalyticsProcessor


def _agent(plan: ProcessPlan) -> Agent:
    if plan.role == "ingestion":
        return DataIngestionAgent(sources=(LINES, ORDERS))
    return AnalyticsProcessor(RETAIL, database=f"sqlite:///{plan.folder}/{DATABASE}")


async def _host(plan: ProcessPlan) -> None:
    folder = Path(plan.folder)
    settings = Settings(project=folder, state_folder=folder, url=plan.url, mesh=plan.mesh)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    loop.add_reader(0, os._exit, 0)
    async with Mesh(settings=settings) as mesh:
        await mesh.host(_agent(plan))
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
    """Host the agent until it is to leave; returns the exit code."""
    plan = msgspec.json.decode(_first_line(), type=ProcessPlan)
    logging.basicConfig(level=logging.WARNING if plan.debug else logging.CRITICAL)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            runner.run(_host(plan))
        except Agent99Error as error:
            sys.stderr.write(f"agent99: {plan.role} ended: {error}\n")
            return 1
    return 0


if __name__ == "__main__":
    os._exit(main())
