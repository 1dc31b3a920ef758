"""Waits that end in time, on one timer that all share: a timer each costs more than a record."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from agent99.clock import Clock, Deadlines, DeadlineTicket


async def wait_ended(deadlines: Deadlines, future: asyncio.Future[Any], deadline_s: float) -> bool:
    """Wait until a future is done, or the monotonic clock is there; returns whether it is done.

    It goes on all the same, also when the wait is cancelled.
    """
    if future.done():
        return True
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(_ended: object = None) -> None:
        if not waiting.done():
            waiting.set_result(None)

    ticket = deadlines.add(deadline_s, wake)
    future.add_done_callback(wake)
    try:
        await waiting
    finally:
        future.remove_done_callback(wake)
        deadlines.remove(ticket)
    return future.done()


class TimeLimit:
    """Ends what its block waits for when the time is up, with a `TimeoutError`: `asyncio.timeout`.

    Args:
        seconds: From when the block is entered.
    """

    __slots__ = ("_cancelling", "_clock", "_deadlines", "_is_up", "_seconds", "_task", "_ticket")

    def __init__(self, deadlines: Deadlines, clock: Clock, seconds: float) -> None:
        self._deadlines = deadlines
        self._clock = clock
        self._seconds = seconds
        self._is_up = False

    def __repr__(self) -> str:
        return f"TimeLimit({self._seconds} s, is_up={self._is_up})"

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "a step is run by a task"
        self._task: asyncio.Task[object] = task
        self._cancelling = task.cancelling()
        deadline_s = self._clock.monotonic_s() + self._seconds
        self._ticket: DeadlineTicket = self._deadlines.add(deadline_s, self._end)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._deadlines.remove(self._ticket)
        # Who is cancelled by somebody else at the same moment is cancelled.
        is_own = self._is_up and self._task.uncancel() <= self._cancelling
        if is_own and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def _end(self) -> None:
        self._is_up = True
        self._task.cancel()
