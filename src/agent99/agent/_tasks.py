"""Tasks that serve no request: they would share the deadline of whoever began them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

R = TypeVar("R")


def detached(work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
    """Make a task in a context of its own, without the request in hand."""
    return asyncio.get_running_loop().create_task(work, context=Context())


class Tasks:
    """Detached tasks that nobody awaits; kept until they end, since the loop does not."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"Tasks({len(self)})"

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Start one."""
        task = detached(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        """Cancel them all."""
        for task in self._tasks:
            task.cancel()
