"""Processes' worths of registries on one mesh, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from agent99.clock import SystemClock
from agent99.errors import Agent99Error
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal
from agent99.registry import Registry, RegistryOptions
from agent99.wire import NatsWire, open_wire

QUICK = RegistryOptions(
    lease_s=1,
    lease_refresh_s=0.3,
    keeper_s=1,
    keeper_refresh_s=0.3,
    rejoin_jitter_s=0.2,
    suspect_s=1.0,
)
"""Periods that keep a test on a real server short."""


async def until(holds: Callable[[], Awaitable[bool]], *, timeout_s: float) -> None:
    """Ask again and again until it holds: for what no event tells of."""
    async with asyncio.timeout(timeout_s):
        while not await holds():
            await SystemClock().sleep(0.02)


class RealMesh:
    """A mesh on a real server: each `join` has a connection of its own, like a process."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"m{SystemIds().token().decode()[:12]}"
        self.clock = SystemClock()
        self.ids = SystemIds()
        self.wires: dict[Registry, NatsWire] = {}
        self._stack = AsyncExitStack()

    async def join(self, options: RegistryOptions = QUICK) -> Registry:
        """Return a started registry on a connection of its own."""
        wire = await open_wire(
            self.url, sender=self.ids.token()[:8], clock=self.clock, ids=self.ids
        )
        self._stack.push_async_callback(wire.aclose)
        journal = JetStreamJournal(wire, clock=self.clock, ids=self.ids)
        registry = Registry(
            journal, wire, mesh=self.name, clock=self.clock, ids=self.ids, options=options
        )
        self._stack.push_async_callback(registry.aclose)
        self.wires[registry] = wire
        await registry.start()
        return registry

    async def drop(self, registry: Registry) -> None:
        """Take a process away without a word, as kill -9 does."""
        await registry._background.aclose()
        await self.wires[registry].aclose()

    async def stored(self, *instances: str, timeout_s: float) -> None:
        """Wait until the server holds exactly the descriptions of these instances."""
        await until(lambda: self._has("registry", set(instances)), timeout_s=timeout_s)

    async def leased(self, *registries: Registry, timeout_s: float) -> None:
        """Wait until the server holds exactly the leases of these processes."""
        wanted = {registry.process for registry in registries}
        await until(lambda: self._has("leases", wanted), timeout_s=timeout_s)

    async def kept(self, *, timeout_s: float) -> None:
        """Wait until the keeper's place is taken."""
        await until(lambda: self._has("keeper", {"keeper"}), timeout_s=timeout_s)

    async def _has(self, bucket: str, wanted: set[str]) -> bool:
        wire = next(wire for wire in self.wires.values() if wire.state.value != "closed")
        journal = JetStreamJournal(wire, timeout_s=1.0)
        try:
            stream = f"KV_a99_{self.name}_{bucket}"
            prefix = f"$KV.a99_{self.name}_{bucket}."
            found = {
                record.subject.removeprefix(prefix).split(".")[-1]
                async for record in journal.read(stream)
                if record.payload
            }
        except Agent99Error:
            return False
        return found == wanted

    async def aclose(self) -> None:
        """Close everything."""
        await self._stack.aclose()
