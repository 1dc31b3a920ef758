"""The agents that run in this process while the mesh is open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from agent99.agent._invoke import Pools
from agent99.agent._running import Hosted, Running, is_running
from agent99.dispatch import State
from agent99.errors import ClosedError, UsageError

if TYPE_CHECKING:
    from agent99.agent._link import Link
    from agent99.agent._watchdog import Watchdog


class Hosting:
    """What is hosted on one opening of a mesh, and the threads and processes that it shares.

    Invariant: `running` are those that were begun and have not stopped; none is begun after `close`
    was called.
    """

    def __init__(self) -> None:
        self.running: list[Running] = []
        self._pools = Pools()
        self._emptied = asyncio.Event()
        self._closed = False
        self._watchdog: Watchdog | None = None

    def __repr__(self) -> str:
        return f"Hosting({len(self.running)}{', closed' if self._closed else ''})"

    async def host(self, agents: Iterable[Hosted], link: Link) -> None:
        """Start agents, one after the other; see `Mesh.host`."""
        for agent in agents:
            if self._closed:
                raise ClosedError("mesh")
            if is_running(agent):
                raise UsageError(f"{agent!r} runs already")
            if self._watchdog is None:
                from agent99.agent._watchdog import Watchdog  # noqa: PLC0415 - who hosts needs it

                self._watchdog = Watchdog(link.clock, link.hooks)
                self._watchdog.start()
            running = Running(agent, link, self._pools, on_stop=self._forget_stopped)
            self.running.append(running)
            self._emptied.clear()
            await running.start()

    async def stop(self, agent: Hosted) -> None:
        """Stop one agent; one that is not here is stopped already."""
        for running in tuple(self.running):
            if running.agent is agent:
                await running.stop()

    def abandon(self) -> None:
        """End every operation that runs, each with an error to its caller."""
        for running in self.running:
            running.abandon()

    async def wait_empty(self) -> None:
        """Wait until every agent has stopped."""
        if self.running:
            await self._emptied.wait()

    async def close(self) -> None:
        """Stop every agent, those that are just starting too, and end the threads and processes."""
        self._closed = True
        try:
            await asyncio.gather(*(running.stop() for running in tuple(self.running)))
        except asyncio.CancelledError:
            self.abandon()  # nobody waits for what runs
            raise
        finally:
            self._pools.close()
            if self._watchdog is not None:
                self._watchdog.close()

    def _forget_stopped(self) -> None:
        self.running = [running for running in self.running if running.state is not State.STOPPED]
        if not self.running:
            self._emptied.set()
