"""The agent's own `start` and `stop`, which serve nobody's request."""

from __future__ import annotations

import asyncio
from typing import Protocol

from agent99.agent._log import AgentLog
from agent99.agent._tasks import detached
from agent99.errors import ClosedError

STOP_S = 5.0
"""How long the agent's own `stop` may take."""


class Hooked(Protocol):
    """The object of a user's agent, as far as its hooks go."""

    async def start(self) -> None:
        """Prepare."""
        ...

    async def stop(self) -> None:
        """Clean up."""
        ...


class Hooks:
    """Runs an agent's hooks, each in a task without a request in hand.

    Invariant: `stop` runs once at most, and only after `start` has returned.
    """

    def __init__(self, agent: Hooked, name: str, log: AgentLog) -> None:
        self._agent = agent
        self._name = name
        self._log = log
        self._starting: asyncio.Task[None] | None = None
        self._is_broken_off = False
        self._is_open = False

    def __repr__(self) -> str:
        return f"Hooks({self._name!r}, open={self._is_open})"

    async def start(self) -> None:
        """Run the user's preparation.

        Raises:
            ClosedError: it was broken off.
            whatever it raises.
        """
        self._starting = detached(self._start())
        try:
            await self._starting
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_broken_off and not (task is not None and task.cancelling()):
                raise ClosedError(f"agent {self._name!r}") from None
            raise

    def break_off(self) -> None:
        """Cancel a `start` that is still running; one that has returned is left alone."""
        if self._starting is not None and self._starting.cancel():
            self._is_broken_off = True

    async def stop(self) -> None:
        """Run the user's clean-up; nothing that it does keeps the rest from stopping."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            async with asyncio.timeout(STOP_S):
                await detached(self._stop())
        # A clean-up may await what it cancelled.
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the user's code
            self._log.warning("the agent's stop failed: %r", error, exc_info=error)

    async def _start(self) -> None:
        await self._agent.start()
        self._is_open = True  # here: whoever waits may be cancelled at the moment of its return

    async def _stop(self) -> None:
        await self._agent.stop()
