"""Futures that are ended together, and waited for until a moment of the clock."""

from __future__ import annotations

from asyncio import Future

from agent99.clock import Clock
from agent99.errors import DeadlineExceededError


def settle(futures: list[Future[None]], error: Exception | None) -> None:
    """End every future in the list that is not done, and empty the list."""
    waiting = [future for future in futures if not future.done()]
    futures.clear()
    for future in waiting:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


async def within(clock: Clock, future: Future[None], deadline_s: float) -> None:
    """Await the future until the clock passes `deadline_s`.

    Raises:
        DeadlineExceededError
    """

    def expire() -> None:
        if not future.done():
            future.set_exception(DeadlineExceededError("the broker did not confirm in time"))

    timer = clock.call_later(max(0.0, deadline_s - clock.monotonic_s()), expire)
    try:
        await future
    finally:
        timer.cancel()
