"""Reads deliveries for as long as it is wanted, and has each attended to by a task of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from agent99.clock import Clock, TimerHandle, wait_done
from agent99.errors import Agent99Error
from agent99.journal import ConsumerConfig, Delivery, Journal

_log = logging.getLogger("agent99.work")

RESTART_S = 1.0
"""After a stream or consumer could not be used, until it is tried again."""


class Reading:
    """Deliveries of one consumer, a bounded number in hand at once.

    Invariant: each delivery is attended to by one task, which ends it, or it comes again.
    """

    def __init__(
        self,
        journal: Journal,
        consumer: ConsumerConfig,
        attend: Callable[[Delivery], Awaitable[None]],
        *,
        ensure: Callable[[], Awaitable[None]],
        clock: Clock,
        prefetch_max: int,
    ) -> None:
        self.consumer = consumer
        self.unfinished = 0
        """Deliveries whose end the server could not be told: they come again."""
        self._journal = journal
        self._attend = attend
        self._ensure = ensure
        self._clock = clock
        self._prefetch_max = prefetch_max
        self._reading: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}  # in the order of the deliveries

    def __repr__(self) -> str:
        return f"Reading({self.consumer.name!r}, in_hand={self.in_hand})"

    @property
    def in_hand(self) -> int:
        """Deliveries that are being attended to."""
        return len(self._tasks)

    def start(self) -> None:
        """Read from now on, until `leave`. Idempotent."""
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    async def leave(self) -> None:
        """Read no more; what is in hand goes on. Idempotent."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])

    async def stop(self, timeout_s: float) -> bool:
        """Read no more, and let what is in hand end; returns False when it did not in time.

        What did not is cancelled, and comes again elsewhere.
        """
        await self.leave()
        if not self._tasks:
            return True
        every = asyncio.gather(*self._tasks, return_exceptions=True)
        is_finished = await wait_done(self._clock, every, timeout_s)
        for task in self._tasks:
            task.cancel()
        await every
        return is_finished

    async def _read(self) -> None:
        """Read for ever: what is wrong with the stream or the consumer now may pass."""
        while True:
            try:
                await self._ensure()
                await self._consume()
            except Agent99Error as error:
                _log.warning("stored work for %r cannot be read: %s", self.consumer.name, error)
            await self._clock.sleep(RESTART_S)

    async def _consume(self) -> None:
        how = {"prefetch_max": self._prefetch_max}
        async with self._journal.consume(self.consumer, **how) as deliveries:
            async for delivery in deliveries:
                task = asyncio.get_running_loop().create_task(self._take(delivery))
                self._tasks[task] = None
                task.add_done_callback(self._tasks.pop)

    async def _take(self, delivery: Delivery) -> None:
        keeping = _Keeping(delivery, self._clock, self.consumer.ack_wait_s / 3)
        try:
            await self._attend(delivery)
        except asyncio.CancelledError:
            with suppress(Agent99Error, asyncio.CancelledError):
                await delivery.retry()
            raise
        except Agent99Error as error:
            self.unfinished += 1
            sequence, stream = delivery.record.sequence, self.consumer.stream
            _log.warning("message %d of %s comes again: %s", sequence, stream, error)
        finally:
            keeping.end()


class _Keeping:
    """Tells the server now and then that somebody still works on a delivery."""

    def __init__(self, delivery: Delivery, clock: Clock, every_s: float) -> None:
        self._delivery = delivery
        self._clock = clock
        self._every_s = every_s
        self._timer: TimerHandle = clock.call_later(every_s, self._tell)

    def __repr__(self) -> str:
        return f"_Keeping({self._delivery.record.sequence})"

    def end(self) -> None:
        """Tell no more."""
        self._timer.cancel()

    def _tell(self) -> None:
        self._delivery.progress()
        self._timer = self._clock.call_later(self._every_s, self._tell)
