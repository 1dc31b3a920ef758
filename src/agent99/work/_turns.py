"""One after the other for each key, side by side for all others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Turn:
    """The turns at one key."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0

    def __repr__(self) -> str:
        return f"Turn({self.users})"


class Turns:
    """Who shares a key waits for those who came before.

    Invariant: a key is known while somebody has its turn or waits for it.
    """

    def __init__(self) -> None:
        self._turns: dict[str, Turn] = {}

    def __repr__(self) -> str:
        return f"Turns({len(self)})"

    def __len__(self) -> int:
        return len(self._turns)

    @asynccontextmanager
    async def take(self, key: str) -> AsyncGenerator[None]:
        """Have the key to oneself, in the order of asking."""
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = Turn()
        turn.users += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key]
