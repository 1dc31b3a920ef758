"""A boss that shares work among as many workers as there are, and minds who says that it is full.

$ agent99 run examples/worker_pool.py:Worker --workers 3
$ agent99 run examples/worker_pool.py:Boss
$ agent99 call boss render frames=40
"""

import asyncio
from collections import Counter
from typing import Annotated

import msgspec
from msgspec import Meta

from agent99 import Agent, OverloadedError, operation

TRIES_MAX = 50


class Frame(msgspec.Struct):
    """One piece of work, done."""

    number: int
    worker: str


class Worker(Agent):
    """Renders a frame at a time; a few may wait, the rest hears OVERLOADED at once."""

    capabilities = ("worker",)
    concurrency_max = 2
    waiting_max = 4

    @operation(idempotent=True)
    async def render(self, number: int) -> Frame:
        """Take a while."""
        await asyncio.sleep(0.005)
        return Frame(number, self.instance)


class Boss(Agent):
    """Hands out frames, and hands those out again that were refused at the door."""

    capabilities = ("boss",)
    uses = ("worker",)

    @operation
    async def render(self, frames: Annotated[int, Meta(ge=1, le=10_000)] = 40) -> dict[str, int]:
        """Return how many frames each worker rendered."""
        done = await asyncio.gather(*(self._render(number) for number in range(frames)))
        return dict(Counter(frame.worker for frame in done).most_common())

    async def _render(self, number: int) -> Frame:
        for attempt in range(TRIES_MAX):
            try:
                return await self.request("worker", "render", {"number": number}, returns=Frame)
            except OverloadedError:  # it did not run: asking again is safe
                await asyncio.sleep(0.002 * (1 + attempt))
        raise OverloadedError(f"no worker took frame {number} in {TRIES_MAX} tries")
