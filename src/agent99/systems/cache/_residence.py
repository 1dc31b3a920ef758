"""The stays of one node in the cache, one after the other, as long as its agent is on the mesh."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from agent99.agent import Agent, link_of
from agent99.errors import Agent99Error, ClosedError
from agent99.systems.cache._stay import Stay
from agent99.wire import ConnectionState

LEAVE_S = 15.0
"""How long a node that leaves waits for others to have what it holds: supervisors grant 30 s."""
AGAIN_S = 0.5
"""Before it is tried again to be in the cache."""

_log = logging.getLogger("agent99.systems.cache")


class Residence:
    """Has a node be in the cache; it begins, pauses and ends with the agent.

    A node that others removed, since it stood still for too long, comes back as another one, with
    nothing: what it held, others have by now.

    Args:
        make: Makes a stay, given what is to be called when others end it.
    """

    def __init__(self, agent: Agent, make: Callable[[Callable[[], None]], Stay]) -> None:
        self.stay: Stay | None = None
        """The one that goes on."""
        self._agent = agent
        self._make = make
        self._coming: asyncio.Task[None] | None = None
        # Here and not by each stay: a wire forgets nobody, and there may be many.
        link_of(agent).wire.on_state(self._on_state)

    def __repr__(self) -> str:
        return f"Residence({self.stay!r})"

    def start(self) -> None:
        """Be in the cache from now on. Idempotent."""
        if self._coming is None:
            self._coming = asyncio.get_running_loop().create_task(self._come())

    async def leave(self) -> None:
        """Hand over what is held, while it is still served. Idempotent."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        stay = self.stay
        if stay is None:
            return
        try:
            async with asyncio.timeout(LEAVE_S):
                await stay.leave()
        except (TimeoutError, Agent99Error) as error:
            _log.warning("%r could not hand over everything: %r", stay, error)
        finally:
            self.stay = None
            await stay.end()

    async def stop(self, timeout_s: float) -> bool:
        """Be there no more; returns True: nothing is in hand."""
        del timeout_s
        await self.leave()
        return True

    # --- inside -----------------------------------------------------------------------------------

    async def _come(self) -> None:
        clock = link_of(self._agent).clock
        while True:
            stay = self._make(self._removed)
            try:
                await stay.begin()
            except ClosedError:
                return
            except Agent99Error as error:
                _log.warning("the node cannot be in the cache yet: %s", error)
                await stay.end()
                await clock.sleep(AGAIN_S)
            else:
                self.stay = stay
                return

    def _on_state(self, state: ConnectionState) -> None:
        if self.stay is not None:
            self.stay.on_state(state)

    def _removed(self) -> None:
        if self._coming is not None:
            self._coming = asyncio.get_running_loop().create_task(self._come_back())

    async def _come_back(self) -> None:
        stay, self.stay = self.stay, None
        if stay is not None:
            await stay.end()
        await self._come()
