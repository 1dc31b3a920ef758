"""A process that announces one agent and stays until it is killed: `URL MESH INSTANCE`."""

from __future__ import annotations

import asyncio
import sys

from agent99.clock import SystemClock
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal
from agent99.registry import Description, Registry, RegistryOptions
from agent99.wire import open_wire


async def main(url: str, mesh: str, instance: str) -> None:
    """Announce, say so, and wait for ever."""
    clock, ids = SystemClock(), SystemIds()
    wire = await open_wire(url, sender=ids.token()[:8], clock=clock, ids=ids)
    options = RegistryOptions(
        lease_s=1, lease_refresh_s=0.3, keeper_s=1, keeper_refresh_s=0.3, rejoin_jitter_s=0.2
    )
    journal = JetStreamJournal(wire, clock=clock, ids=ids)
    registry = Registry(journal, wire, mesh=mesh, clock=clock, ids=ids, options=options)
    await registry.start()
    await registry.announce(
        Description(instance=instance, name="child", capabilities=("child",), state="ready")
    )
    while not registry.statistics().is_keeper and "keeper" in sys.argv:
        await clock.sleep(0.02)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
