"""One reader waits; whoever has something for it ends the wait."""

from __future__ import annotations

import asyncio

from agent99.journal._waiter import Waiter


async def test_a_wait_ends_when_it_is_woken() -> None:
    """Once; to wake nobody does nothing, and is not kept for the next."""
    waiter = Waiter()
    waiter.wake()
    waiting = asyncio.ensure_future(waiter.wait())
    await asyncio.sleep(0)
    assert (True, False) == (waiter.is_waiting, waiting.done())
    waiter.wake()
    waiter.wake()
    await waiting
    assert "Waiter(is_waiting=False)" == repr(waiter)


async def test_a_wait_that_was_given_up_disturbs_nobody() -> None:
    """The next one waits as if there had been none."""
    waiter = Waiter()
    first = asyncio.ensure_future(waiter.wait())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert not waiter.is_waiting
    second = asyncio.ensure_future(waiter.wait())
    await asyncio.sleep(0)
    waiter.wake()
    await second
