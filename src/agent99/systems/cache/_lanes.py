"""What a client sends to one owner: all that is asked for in one turn of the loop goes together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, Protocol, TypeVar

from agent99.clock import DeadlineTicket

BATCH_MAX = 1_000
"""Keys, or changes, in one message."""
BATCH_BYTES = 256 * 1024
"""Of them, about."""


class Wait:
    """One key, or change, that a caller waits for."""

    __slots__ = (
        "deadline_s",
        "future",
        "is_any",
        "is_near",
        "item",
        "key",
        "sent",
        "size",
        "ticket",
        "tries",
    )

    def __init__(
        self,
        key: str,
        item: Any,
        size: int,
        deadline_s: float,
        future: asyncio.Future[Any],
        *,
        is_near: bool = False,
    ) -> None:
        self.key = key
        """The full key."""
        self.item = item
        """The change; None: it is read."""
        self.size = size
        self.deadline_s = deadline_s
        self.future = future
        self.is_near = is_near
        """Whether it will be held near: so an owner must answer, who tells of changes."""
        self.is_any = False
        """Whether a copy may answer, if the key is hot."""
        self.ticket: DeadlineTicket | None = None
        self.tries = 0
        self.sent = False
        """Whether it may have been done."""

    def is_wanted(self) -> bool:
        """Whether its caller waits still."""
        return not self.future.done()

    def __repr__(self) -> str:
        return f"Wait({self.key!r}, tries={self.tries})"


class Lane:
    """Gathers what is for one node, and hands it over once in each turn of the loop.

    Args:
        send: Takes a batch, in a task of its own.
    """

    __slots__ = ("_is_due", "_loop", "_send", "_waiting")

    def __init__(self, send: Callable[[Sequence[Wait]], None]) -> None:
        self._send = send
        self._waiting: list[Wait] = []
        self._is_due = False
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"Lane(waiting={len(self._waiting)})"

    def add(self, wait: Wait) -> None:
        """Send it with the next batch."""
        self._waiting.append(wait)
        if not self._is_due:
            self._is_due = True
            # Without a context: nobody's deadline is everybody's.
            self._loop.call_soon(self._flush, context=Context())

    def _flush(self) -> None:
        self._is_due = False
        waiting, self._waiting = self._waiting, []
        for batch in batches(waiting):
            self._send(batch)


class Sized(Protocol):
    """What has a size in bytes."""

    @property
    def size(self) -> int:
        """In bytes."""
        ...


S = TypeVar("S", bound=Sized)


def batches(waiting: list[S]) -> list[list[S]]:
    """Return what waits in messages that are not too large: mostly one."""
    found: list[list[S]] = []
    batch: list[S] = []
    size = 0
    for wait in waiting:
        if batch and (len(batch) >= BATCH_MAX or size + wait.size > BATCH_BYTES):
            found.append(batch)
            batch, size = [], 0
        batch.append(wait)
        size += wait.size
    if batch:
        found.append(batch)
    return found
