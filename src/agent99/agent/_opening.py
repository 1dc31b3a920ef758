"""Opens what a mesh is made of, in order, and closes it in reverse."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec

from agent99.agent._engine import Engine, NatsEngine, hang_up, identity_of
from agent99.agent._link import Link
from agent99.agent._observed import observe_wire
from agent99.clock import Clock, SystemClock
from agent99.envelope import Subjects
from agent99.ids import Ids, SystemIds
from agent99.observe import Hooks, Ring
from agent99.registry import Registry, RegistryOptions
from agent99.settings import Settings


class Opening(msgspec.Struct, frozen=True):
    """All that is needed to open a mesh, any number of times."""

    settings: Settings
    engine: Engine
    clock: Clock
    ids: Ids
    registry: RegistryOptions
    hooks: Hooks
    ring: Ring | None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[tuple[Link, str]]:
        """Connect; gives the link and the server's address.

        Raises:
            as `Mesh.__aenter__`.
        """
        sender = identity_of(self.settings, self.ids)
        async with AsyncExitStack() as stack:
            opened = self.engine.open(sender, clock=self.clock, ids=self.ids)
            parts = await stack.enter_async_context(opened)
            observe_wire(parts.wire, parts.url, self.hooks)
            registry = Registry(
                parts.journal,
                parts.wire,
                mesh=self.settings.mesh,
                clock=self.clock,
                ids=self.ids,
                options=self.registry,
            )
            stack.push(partial(hang_up, parts.wire))  # if the next one is broken off
            stack.push_async_callback(registry.aclose)
            stack.push(partial(hang_up, parts.wire))
            await registry.start()
            link = Link(
                parts=parts,
                registry=registry,
                subjects=Subjects(self.settings.mesh, sender),
                clock=self.clock,
                ids=self.ids,
                hooks=self.hooks,
                ring=self.ring,
                settings=self.settings,
            )
            stack.callback(link.close)
            yield link, parts.url


def make_opening(
    settings: Settings,
    engine: Engine | None,
    clock: Clock | None,
    ids: Ids | None,
    registry: RegistryOptions | None,
) -> Opening:
    """Return what is needed to open a mesh, the defaults filled in."""
    hooks, size_max = Hooks(), settings.trace_records_max
    return Opening(
        settings,
        engine if engine is not None else NatsEngine(settings),
        clock if clock is not None else SystemClock(),
        ids if ids is not None else SystemIds(),
        registry or RegistryOptions(replicas=settings.replicas),
        hooks,
        Ring(hooks, size_max=size_max) if size_max else None,
    )
