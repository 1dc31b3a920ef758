"""One after the other for each key, side by side for all others."""

from __future__ import annotations

import asyncio
from types import TracebackType


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

    def take(self, key: str) -> Turn:
        """Have the key to oneself, in the order of entering what this returns, at once."""
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = Turn(self._turns, key)
        return turn


class Turn:
    """The turns at one key; a class, since a generator costs three times as much to enter."""

    __slots__ = ("_key", "_lock", "_turns", "_users")

    def __init__(self, turns: dict[str, Turn], key: str) -> None:
        self._turns = turns
        self._key = key
        self._lock = asyncio.Lock()
        self._users = 0

    def __repr__(self) -> str:
        return f"Turn({self._users})"

    async def __aenter__(self) -> None:
        self._users += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()
        self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            del self._turns[self._key]
