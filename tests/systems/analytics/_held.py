"""Transactions that end when they may: what others do meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from agent99.store import Store, Transaction

_WAITING = "SELECT count(*) AS waiting FROM pg_locks WHERE NOT granted"


class Held:
    """A transaction that has done something, and does not end before it may."""

    def __init__(self, store: Store, work: Callable[[Transaction], Any]) -> None:
        self._is_done, self._may_end = threading.Event(), threading.Event()
        self._work = work
        self._ending = asyncio.ensure_future(store.transaction(self._hold))

    def __repr__(self) -> str:
        return f"Held({self._work!r})"

    def _hold(self, transaction: Transaction) -> None:
        self._work(transaction)
        self._is_done.set()
        assert self._may_end.wait(20)

    async def done(self) -> None:
        """Return when it has done what it was to do."""
        assert await asyncio.to_thread(self._is_done.wait, 20)

    async def end(self) -> None:
        """Let it end."""
        self._may_end.set()
        await self._ending


async def some_wait(store: Store, count: int) -> None:
    """Return when so many wait for a lock."""
    async with asyncio.timeout(20):
        while await store.read(lambda t: t.execute(_WAITING).one().waiting) < count:
            await asyncio.sleep(0)
