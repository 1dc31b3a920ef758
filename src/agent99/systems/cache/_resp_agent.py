"""The RESP listener as an agent: hosted on a mesh, it serves the mesh's cache."""

from __future__ import annotations

from functools import partial

from agent99 import Agent
from agent99.agent import link_of
from agent99.systems.cache._cache import DEFAULT_NAMESPACE
from agent99.systems.cache._keys import parse_namespace
from agent99.systems.cache._overview import look_at
from agent99.systems.cache._resp_cache import CacheStrings
from agent99.systems.cache._resp_server import RespListener, RespOptions


class RespAgent(Agent):
    """Lets clients of Redis read and write one namespace of the cache, as long as it runs.

    Host it beside a node, or alone: it asks the owners of keys as any client of the cache does.

    Args:
        options: Where it listens, and whom it lets in.
        namespace: Of the keys.

    Raises:
        InvalidNameError: of the namespace.
    """

    uses = ("cache_node",)

    options: RespOptions = RespOptions()
    namespace: str = DEFAULT_NAMESPACE

    def __init__(self, options: RespOptions | None = None, *, namespace: str | None = None) -> None:
        self.options = options or type(self).options
        self.namespace = parse_namespace(namespace or type(self).namespace)
        self._listener: RespListener | None = None

    @property
    def port(self) -> int:
        """Where it listens; 0 while it does not."""
        return self._listener.port if self._listener is not None else 0

    async def start(self) -> None:
        """Listen.

        Raises:
            UsageError: it would be open to other machines without a password.
            OSError: the address is taken, or not of this machine.
        """
        strings = CacheStrings(await self.cache(self.namespace, bytes), partial(look_at, self))
        listener = RespListener(strings, self.options, clock=link_of(self).clock)
        await listener.__aenter__()
        self._listener = listener
        self.log.info("clients of Redis: %s:%d", self.options.host, listener.port)

    async def stop(self) -> None:
        """Answer what is at work, and close all connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.aclose()
