"""One reader, who waits until something came or the world changed."""

from __future__ import annotations

import asyncio


class Waiter:
    """A wait that anybody can end."""

    def __init__(self) -> None:
        self._waiting: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"Waiter(is_waiting={self.is_waiting})"

    @property
    def is_waiting(self) -> bool:
        """Whether somebody waits now."""
        return self._waiting is not None

    def wake(self) -> None:
        """Let the reader look again, whether something came or the world changed."""
        waiting = self._waiting
        if waiting is not None:
            self._waiting = None
            if not waiting.done():
                waiting.set_result(None)

    async def wait(self) -> None:
        """Wait until `wake`."""
        self._waiting = waiting = asyncio.get_running_loop().create_future()
        try:
            await waiting
        finally:
            if self._waiting is waiting:
                self._waiting = None
