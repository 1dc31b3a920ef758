"""Processes' worths of registries on one mesh, for tests."""

from __future__ import annotations

from contextlib import AsyncExitStack

from agent99.clock import SystemClock
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

    async def aclose(self) -> None:
        """Close everything."""
        await self._stack.aclose()
